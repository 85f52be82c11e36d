"""Projections that a file holds in one tensor, and that a network has apart, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kun.errors import DamagedFile
from kun.networks.names import Fused


def split_rows(name: str, tensor: Tensor, rows: Sequence[int]) -> list[Tensor]:
    """A weight or bias cut into parts of so many `rows`; DamagedFile where it has another number of them."""
    _check(name, tensor, sum(rows))
    return [part.contiguous() for part in tensor.split(list(rows))]


def split_heads(name: str, tensor: Tensor, n_heads: int, d_head: int) -> list[Tensor]:
    """Query, key and value of a weight or bias that holds them head by head, [n_heads · 3 · d_head, …].

    Raises DamagedFile where it has another number of rows.
    """
    _check(name, tensor, 3 * n_heads * d_head)
    return [part.flatten(0, 1) for part in tensor.unflatten(0, (n_heads, 3, d_head)).unbind(1)]


def join_heads(parts: Sequence[Tensor], n_heads: int) -> Tensor:
    """The inverse of `split_heads`."""
    return torch.stack([part.unflatten(0, (n_heads, -1)) for part in parts], dim=1).flatten(0, 2)


def fused_heads(name: str, n_heads: int, d_head: int) -> Fused:
    """Query, key and value that a file holds in one tensor head by head; `name` is our name of it."""
    owner = name.rpartition(".")[0]
    parts = tuple(f"{owner}.{part}" for part in "qkv")
    return Fused(
        name,
        parts,
        lambda full, tensor: split_heads(full, tensor, n_heads, d_head),
        lambda pieces: join_heads(pieces, n_heads),
    )


def fused_rows(name: str, parts: tuple[str, ...], rows: Sequence[int]) -> Fused:
    """Matrices with so many `rows` that a file holds one above the other; `name` and `parts` are our names."""
    return Fused(
        name,
        parts,
        lambda full, tensor: split_rows(full, tensor, rows),
        lambda pieces: torch.cat(list(pieces)),
    )


def _check(name: str, tensor: Tensor, rows: int) -> None:
    found = list(tensor.shape)
    if found[:1] != [rows]:
        raise DamagedFile(f"The tensor {name} has shape {found}; the config asks for {rows} rows.")

"""The weights of the GPTs as Hugging Face's files name and lay them out, and back.

GPT-1 and GPT-2 store matrices transposed (`Conv1D`), with query, key and value in one. GPT-Neo does neither,
but divides no score by √d_head: its query weights are smaller by that factor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kun.families.gpt.config import GPTConfig
from kun.networks.names import Fused, NameMap, Names, PartNames

_MASKS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
"""Causal masks that older files store."""
_GPT1 = (("embed", "tokens_embed"), ("positions", "positions_embed"))
_GPT2 = (("embed", "wte"), ("positions", "wpe"))
_COMMON = (
    ("layers", "h"),
    ("norm", "ln_f"),
    ("attention_norm", "ln_1"),
    ("mlp_norm", "ln_2"),
    ("mlp.up", "mlp.c_fc"),
    ("mlp.down", "mlp.c_proj"),
)
_CONV1D = (("attention.qkv", "attn.c_attn"), ("attention.o", "attn.c_proj"))
_LINEAR = (
    *((f"attention.{part}", f"attn.attention.{part}_proj") for part in "qkv"),
    ("attention.o", "attn.attention.out_proj"),
)


def names_of(config: GPTConfig) -> NameMap:
    """The map of a config's layout."""
    if config.model_type == "gpt_neo":
        return NeoNames(config.d_head)
    return Conv1DNames(_GPT1 if config.model_type == "openai-gpt" else _GPT2)


class Conv1DNames(PartNames):
    """The layout of GPT-1 and GPT-2."""

    def __init__(self, embeddings: tuple[tuple[str, str], ...]) -> None:
        parts = tuple(f"attention.{part}" for part in "qkv")
        fused = Fused("attention.qkv", parts, _thirds, lambda pieces: torch.cat(list(pieces), dim=-1))
        names = Names((*embeddings, *_COMMON, *_CONV1D))
        super().__init__(names, "transformer.", left_out=_MASKS, fused=[fused])

    def adapted(self, name: str, tensor: Tensor) -> Tensor:
        is_matrix = tensor.dim() == 2 and (".attention." in name or ".mlp." in name)
        return tensor.t().contiguous() if is_matrix else tensor

    def restored(self, name: str, tensor: Tensor) -> Tensor:
        return self.adapted(name, tensor)


def _thirds(name: str, tensor: Tensor) -> Sequence[Tensor]:
    return [piece.contiguous() for piece in tensor.chunk(3, dim=-1)]


class NeoNames(PartNames):
    """The layout of GPT-Neo."""

    def __init__(self, d_head: int) -> None:
        super().__init__(Names((*_GPT2, *_COMMON, *_LINEAR)), "transformer.", left_out=_MASKS)
        self.scale = d_head**0.5

    def adapted(self, name: str, tensor: Tensor) -> Tensor:
        return tensor * self.scale if ".attention.q." in name else tensor

    def restored(self, name: str, tensor: Tensor) -> Tensor:
        return tensor / self.scale if ".attention.q." in name else tensor

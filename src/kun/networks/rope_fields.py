"""Rotary positions in Hugging Face's files: the fields of the config, and the order of the rows that they rotate.

The fields are `rope_theta` and `rope_scaling`, or newer, `rope_parameters`. Our networks rotate the pairs
(i, i + r/2) of the first r numbers of a head; the rows of weights made for the pairs (2i, 2i + 1) are put in
that order, which no dot product of a query and a key notices.
"""

import torch
from torch import Tensor

from kun.blocks.rotary import SCALINGS, RotaryConfig
from kun.errors import UnsupportedFormat
from kun.networks.fields import Fields


def rotary_from_hf(f: Fields, max_positions: int, theta: float = 10000.0) -> RotaryConfig:
    """Read either layout; `theta` is what it is where the file says nothing.

    BadInput names an impossible field, UnsupportedFormat a scaling that we lack.
    """
    block = "rope_parameters" if "rope_parameters" in f else "rope_scaling"
    r = Fields(f.mapping(block), f"{f.where}: {block}")
    theta = (r if "rope_theta" in r else f).number("rope_theta", theta, above=True)
    scaling = r.values.get("rope_type") or r.values.get("type") or "default"
    if scaling not in SCALINGS:
        raise UnsupportedFormat(f"{r.where}: Kun does not know the scaling {scaling!r}; it knows {SCALINGS}.")
    if (r if "partial_rotary_factor" in r else f).number("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedFormat(f"{f.where}: partial_rotary_factor must be 1 in this architecture.")
    if scaling == "default":
        return RotaryConfig(theta=theta)
    stated = scaling in ("llama3", "yarn")
    original = r.integer("original_max_position_embeddings", max_positions) if stated else max_positions
    implied = max_positions / original if scaling == "yarn" else None
    low = r.number("low_freq_factor", 1.0, above=True)
    high = r.number("high_freq_factor", 4.0, above=True)
    if scaling == "llama3" and high <= low:
        raise r.wrong("high_freq_factor", f"above low_freq_factor, {low:g}")
    return RotaryConfig(
        theta=theta,
        scaling=scaling,
        factor=r.number("factor", implied, low=1.0, high=1e4),
        original=original,
        low_freq_factor=low,
        high_freq_factor=high,
        beta_fast=r.number("beta_fast", 32.0, above=True),
        beta_slow=r.number("beta_slow", 1.0, above=True),
        attention_factor=r.optional_number("attention_factor"),
        mscale=r.optional_number("mscale"),
        mscale_all_dim=r.optional_number("mscale_all_dim"),
        truncate=r.flag("truncate", True),
    )


def rotary_to_hf(rotary: RotaryConfig) -> dict[str, object]:
    """`rope_theta` and `rope_scaling`, the layout that both older and newer readers know."""
    scaling: dict[str, object] = {"rope_type": rotary.scaling, "factor": rotary.factor}
    names: tuple[str, ...] = ()
    match rotary.scaling:
        case "default":
            return {"rope_theta": rotary.theta, "rope_scaling": None}
        case "llama3":
            names = ("low_freq_factor", "high_freq_factor")
        case "yarn":
            names = ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate")
    if names:
        scaling["original_max_position_embeddings"] = rotary.original
    scaling |= {name: getattr(rotary, name) for name in names if getattr(rotary, name) is not None}
    return {"rope_theta": rotary.theta, "rope_scaling": scaling}


def rotate_half(rows: Tensor, d_head: int, rotary_width: int | None = None) -> Tensor:
    """A query or key weight [heads · d_head, d_model], or bias, whose rotated pairs are neighbours -> halves.

    `rotary_width` is how many numbers of a head are rotated, all where None. A tensor of another shape is returned
    as it is, for whoever loads it to name.
    """
    return _reorder(rows, d_head, _halves(d_head, rotary_width))


def interleaved(rows: Tensor, d_head: int, rotary_width: int | None = None) -> Tensor:
    """The inverse of `rotate_half`."""
    return _reorder(rows, d_head, _halves(d_head, rotary_width).argsort())


def _halves(d_head: int, rotary_width: int | None) -> Tensor:
    end = d_head if rotary_width is None else rotary_width
    return torch.cat((torch.arange(0, end, 2), torch.arange(1, end, 2), torch.arange(end, d_head)))


def _reorder(rows: Tensor, d_head: int, order: Tensor) -> Tensor:
    if rows.dim() == 0 or rows.shape[0] % d_head:
        return rows
    return rows.unflatten(0, (-1, d_head))[:, order.to(rows.device)].flatten(0, 1)

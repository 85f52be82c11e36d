"""Names and order of a network's tensors in GGUF: the map of llama.cpp's library, and what a family has otherwise."""

from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from kun.errors import UnsupportedFormat
from kun.families import family_of, model_types, records

if TYPE_CHECKING:
    from kun.blocks.rotary import RotaryConfig
    from kun.networks.gguf_layout import GgufLayout, Order
    from kun.networks.network import NetworkConfig, TextNetwork

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor that scales each rotary frequency; no network has it among its own."""


def layouts() -> "dict[str, GgufLayout]":
    """How GGUF files hold each `model_type` that they can hold."""
    return {model_type: layout for family in records() for model_type, layout in family.gguf.items()}


def layout_of(model_type: str) -> "GgufLayout | None":
    """How GGUF files hold one `model_type`; None where they cannot."""
    known = model_type in model_types()
    return family_of({"model_type": model_type}).gguf.get(model_type) if known else None


def file_names(net: "TextNetwork", layout: "GgufLayout") -> dict[str, tuple[str, ...]]:
    """The tensors of the file in the order of the network's, and those of the network that each of them holds.

    Raises `UnsupportedFormat` for one that llama.cpp has no name for.
    """
    from gguf.constants import MODEL_ARCH_NAMES
    from gguf.tensor_mapping import get_tensor_name_map

    n_layers = net.config.n_layers
    architecture = next(each for each, name in MODEL_ARCH_NAMES.items() if name == layout.architecture)
    names = get_tensor_name_map(architecture, n_layers)
    own = {
        reference.format(bid=layer): name.format(bid=layer)
        for reference, name in layout.names.items()
        for layer in range(n_layers)
    }
    held: dict[str, tuple[str, ...]] = {}
    for part in net.state_dict():
        if part.startswith(layout.left_out):
            continue
        stem, _, suffix = net.names.holder(part).rpartition(".")
        name = own.get(stem) or names.get_name(stem)
        if name is None:
            raise UnsupportedFormat(
                f"llama.cpp has no name for {part} of a {layout.architecture}, so GGUF cannot hold it: "
                f"export this one with --format hf."
            )
        held[f"{name}.{suffix}"] = (*held.get(f"{name}.{suffix}", ()), part)
    return held


def stem_of(name: str) -> str:
    """llama.cpp's name of a tensor without its layer: attn_q for blk.0.attn_q.weight."""
    return name.split(".")[-2]


def row_order(order: "Order", n_rows: int, heads: int) -> np.ndarray:
    """The file's row for each row of the reference, of a tensor that has whole heads in "pairs" or "thirds"."""
    rows = np.arange(n_rows)
    if order == "pairs":  # llama.cpp rotates neighbouring pairs, Hugging Face rotates halves
        return rows.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
    return rows.reshape(3, heads, -1).swapaxes(0, 1).reshape(-1)


def rope_factors(rotary: "RotaryConfig", d_head: int) -> np.ndarray:
    """By how much each frequency of Llama 3's scaling is divided: float32 [d_head / 2]."""
    from kun.blocks.rotary import frequencies

    plain = replace(rotary, scaling="default", factor=1.0)
    factors: np.ndarray = (frequencies(plain, d_head) / frequencies(rotary, d_head)).float().numpy()
    return factors


def whole(config: "NetworkConfig", name: str) -> int:
    """A field of a config that is a whole number."""
    value: object = attrgetter(name)(config)
    assert isinstance(value, int)
    return value

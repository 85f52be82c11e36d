"""The weights of the GPTs as Hugging Face's files name and lay them out, and back.

GPT-1 and GPT-2 store matrices transposed (`Conv1D`), with query, key and value in one. GPT-Neo does neither,
but divides no score by √d_head: its query weights are smaller by that factor.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from kun.families.gpt.config import GPTConfig
from kun.networks.network import Names, State


def from_hf_names(config: GPTConfig, state: Mapping[str, Tensor]) -> State:
    """Hugging Face's names and layout to ours; the causal masks that older files store are dropped."""
    names = _NAMES[config.model_type]
    ours: State = {}
    for full, tensor in state.items():
        name = full.removeprefix("transformer.")
        if name.endswith((".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")):
            continue
        if config.model_type == "gpt_neo":
            scaled = tensor * config.d_head**0.5 if ".q_proj." in name else tensor
            ours[names.ours(name)] = scaled
        elif "c_attn" in name:
            for part, piece in zip("qkv", _transposed(tensor).chunk(3), strict=False):
                ours[names.ours(name.replace("c_attn", part))] = piece.contiguous()
        else:
            ours[names.ours(name)] = _transposed(tensor) if ".c_" in name else tensor
    return ours


def to_hf_names(config: GPTConfig, state: Mapping[str, Tensor]) -> State:
    """Our names and layout to Hugging Face's."""
    names = _NAMES[config.model_type]
    theirs: State = {}
    for name, tensor in state.items():
        full = "transformer." + names.theirs(name)
        if name.startswith("lm_head."):
            theirs[name] = tensor
        elif config.model_type == "gpt_neo":
            theirs[full] = tensor / config.d_head**0.5 if ".attention.q." in name else tensor
        elif ".attention.q." in name:
            parts = [state[name.replace(".q.", f".{part}.")] for part in "qkv"]
            theirs[full.replace(".q.", ".c_attn.")] = _transposed(torch.cat(parts))
        elif ".attention.k." not in name and ".attention.v." not in name:
            theirs[full] = _transposed(tensor) if ".c_" in full else tensor
    return theirs


def _transposed(tensor: Tensor) -> Tensor:
    """A matrix with its sides swapped; a bias as it is."""
    return tensor.t().contiguous() if tensor.dim() == 2 else tensor


_COMMON = (
    ("layers", "h"),
    ("norm", "ln_f"),
    ("attention_norm", "ln_1"),
    ("mlp_norm", "ln_2"),
    ("mlp.up", "mlp.c_fc"),
    ("mlp.down", "mlp.c_proj"),
)
_CONV1D = (*((f"attention.{part}", f"attn.{part}") for part in "qkv"), ("attention.o", "attn.c_proj"))
_LINEAR = tuple((f"attention.{part}", f"attn.attention.{part}_proj") for part in "qkv")

_NAMES = {
    "openai-gpt": Names((("embed", "tokens_embed"), ("positions", "positions_embed"), *_COMMON, *_CONV1D)),
    "gpt2": Names((("embed", "wte"), ("positions", "wpe"), *_COMMON, *_CONV1D)),
    "gpt_neo": Names(
        (
            ("embed", "wte"),
            ("positions", "wpe"),
            *_COMMON,
            *_LINEAR,
            ("attention.o", "attn.attention.out_proj"),
        )
    ),
}

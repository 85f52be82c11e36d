"""A BERT fitted to the machine that it encodes on."""

import torch
from torch import nn


def fit_encoder(net: nn.Module) -> nn.Module:
    """`net` as it runs fastest here without a measurable change of its vectors (cosine above 0.999).

    On a CPU that multiplies bfloat16 in hardware, the weights become bfloat16; elsewhere `net` stays as it is.
    """
    on_cpu = next(net.parameters()).device.type == "cpu"
    return net.bfloat16() if on_cpu and _multiplies_bfloat16() else net


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has AVX512-BF16 or AMX; emulated bfloat16 is slower than float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)

"""How much arithmetic a training does and how much this machine could do, and the memory that it took."""

import math
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from kun.adaptation.lora import LowRank
from kun.adaptation.quantize import QuantizedLinear
from kun.blocks.experts import ExpertList, Router


def flops_per_token(net: nn.Module, context: int) -> float:
    """Floating-point operations of one token's forward and backward pass.

    6 for each parameter in matrix products, 4 for a frozen one, which needs no gradient (the head is counted, tables
    that are looked up are not; of a layer's experts, as many as a token goes to), and 6 × layers × context × width for
    causal attention (Kaplan et al., arXiv:2001.08361, with the causal half), which an LSTM has not.
    """
    config: Any = net.config
    products = math.fsum(_products(part) for part in net.modules())
    for experts in (part for part in net.modules() if isinstance(part, ExpertList)):
        idle = 1 - config.experts_per_token / len(experts)
        products -= idle * math.fsum(_products(part) for part in experts.modules())
    if getattr(net, "lm_head", None) is None and hasattr(net, "embed"):
        products += _of_parameters(net.embed.parameters())  # type: ignore[union-attr]
    recurrent = any(isinstance(part, nn.LSTM) for part in net.modules())
    layers = 0 if recurrent else config.n_layers + getattr(config, "n_decoder_layers", 0)
    return products + 6.0 * layers * context * config.d_model


def _products(part: nn.Module) -> float:
    """Operations of a part's own matrix products."""
    if isinstance(part, QuantizedLinear):
        return 4.0 * part.in_features * part.out_features
    return _of_parameters(part.parameters(recurse=False)) if isinstance(part, _MULTIPLIES) else 0.0


_MULTIPLIES = (nn.Linear, nn.LSTM, LowRank, Router)


def _of_parameters(parameters: Iterable[nn.Parameter]) -> float:
    return math.fsum((6.0 if p.requires_grad else 4.0) * p.numel() for p in parameters if p.dim() == 2)


def peak_flops(dtype: torch.dtype, device: torch.device, seconds: float = 0.3) -> float:
    """Operations per second of the best of some square matrix products of 2048, measured now."""
    size = 2048
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until or best == float("inf"):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that this process has held so far, on its device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

"""How much arithmetic a training does and how much this machine could do, and the memory that it took."""

import sys
import time
from typing import Any

import torch
from torch import nn


def flops_per_token(net: nn.Module, context: int) -> float:
    """Floating-point operations of one token's forward and backward pass.

    6 for each parameter in matrix products (the head is counted, tables that are looked up are not), and
    6 × layers × context × width for causal attention (Kaplan et al., arXiv:2001.08361, with the causal half), which an
    LSTM has not.
    """
    config: Any = net.config
    linear = sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Linear))
    tied = getattr(net, "lm_head", None) is None and hasattr(net, "embed")
    head = config.vocab_size * config.d_model if tied else 0
    recurrent = [m for m in net.modules() if isinstance(m, nn.LSTM)]
    linear += sum(p.numel() for m in recurrent for p in m.parameters() if p.dim() == 2)
    layers = 0 if recurrent else config.n_layers + getattr(config, "n_decoder_layers", 0)
    return 6.0 * (linear + head) + 6.0 * layers * context * config.d_model


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

"""Activation functions, under the names that Hugging Face configs give them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from kun.blocks.autograd import Saved

_gelu_tanh = partial(F.gelu, approximate="tanh")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}
"""GELU: Hendrycks and Gimpel, arXiv:1606.08415, exact and in its tanh approximation."""


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202."""
    if torch.is_grad_enabled() and gate.requires_grad and not torch.compiler.is_compiling():
        product: Tensor = _Gated.apply(gate, up)
        return product
    return F.silu(gate) * up


class _Gated(torch.autograd.Function):
    """The same numbers, of which silu(gate) is made once more for the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx: Saved, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate) * up

    @staticmethod
    def backward(ctx: Saved, *outer: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        (gradient,) = outer
        return torch.ops.aten.silu_backward(gradient * up, gate), gradient * F.silu(gate)

"""Root mean square norm: Zhang and Sennrich, arXiv:1910.07467."""

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from kun.blocks.autograd import Saved


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last dimension; the mean is taken in float32."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if has_torch_function((x,)):
            noted: Tensor = handle_torch_function(RMSNorm.forward, (x,), self, x)
            return noted
        trains = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if trains and x.dtype in (torch.bfloat16, torch.float16) and not torch.compiler.is_compiling():
            normed: Tensor = _Normed.apply(x, self.weight, self.eps)
            return normed
        return self.weight * _normed(x, _scale(x, self.eps))

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class _Normed(torch.autograd.Function):
    """The same, of which the input alone is kept: what is float32 in between would take several times its memory."""

    @staticmethod
    def forward(ctx: Saved, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = _scale(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return weight * _normed(x, scale)

    @staticmethod
    def backward(ctx: Saved, *outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        normed, (gradient,) = x * scale, outer
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (gradient * normed.to(x.dtype)).sum_to_size(weight.shape)
        if not ctx.needs_input_grad[0]:
            return None, to_weight, None
        wide = (gradient * weight).float()
        along = torch.linalg.vecdot(wide, normed)[..., None] / x.shape[-1]
        return wide.addcmul_(normed, along, value=-1).mul_(scale).to(x.dtype), to_weight, None


def _scale(x: Tensor, eps: float) -> Tensor:
    """1 / root mean square over the last dimension, float32 [..., 1]."""
    return torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)


def _normed(x: Tensor, scale: Tensor) -> Tensor:
    return (x.float() * scale).to(x.dtype)

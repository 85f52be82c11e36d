"""Dropout: Srivastava et al., JMLR 15 (2014). On the CPU torch draws one random number for each place, one after the
other, which may take a third of a training step; here 64 random bits serve four places.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STEPS = 2**16
"""A place is kept with a probability that is a multiple of 1 / this."""


def dropout(x: Tensor, p: float) -> Tensor:
    """`x` with each place zero with probability `p`, and divided by 1 - p elsewhere; follows `torch.manual_seed`."""
    if not p or x.device.type != "cpu" or type(x) is not Tensor or torch.compiler.is_compiling():
        return F.dropout(x, p)
    kept = round((1 - p) * _STEPS)
    if kept in (0, _STEPS):
        return x * (kept // _STEPS)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)
    return x * (draws < kept - _STEPS // 2).to(x.dtype).mul_(_STEPS / kept)


class Dropout(nn.Module):
    """`dropout` in training, nothing else."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        return f"p={self.p}"

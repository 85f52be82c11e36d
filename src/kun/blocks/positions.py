"""Positions as sinusoids (Vaswani et al., arXiv:1706.03762) and as distances (ALiBi: Press et al., "Train Short, Test
Long", arXiv:2108.12409)."""

import math

import torch
from torch import Tensor


def sinusoids(positions: Tensor, d_model: int) -> Tensor:
    """Sines and cosines [..., d_model] of integer positions: Vaswani et al., arXiv:1706.03762.

    Wavelengths grow from 2π to 10000 · 2π. The sines fill the first half and the cosines the second, as in
    Marian's checkpoints, where the paper lets them alternate; a network cannot tell but by its weights.
    """
    steps = torch.arange(0, d_model, 2, dtype=torch.float64, device=positions.device) / d_model
    angles = positions[..., None].double() / 10000.0**steps
    return torch.cat((angles.sin(), angles[..., : d_model // 2].cos()), dim=-1).float()


class Alibi:
    """A bias of attention: each head takes its slope times the distance from query to key off the score."""

    def __init__(self, n_heads: int) -> None:
        self.slopes = alibi_slopes(n_heads)

    def __call__(self, queries: Tensor, keys: Tensor) -> Tensor:
        """float32 [b, heads, t, s] for the places of queries [b, t] and keys [b, s]."""
        if self.slopes.device != queries.device:
            self.slopes = self.slopes.to(queries.device)
        distance = (keys[:, None, None, :] - queries[:, None, :, None]).float()
        return self.slopes[:, None, None] * distance


def alibi_slopes(n_heads: int) -> Tensor:
    """float32 [n_heads]: 2^(-8/n), 2^(-16/n), … 2^-8 where n is a power of two.

    Otherwise those of the next smaller power, then every other one of the next larger.
    """
    whole = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-8 * i / whole) for i in range(1, whole + 1)]
    between = [2 ** (-8 * i / (2 * whole)) for i in range(1, 2 * whole, 2)]
    return torch.tensor(slopes + between[: n_heads - whole], device="cpu")

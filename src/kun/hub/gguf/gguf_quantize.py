"""Rows of weights as the blocks of GGUF's element types.

A block is 32 neighbours of a row. Q8_0 holds a scale d (float16) and 32 whole numbers q in 8 bits: x ≈ d·q. Q4_0
holds 4 bits, -8 to 7; Q4_1 0 to 15 and a minimum m (float16) besides: x ≈ d·q + m.
Formats: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h

The scale of four bits is searched for: of several that stretch the block's extremes to the ends of the range, or a
little beyond, each moved to its least squares, the one with the smallest error is taken. Plain ones are tried first, so
that numbers which came from such blocks go back into the same ones.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kun.errors import BadInput

BLOCK = 32
_NUMBERS_AT_ONCE = 2**19
_HALF_MOST = 65504.0
#: which whole number the largest of a block becomes in Q4_0; more than -8 cuts it off
_ENDS = (-8.0, 7.0, -7.0, -7.4, -7.7, -8.3, -8.6, -9.0)
#: the share of a block's range that the sixteen steps of Q4_1 span
_SPANS = (1.0, 0.97, 0.94, 0.91, 0.88, 0.84)


def quantize(rows: Tensor, kind: str) -> np.ndarray:
    """float32 [n, d] as the stored bytes of `kind` ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"): uint8 [n, bytes].

    Raises `BadInput` where a number is not finite or, for F16, beyond its range.
    """
    if not bool(torch.isfinite(rows).all()):
        raise BadInput("The weights hold numbers that are not finite: the model is damaged.")
    if kind in _PLAIN:
        if kind == "F16" and rows.numel() and float(rows.abs().max()) > _HALF_MOST:
            raise BadInput(f"The weights go beyond {_HALF_MOST:g}, the largest number of F16: take BF16.")
        return rows.to(_PLAIN[kind]).contiguous().view(torch.uint8).numpy()
    step = max(1, _NUMBERS_AT_ONCE // rows.shape[1])
    pieces = [_QUANTIZERS[kind](piece.unflatten(1, (-1, BLOCK))).flatten(1) for piece in rows.split(step)]
    return torch.cat(pieces).numpy()


def stored(rows: Tensor, kind: str) -> Tensor:
    """What a reader finds of float32 `rows` [n, d] that were stored as `kind`: float32 [n, d]."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    if kind in _PLAIN:
        return rows.to(_PLAIN[kind]).float()
    return torch.from_numpy(dequantize(quantize(rows, kind), GGMLQuantizationType[kind]))


def _q8_0(x: Tensor) -> Tensor:
    d = _half(x.abs().amax(-1, keepdim=True) / 127)
    q = (x * _inverse(d)).round().clamp(-127, 127)
    return torch.cat((_bytes(d), q.to(torch.int8).view(torch.uint8)), -1)


def _q4_0(x: Tensor) -> Tensor:
    extreme = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    best = _Best(x)
    for end in _ENDS:
        q = (x * _inverse(extreme / end)).round().clamp(-8, 7)
        for d in (
            _half(extreme / end),
            _half((x * q).sum(-1, keepdim=True) * _inverse((q * q).sum(-1, keepdim=True))),
        ):
            best.offer((x * _inverse(d)).round().clamp(-8, 7), d, torch.zeros_like(d))
    return torch.cat((_bytes(best.d), _nibbles(best.q + 8)), -1)


def _q4_1(x: Tensor) -> Tensor:
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    best = _Best(x)
    for span in _SPANS:
        cut = (high - low) * (1 - span) / 2
        d, m = _half((high - low) * span / 15), _half(low + cut)
        q = ((x - m) * _inverse(d)).round().clamp(0, 15)
        best.offer(q, d, m)
        d, m = map(_half, _line(x, q))
        best.offer(((x - m) * _inverse(d)).round().clamp(0, 15), d, m)
    return torch.cat((_bytes(best.d), _bytes(best.m), _nibbles(best.q)), -1)


class _Best:
    """For each block [n, blocks, 32] of `x`, the q, d and m offered so far whose d·q + m comes nearest."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._error = torch.full_like(x[..., :1], torch.inf)
        self.q, self.d, self.m = (
            torch.zeros_like(x),
            torch.zeros_like(x[..., :1]),
            torch.zeros_like(x[..., :1]),
        )

    def offer(self, q: Tensor, d: Tensor, m: Tensor) -> None:
        error = (torch.addcmul(m, d, q) - self._x).square().sum(-1, keepdim=True)
        nearer = error < self._error
        self._error = torch.where(nearer, error, self._error)
        self.q, self.d, self.m = (
            torch.where(nearer, new, old) for new, old in ((q, self.q), (d, self.d), (m, self.m))
        )


def _line(x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """The d and m of least squares for x ≈ d·q + m."""
    x_mean, q_mean = x.mean(-1, keepdim=True), q.mean(-1, keepdim=True)
    spread = (q - q_mean).square().sum(-1, keepdim=True)
    d = ((x - x_mean) * (q - q_mean)).sum(-1, keepdim=True) * _inverse(spread)
    return d, x_mean - d * q_mean


def _half(x: Tensor) -> Tensor:
    """The nearest float16, as float32."""
    return x.clamp(-_HALF_MOST, _HALF_MOST).half().float()


def _inverse(x: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0."""
    return torch.where(x == 0, x, 1 / x)


def _bytes(x: Tensor) -> Tensor:
    return x.half().view(torch.uint8)


def _nibbles(q: Tensor) -> Tensor:
    """Whole numbers from 0 to 15 [..., 32] two to a byte: the first half low, the second high."""
    low, high = q.to(torch.uint8).chunk(2, -1)
    return low | (high << 4)


_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_QUANTIZERS: dict[str, Callable[[Tensor], Tensor]] = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1}
KINDS = (*_PLAIN, *_QUANTIZERS)

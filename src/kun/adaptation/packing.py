"""Weights in few bits: groups of 32 inputs with a scale each, laid out as the compiled kernels read them.

A group is 32 neighbours along the input, with a float16 scale and what it is shifted by: in `int4` the group's
minimum, in `int8` its middle, which is zero where steps around zero come nearer. Sixteen outputs make a panel;
the codes of a panel's group lie in eight steps of 16 outputs × 4 inputs, which is what one multiply instruction
takes; in 4 bits, step j is the low and step j + 4 the high half of the j-th 64 bytes.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

GROUP = 32
PANEL = 16
LAYOUT = "kun-panels-2"
"""Name and version of this layout, kept beside stored weights."""

Bits = Literal[4, 8]

_MOST_STEPS, _LEAST_STEPS = 15, 8
_JUDGED = 16


class Packed(NamedTuple):
    """`codes` uint8 [panels, groups, 64 · bits], `scales` float16 [panels, groups, 2, 16] (scale, shift)."""

    codes: Tensor
    scales: Tensor

    @property
    def bits(self) -> Bits:
        return 4 if self.codes.shape[-1] == 64 * 4 else 8


def empty(outputs: int, inputs: int, bits: Bits, device: torch.device | str = "cpu") -> Packed:
    """Room for a packed matrix."""
    panels, groups = -(-outputs // PANEL), -(-inputs // GROUP)
    codes = torch.empty(panels, groups, 64 * bits, dtype=torch.uint8, device=device)
    return Packed(codes, torch.empty(panels, groups, 2, PANEL, dtype=torch.float16, device=device))


def pack(weight: Tensor, bits: Bits) -> Packed:
    """Quantize weight [outputs, inputs], a slab at a time so that a large head needs little memory."""
    rows, columns = weight.shape
    panels, groups = -(-rows // PANEL), -(-columns // GROUP)
    codes, scales = empty(rows, columns, bits, weight.device)
    step = max(1, 2**21 // (PANEL * GROUP * groups))
    for first in range(0, panels, step):
        last = min(first + step, panels)
        slab = weight[first * PANEL : last * PANEL].detach().float()
        missing = (last - first) * PANEL - len(slab), groups * GROUP - columns
        slab = torch.nn.functional.pad(slab, (0, missing[1], 0, missing[0]))
        quantized, scale = (_four_bits if bits == 4 else _eight_bits)(slab.view(-1, groups, GROUP))
        codes[first:last] = _arrange(quantized, bits)
        scales[first:last] = scale.view(last - first, PANEL, groups, -1).permute(0, 2, 3, 1)
    return Packed(codes, scales)


def unpack(packed: Packed, outputs: int, inputs: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights [outputs, inputs] that the codes stand for."""
    panels, groups, _ = packed.codes.shape
    values = unpack_codes(packed).view(panels, PANEL, groups, GROUP)
    scale = packed.scales.float().permute(2, 0, 3, 1)[..., None]
    weight = (values.float() - (0 if packed.bits == 4 else 128)) * scale[0] + scale[1]
    return weight.reshape(panels * PANEL, groups * GROUP)[:outputs, :inputs].to(dtype)


def unpack_codes(packed: Packed) -> Tensor:
    """The codes alone in the order of the weights: uint8 [16 · panels, 32 · groups]."""
    codes = packed.codes
    panels, groups, _ = codes.shape
    if packed.bits == 4:
        halves = codes.view(panels, groups, 4, 64)
        codes = torch.cat((halves & 15, halves >> 4), dim=2)
    steps = codes.view(panels, groups, 8, PANEL, 4)
    return steps.permute(0, 3, 1, 2, 4).reshape(panels * PANEL, groups * GROUP)


def unpack_rows(packed: Packed, rows: Tensor, inputs: int) -> Tensor:
    """Rows of the weights, [*rows.shape, inputs]: what an embedding looks up."""
    chosen, which = rows.flatten().unique(return_inverse=True)
    panels, panel_of = (chosen // PANEL).unique(return_inverse=True)
    part = unpack(Packed(packed.codes[panels], packed.scales[panels]), len(panels) * PANEL, inputs)
    return part[panel_of * PANEL + chosen % PANEL][which].view(*rows.shape, inputs)


def rounding_error(weight: Tensor, packed: Packed) -> float:
    """The squared error of `packed` over the squares of weight [outputs, inputs], judged by some panels of it."""
    panels = torch.arange(len(packed.codes), device=weight.device)
    panels = panels[:: -(-len(panels) // _JUDGED)]
    rows = (panels[:, None] * PANEL + torch.arange(PANEL, device=weight.device)).flatten()
    rows = rows[rows < len(weight)]
    wanted = weight[rows].float()
    error = (unpack_rows(packed, rows, weight.shape[1]) - wanted).square().sum()
    return (error / wanted.square().sum().clamp_min(1e-30)).item()


def _arrange(values: Tensor, bits: Bits) -> Tensor:
    """uint8 [outputs, groups, 32] in the order of the layout, [panels, groups, 64 · bits]."""
    panels, groups = len(values) // PANEL, values.shape[1]
    steps = values.view(panels, PANEL, groups, 8, 4).permute(0, 2, 3, 1, 4).reshape(panels, groups, 8, 64)
    if bits == 4:
        steps = steps[:, :, :4] | steps[:, :, 4:] << 4
    return steps.reshape(panels, groups, 64 * bits)


def _eight_bits(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (128 is the middle) and (scale, middle) [outputs, groups, 2] of groups [outputs, groups, 32].

    Even steps around zero, or around the middle of the weights: 254 of them, or 240, which is 15 times 16, so
    that weights that were in 4 bits before come back as they were. The smallest squared error decides.
    """
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    top, middle = groups.abs().amax(-1, keepdim=True), _half((high + low) / 2)
    best = _rounded(groups, _half(top / 127), torch.zeros_like(top), -127, 127)
    for count in (254, 240):
        best = _better(best, _rounded(groups, _half((high - low) / count), middle, -127, 127))
    codes, scale, middle, _ = best
    return (codes + 128).to(torch.uint8), torch.cat((scale, middle), -1)


def _four_bits(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and (scale, minimum) [outputs, groups, 2] of groups [outputs, groups, 32].

    Weights of even steps, up to 15 from end to end, come back as they were. Others get, of a few spans somewhat
    narrower than theirs, each refitted to its own codes by least squares, the one with the smallest squared error.
    """
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    best = _rounded(groups, _half((high - low) / _MOST_STEPS), _half(low))
    # a scale that was not fitted to their ends left some of 16 codes unused; 7 steps are also 14, and so on
    for steps in range(_MOST_STEPS - 1, _LEAST_STEPS - 1, -1):
        best = _better(best, _rounded(groups, _half((high - low) / steps), _half(low)))
    for shrink in (0.97, 0.92, 0.86):
        middle, span = (high + low) / 2, (high - low) * shrink
        codes, *_ = _rounded(groups, span / 15, middle - span / 2)
        scale, minimum = _fitted(groups, codes)
        best = _better(best, _rounded(groups, _half(scale), _half(minimum)))
    codes, scale, minimum, _ = best
    return codes.to(torch.uint8), torch.cat((scale, minimum), -1)


_Fit = tuple[Tensor, Tensor, Tensor, Tensor]


def _rounded(groups: Tensor, scale: Tensor, shift: Tensor, least: int = 0, most: int = 15) -> _Fit:
    """Codes for a scale and a shift, these two, and the squared error."""
    codes = ((groups - shift) / _divisor(scale)).round_().clamp_(least, most)
    return codes, scale, shift, (codes * scale + shift - groups).square_().sum(-1, keepdim=True)


def _fitted(groups: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and minimum that bring codes nearest to the weights: a line through 32 points."""
    code_mean, mean = codes.mean(-1, keepdim=True), groups.mean(-1, keepdim=True)
    away = codes - code_mean
    scale = (away * groups).sum(-1, keepdim=True) / away.square().sum(-1, keepdim=True).clamp_min(1e-9)
    return scale, mean - scale * code_mean


def _better(a: _Fit, b: _Fit) -> _Fit:
    chosen = b[3] < a[3]
    codes, scale, minimum, error = (torch.where(chosen, new, old) for old, new in zip(a, b, strict=True))
    return codes, scale, minimum, error


def _half(x: Tensor) -> Tensor:
    """Rounded to float16, as stored; beyond its range, its largest."""
    return x.clamp(-65504, 65504).half().float()


def _divisor(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, torch.ones_like(scale), scale)

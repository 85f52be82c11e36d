"""Products with 4-bit weights by torch's own kernel, which reads tiles of codes: the way on a GPU.

The kernel (`aten::_weight_int4pack_mm`) wants scales and zeros in bfloat16 and counts a code from its middle,
w = (code - 8) · scale + zero, where `packing` counts from a group's minimum. It is made for few rows: many are
faster through unpacked weights and the matrix product.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kun.adaptation.packing import GROUP, Packed, unpack_codes

MOST_ROWS = 64
"""Rows up to which reading weights costs more than multiplying them."""

_TILE_ROWS = 16
_DEEPEST = 8


class Tiles(NamedTuple):
    """Codes in the kernel's order, and scales and zeros bfloat16 [groups, outputs, 2]."""

    codes: Tensor
    scales: Tensor


def fits(outputs: int, inputs: int) -> bool:
    """True where the kernel has tiles for a matrix of this size."""
    return outputs % _TILE_ROWS == 0 and inputs % (2 * 16) == 0 and inputs % GROUP == 0


def tile(packed: Packed, outputs: int, inputs: int) -> Tiles:
    """Tiles of a matrix [outputs, inputs] in 4 bits that `fits`, on the device where it lies."""
    codes = unpack_codes(packed)[:outputs, :inputs]
    scale, minimum = packed.scales.float().permute(2, 0, 3, 1).flatten(1, 2)[:, :outputs]
    pairs = torch.stack((scale, minimum + 8 * scale), dim=-1)  # [outputs, groups, 2]
    scales = pairs.transpose(0, 1).to(torch.bfloat16).contiguous()
    if codes.device.type == "cpu":
        return Tiles(torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1), scales)
    depth = next(depth for depth in (_DEEPEST, 4, 2) if inputs % (16 * depth) == 0)
    halves = (codes[:, ::2] << 4 | codes[:, 1::2]).contiguous()
    return Tiles(torch.ops.aten._convert_weight_to_int4pack(halves, depth), scales)


def multiply(x: Tensor, tiles: Tiles) -> Tensor:
    """x [..., inputs] of any floating dtype times the weights in `tiles` -> [..., outputs] of the same dtype."""
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16).contiguous()
    kernel = (
        torch.ops.aten._weight_int4pack_mm_for_cpu
        if x.device.type == "cpu"
        else torch.ops.aten._weight_int4pack_mm
    )
    product: Tensor = kernel(rows, tiles.codes, GROUP, tiles.scales)
    return product.view(*x.shape[:-1], -1).to(x.dtype)

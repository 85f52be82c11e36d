"""Attention that keeps no scores: some queries at a time, and once more for the backward pass.

Dao et al., "FlashAttention", arXiv:2205.14135, written in torch's own operations: a tile is some neighbouring queries
of a row, in all heads, and the keys from the first to the last that any of them sees. What lies above the diagonal or
in other documents is mostly left out.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kun.blocks.autograd import Saved

QUERIES = 128
"""Neighbouring queries of one tile: few enough for its scores to stay near, and to leave out most of what is hidden."""


def attend_in_tiles(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, *, causal: bool, scale: float
) -> Tensor:
    """Attention of q [b, t, heads, d] over k, v [b, s, kv_heads, d] -> [b, t, heads, d].

    `seen` bool [b or 1, 1, 1 or t, s] is true where a query sees a key; `causal` the lower triangle. Only what goes in
    is kept for the backward pass.
    """
    if causal:
        triangle = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril()[None, None]
        seen = triangle if seen is None else seen & triangle
    ranges = [[slice(0, k.shape[1])]] * -(-q.shape[1] // QUERIES)
    if seen is not None:
        seen = seen[:, 0].expand(-1, q.shape[1], -1)
        ranges = [[_range(row) for row in some] for some in seen.split(QUERIES, dim=1)]
    mixed: Tensor = _Tiled.apply(q, k, v, seen, ranges, scale)
    return mixed


class _Tile(NamedTuple):
    row: int
    queries: slice
    """In [kv_heads, t · heads of each, d]."""
    keys: slice
    bias: Tensor | None
    """[queries, 1, keys]"""


class _Context(Saved, Protocol):
    ranges: list[list[slice]]
    scale: float


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        seen: Tensor | None,
        ranges: list[list[slice]],
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, seen)
        ctx.ranges, ctx.scale = ranges, scale
        queries, keys, values = _by_head(q, k.shape[2]) * scale, _by_head(k), _by_head(v)
        mixed = torch.empty_like(queries)
        for tile in _tiles(q, k, seen, ranges):
            weights = _weights(queries, keys, tile)
            mixed[tile.row, :, tile.queries] = weights @ values[tile.row, :, tile.keys]
        return _by_place(mixed, q)

    @staticmethod
    def backward(ctx: _Context, *outer: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, seen = ctx.saved_tensors
        queries, keys, values = _by_head(q, k.shape[2]) * ctx.scale, _by_head(k), _by_head(v)
        gradient, to_queries = _by_head(outer[0], k.shape[2]), torch.empty_like(queries)
        # of many tiles: sums in bfloat16 would lose bits
        to_keys, to_values = (torch.zeros_like(each, dtype=torch.float32) for each in (keys, values))
        for tile in _tiles(q, k, seen, ctx.ranges):
            row, weights = tile.row, _weights(queries, keys, tile)
            mine, given = queries[row, :, tile.queries], gradient[row, :, tile.queries]
            to_values[row, :, tile.keys] += weights.mT @ given
            to_weights = given @ values[row, :, tile.keys].mT
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            to_keys[row, :, tile.keys] += to_scores.mT @ mine
            to_queries[row, :, tile.queries] = to_scores @ keys[row, :, tile.keys]
        to_keys, to_values = to_keys.to(k.dtype), to_values.to(v.dtype)
        placed = _by_place(to_queries * ctx.scale, q), _by_place(to_keys, k), _by_place(to_values, v)
        return (*placed, None, None, None)


def _by_head(x: Tensor, kv_heads: int | None = None) -> Tensor:
    """[b, t, heads, d] as [b, kv_heads, t · heads of each, d]."""
    grouped = x.unflatten(2, (kv_heads or x.shape[2], -1))
    return grouped.transpose(1, 2).flatten(2, 3).contiguous()


def _by_place(x: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_by_head`."""
    return x.unflatten(2, (like.shape[1], -1)).transpose(1, 2).reshape(like.shape)


def _weights(queries: Tensor, keys: Tensor, tile: _Tile) -> Tensor:
    """[kv_heads, queries · heads of each, keys]"""
    scores = queries[tile.row, :, tile.queries] @ keys[tile.row, :, tile.keys].mT
    if tile.bias is not None:
        scores.unflatten(1, (len(tile.bias), -1)).add_(tile.bias)
    return scores.softmax(dim=-1)


def _tiles(q: Tensor, k: Tensor, seen: Tensor | None, ranges: list[list[slice]]) -> Iterator[_Tile]:
    group = q.shape[2] // k.shape[2]
    bias = None if seen is None else torch.zeros_like(seen, dtype=q.dtype).masked_fill_(~seen, -torch.inf)
    for number, some in enumerate(ranges):
        first, last = number * QUERIES, min((number + 1) * QUERIES, q.shape[1])
        for row in range(len(q)):
            keys = some[row % len(some)]
            added = None if bias is None else bias[row % len(bias), first:last, None, keys]
            yield _Tile(row, slice(first * group, last * group), keys, added)


def _range(seen: Tensor) -> slice:
    """From the first to the last key that a query of seen [queries, keys] sees."""
    places = seen.any(0).nonzero()
    return slice(int(places[0]), int(places[-1]) + 1)

"""A paged cache of keys and values: Kwon et al., "PagedAttention", arXiv:2309.06180.

Memory is cut into pages of a fixed number of tokens. A row (one sequence) owns a list of pages, its table,
and two rows that begin alike may share pages. The owner of the tables decides who gets which page; this
file only writes and reads them. One step runs the tokens of all rows packed one after the other, so prompts
and single tokens share a forward pass.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kun.blocks.attention import Bias, biased
from kun.errors import BadInput

ALIGNMENT = 64
"""Bytes: a cache line, which is also the widest vector register."""


class PagedCache:
    """`keys` and `values`, each [n_layers, n_pages, n_kv_heads, page_size, d_head]."""

    def __init__(
        self,
        n_layers: int,
        n_kv_heads: int,
        d_head: int,
        n_pages: int,
        page_size: int = 32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if min(n_layers, n_kv_heads, d_head, n_pages, page_size) < 1:
            raise BadInput("A cache needs at least one layer, head, dimension, page and token per page.")
        shape = (n_layers, n_pages, n_kv_heads, page_size, d_head)
        self.n_pages, self.page_size = n_pages, page_size
        self.keys, self.values = (_zeros(shape, dtype, torch.device(device)) for _ in range(2))

    @property
    def bytes_per_page(self) -> int:
        """Bytes that one page takes in all layers, keys and values together."""
        return 2 * self.keys.element_size() * self.keys.numel() // self.n_pages

    def copy(self, source: int, target: int) -> None:
        """Write what the page `source` holds to the page `target`."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]

    def step(
        self,
        tables: list[list[int]],
        lengths_before: list[int],
        counts: list[int],
        prefixes: Sequence[int] | None = None,
    ) -> "CacheStep":
        """Get ready to run `counts[r]` new tokens of each row r after its `lengths_before[r]` cached ones.

        `tables[r]` are the page ids of row r in order, enough for its length after the step. The first
        `prefixes[r]` tokens of row r see each other, whichever comes first. Raises BadInput where the pages
        are too few, where one does not exist, where a row has no token, or only a part of its prefix.
        """
        return CacheStep(self, tables, lengths_before, counts, prefixes)


class CacheStep:
    """One forward pass over packed tokens: where each comes from, goes to, and what it sees.

    `row_starts` int32 [rows + 1] (into the packed tokens), `before` and `lengths` int32 [rows] (cached tokens
    before and after this step), `tables` int32 [rows, max_pages] (padded with page 0), `slots` int64 [total]
    (page · page_size + offset), `positions` int64 [1, total].
    """

    def __init__(
        self,
        cache: PagedCache,
        tables: list[list[int]],
        before: list[int],
        counts: list[int],
        prefixes: Sequence[int] | None = None,
    ) -> None:
        self.cache = cache
        self._prefixes = [0] * len(counts) if prefixes is None else list(prefixes)
        self._check(tables, before, counts)
        size, device = cache.page_size, cache.keys.device
        table = np.zeros((len(tables), max(map(len, tables))), dtype=np.int32)
        for row, pages in enumerate(tables):
            table[row, : len(pages)] = pages
        rows = np.repeat(np.arange(len(counts)), counts)
        positions = np.concatenate([np.arange(b, b + n) for b, n in zip(before, counts, strict=True)])
        slots = table[rows, positions // size].astype(np.int64) * size + positions % size

        self.bounds = [0, *np.cumsum(counts).tolist()]
        self.row_starts = torch.tensor(self.bounds, dtype=torch.int32, device=device)
        self.before = torch.tensor(before, dtype=torch.int32, device=device)
        self.lengths = self.before + torch.tensor(counts, dtype=torch.int32, device=device)
        self.tables = torch.from_numpy(table).to(device)
        self.slots = torch.from_numpy(slots).to(device)
        self.positions = torch.from_numpy(positions.astype(np.int64)).to(device)[None]
        self._before, self._counts = list(before), list(counts)
        self._masks: dict[tuple[int | None, int | None, Bias | None], Tensor] = {}

    def _check(self, tables: list[list[int]], before: list[int], counts: list[int]) -> None:
        if not tables or not len(tables) == len(before) == len(counts) == len(self._prefixes):
            raise BadInput("A step needs at least one row, and a table, a length and a count for each.")
        for row, (pages, old, new) in enumerate(zip(tables, before, counts, strict=True)):
            if new < 1 or old < 0:
                raise BadInput(f"Row {row} of the step has {new} new tokens after {old}; it needs one.")
            if len(pages) * self.cache.page_size < old + new:
                raise BadInput(
                    f"Row {row} of the step has {len(pages)} pages, too few for {old + new} tokens."
                )
            if not 0 <= min(pages) <= max(pages) < self.cache.n_pages:
                raise BadInput(f"Row {row} of the step names a page outside 0 to {self.cache.n_pages - 1}.")
            if old + new < self._prefixes[row]:
                raise BadInput(
                    f"Row {row} of the step runs to token {old + new}; the {self._prefixes[row]} of its prefix "
                    f"see each other and must be run at once."
                )

    @property
    def total(self) -> int:
        """How many packed tokens this step runs."""
        return self.bounds[-1]

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        window: int | None = None,
        *,
        bias: Bias | None = None,
        scale: float | None = None,
    ) -> Tensor:
        """Store k, v [1, total, n_kv_heads, d_head]; attend with q [1, total, n_heads, d_head] -> its shape.

        Each token sees its own row up to itself, and the whole of the row's prefix; with `window`, the last
        `window` of the former, itself included. `bias` is added to the scores, whose `scale` is 1/√d_head
        where it is None.
        """
        self._write(layer, k, v)
        if max(self._counts) == 1:
            return self._attend_single(layer, q, window, bias, scale)
        rows = [
            self._attend_row(layer, row, q[:, start:end], window, bias, scale)
            for row, (start, end) in enumerate(pairwise(self.bounds))
        ]
        return torch.cat(rows, dim=1)

    def _write(self, layer: int, k: Tensor, v: Tensor) -> None:
        pages, offsets = self.slots // self.cache.page_size, self.slots % self.cache.page_size
        for store, new in ((self.cache.keys, k), (self.cache.values, v)):
            store[layer].transpose(1, 2)[pages, offsets] = new[0].to(store.dtype)

    def _read(self, store: Tensor, layer: int, tables: Tensor) -> Tensor:
        """The pages of tables [rows, pages] side by side: [rows, n_kv_heads, pages · page_size, d_head]."""
        rows, pages = tables.shape
        _, _, heads, size, width = store.shape
        gathered = store[layer].index_select(0, tables.flatten().long()).view(rows, pages, heads, size, width)
        return gathered.transpose(1, 2).reshape(rows, heads, pages * size, width)

    def _attend_single(
        self, layer: int, q: Tensor, window: int | None, bias: Bias | None, scale: float | None
    ) -> Tensor:
        """All rows in one call, a query each; the heads that share a key stand as if they were queries."""
        keys, values = (
            self._read(s, layer, self.tables).to(q.dtype) for s in (self.cache.keys, self.cache.values)
        )
        rows, kv_heads, length, width = keys.shape
        mask = self._mask(None, length, window, bias, q)
        if bias is not None:
            mask = mask.reshape(rows, kv_heads, -1, length)
        grouped = q.view(rows, kv_heads, -1, width)
        mixed = F.scaled_dot_product_attention(grouped, keys, values, mask, scale=scale)
        return mixed.reshape(1, rows, -1, width)

    def _attend_row(
        self, layer: int, row: int, q: Tensor, window: int | None, bias: Bias | None, scale: float | None
    ) -> Tensor:
        before, count = self._before[row], self._counts[row]
        length = before + count
        table = self.tables[row : row + 1, : -(-length // self.cache.page_size)]
        keys, values = (
            self._read(s, layer, table)[:, :, :length].to(q.dtype)
            for s in (self.cache.keys, self.cache.values)
        )
        group = q.shape[2] // keys.shape[1]
        if group > 1:
            keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
        causal = self._prefixes[row] <= before + 1
        plain = before == 0 and causal and (window is None or window >= length) and bias is None
        mask = None if plain else self._mask(row, length, window, bias, q)
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), keys, values, mask, is_causal=plain, scale=scale
        )
        return mixed.transpose(1, 2)

    def _mask(self, row: int | None, length: int, window: int | None, bias: Bias | None, q: Tensor) -> Tensor:
        """Which of `length` keys the queries of a row see: [1, 1 or heads, t, length]; made once for all layers.

        With `row` None those of all rows, a query each: [rows, 1 or heads, 1, length].
        """
        key = (row, window, bias)
        if key not in self._masks:
            keys = torch.arange(length, device=q.device)
            if row is None:
                queries = self.lengths[:, None].long() - 1
            else:
                queries = torch.arange(length - self._counts[row], length, device=q.device)[None]
            seen = keys <= queries[..., None]
            if window is not None:
                seen = seen & (keys > queries[..., None] - window)
            if row is not None and self._prefixes[row]:
                seen = seen | (keys < self._prefixes[row])
            seen = seen[:, None]
            if bias is not None:
                seen = biased(bias(queries, keys.expand(len(queries), -1)), seen, q.dtype)
            self._masks[key] = seen
        return self._masks[key]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that take no memory until written. Not `empty`: a stale NaN passes through a weight of zero."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return torch.from_numpy(raw[start : start + n_bytes]).view(dtype).view(shape)

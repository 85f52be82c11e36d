"""A paged cache of keys and values: Kwon et al., "PagedAttention", arXiv:2309.06180.

Memory is cut into pages of a fixed number of tokens. A row (one sequence) owns a list of pages, its table,
and two rows that begin alike may share pages. The owner of the tables decides who gets which page; this
file only writes and reads them. One step runs the tokens of all rows packed one after the other, so prompts
and single tokens share a forward pass.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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

    def step(self, tables: list[list[int]], lengths_before: list[int], counts: list[int]) -> "CacheStep":
        """Get ready to run `counts[r]` new tokens of each row r after its `lengths_before[r]` cached ones.

        `tables[r]` are the page ids of row r in order, enough for its length after the step. Raises BadInput
        where they aren't, where a page does not exist, or where a row has no token.
        """
        return CacheStep(self, tables, lengths_before, counts)


class CacheStep:
    """One forward pass over packed tokens: where each comes from, goes to, and what it sees.

    `row_starts` int32 [rows + 1] (into the packed tokens), `before` and `lengths` int32 [rows] (cached tokens
    before and after this step), `tables` int32 [rows, max_pages] (padded with page 0), `slots` int64 [total]
    (page · page_size + offset), `positions` int64 [1, total].
    """

    def __init__(
        self, cache: PagedCache, tables: list[list[int]], before: list[int], counts: list[int]
    ) -> None:
        self.cache = cache
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

    def _check(self, tables: list[list[int]], before: list[int], counts: list[int]) -> None:
        if not tables or not len(tables) == len(before) == len(counts):
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

    @property
    def total(self) -> int:
        """How many packed tokens this step runs."""
        return self.bounds[-1]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
        """Store k, v [1, total, n_kv_heads, d_head]; attend with q [1, total, n_heads, d_head] -> its shape.

        Each token sees its own row up to itself; with `window`, the last `window` of those, itself included.
        """
        self._write(layer, k, v)
        if max(self._counts) == 1:
            return self._attend_single(layer, q, window)
        rows = [
            self._attend_row(layer, row, q[:, start:end], window)
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

    def _attend_single(self, layer: int, q: Tensor, window: int | None) -> Tensor:
        """All rows in one call, a query each; the heads that share a key stand as if they were queries."""
        keys, values = (
            self._read(s, layer, self.tables).to(q.dtype) for s in (self.cache.keys, self.cache.values)
        )
        rows, kv_heads, length, width = keys.shape
        place = torch.arange(length, device=q.device)
        ends = self.lengths[:, None]
        seen = place < ends
        if window is not None:
            seen = seen & (place >= ends - window)
        grouped = q.view(rows, kv_heads, -1, width)
        mixed = F.scaled_dot_product_attention(grouped, keys, values, seen[:, None, None, :])
        return mixed.reshape(1, rows, -1, width)

    def _attend_row(self, layer: int, row: int, q: Tensor, window: int | None) -> Tensor:
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
        plain = before == 0 and (window is None or window >= length)
        mask = None if plain else _row_mask(before, count, window, q.device)
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, mask, is_causal=plain)
        return mixed.transpose(1, 2)


def _row_mask(before: int, count: int, window: int | None, device: torch.device) -> Tensor:
    query = torch.arange(before, before + count, device=device)[:, None]
    key = torch.arange(before + count, device=device)[None]
    seen = key <= query
    return seen if window is None else seen & (key > query - window)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that take no memory until written. Not `empty`: a stale NaN passes through a weight of zero."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return torch.from_numpy(raw[start : start + n_bytes]).view(dtype).view(shape)

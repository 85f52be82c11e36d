"""A paged cache of keys and values: Kwon et al., "PagedAttention", arXiv:2309.06180.

Memory is cut into pages of a fixed number of tokens. A row (one sequence) owns a list of pages, its table,
and two rows that begin alike may share pages. The owner of the tables decides who gets which page; this
file only writes and reads them. One step runs the tokens of all rows packed one after the other, so prompts
and single tokens share a forward pass.
"""

import mmap
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kun.blocks.attention import Bias, biased
from kun.errors import BadInput


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
        self._memory: list[mmap.mmap] = []
        self.keys, self.values = (self._zeros(shape, dtype, torch.device(device)) for _ in range(2))

    @property
    def bytes_per_page(self) -> int:
        """Bytes that one page takes in all layers, keys and values together."""
        return 2 * self.keys.element_size() * self.keys.numel() // self.n_pages

    def copy(self, source: int, target: int) -> None:
        """Write what the page `source` holds to the page `target`."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]

    def give_back(self, pages: Sequence[int]) -> None:
        """Let the system have the memory of pages (in order) whose content is not needed; it comes again with use."""
        size = self.bytes_per_page // (2 * self.keys.shape[0])
        for first, count in _runs(pages):
            for memory in self._memory:
                for layer in range(len(self.keys)):
                    start = (layer * self.n_pages + first) * size
                    begin, end = -(-start // mmap.PAGESIZE), (start + count * size) // mmap.PAGESIZE
                    if begin < end:
                        memory.madvise(
                            mmap.MADV_DONTNEED, begin * mmap.PAGESIZE, (end - begin) * mmap.PAGESIZE
                        )

    def _zeros(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Zeros that take no memory until written. Not `empty`: a stale NaN passes through a weight of zero."""
        if device.type != "cpu":
            return torch.zeros(shape, dtype=dtype, device=device)
        # from the system itself: numpy asks it for pages of 2 MB, one of which a layer's first token would fill
        memory = _fresh_memory(int(np.prod(shape)) * dtype.itemsize)
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.append(memory)
        return torch.frombuffer(memory, dtype=dtype).view(shape)

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
    (page · page_size + offset), `positions` int64 [1, total]. `adapters` names what each row has beside the network's
    own weights, for whoever puts it there.
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
        self.adapters: Sequence[str | None] | None = None
        self._before, self._counts = list(before), list(counts)
        self._parts: dict[tuple[int | None, int], Tensor] = {}
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
    def counts(self) -> list[int]:
        """How many tokens of each row this step runs."""
        return self._counts

    @property
    def prefixes(self) -> list[int]:
        """How many tokens at the begin of each row see each other."""
        return self._prefixes

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
        width = k.shape[-1]
        for store, new in ((self.cache.keys, k), (self.cache.values, v)):
            # one index, into lines of d_head numbers: torch is much slower with one for each dimension
            store[layer].view(-1, width).index_copy_(0, self._lines, new.reshape(-1, width).to(store.dtype))

    @cached_property
    def _lines(self) -> Tensor:
        """Where the new tokens' heads go, int64 [total · n_kv_heads], in lines of d_head numbers of a layer."""
        heads, size = self.cache.keys.shape[2:4]
        pages, offsets = self.slots // size, self.slots % size
        return (self._by_head(pages, heads) * size + offsets[:, None]).flatten()

    @staticmethod
    def _by_head(pages: Tensor, heads: int) -> Tensor:
        """Pages [...] of a layer as the places [..., heads] of each head's part."""
        return pages[..., None] * heads + torch.arange(heads, device=pages.device)

    def _read(self, store: Tensor, layer: int, row: int | None, pages: int) -> Tensor:
        """The first `pages` of a row, or of all where it is None: [rows, n_kv_heads, pages · page_size, d_head]."""
        _, n_pages, heads, size, width = store.shape
        if (row, pages) not in self._parts:
            tables = (self.tables if row is None else self.tables[row : row + 1])[:, :pages].long()
            self._parts[row, pages] = self._by_head(tables, heads).transpose(1, 2).flatten()
        parts = self._parts[row, pages]
        gathered = store[layer].view(n_pages * heads, size * width).index_select(0, parts)
        return gathered.view(-1, heads, pages * size, width)

    def _attend_single(
        self, layer: int, q: Tensor, window: int | None, bias: Bias | None, scale: float | None
    ) -> Tensor:
        """All rows in one call, a query each; the heads that share a key stand as if they were queries."""
        keys, values = (
            self._read(s, layer, None, self.tables.shape[1]).to(q.dtype)
            for s in (self.cache.keys, self.cache.values)
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
        pages = -(-length // self.cache.page_size)
        keys, values = (
            self._read(s, layer, row, pages)[:, :, :length].to(q.dtype)
            for s in (self.cache.keys, self.cache.values)
        )
        kv_heads, group = keys.shape[1], q.shape[2] // keys.shape[1]
        # the heads of a group look at the same keys, which are not copied for each: [kv_heads, group, …]
        keys, values = (x[0][:, None].expand(-1, group, -1, -1) for x in (keys, values))
        causal = self._prefixes[row] <= before + 1
        plain = before == 0 and causal and (window is None or window >= length) and bias is None
        mask = None if plain else self._mask(row, length, window, bias, q)
        if bias is not None and mask is not None:
            mask = mask.expand(-1, kv_heads * group, -1, -1).unflatten(1, (kv_heads, group))[0]
        grouped = q[0].unflatten(1, (kv_heads, group)).permute(1, 2, 0, 3)
        mixed = F.scaled_dot_product_attention(grouped, keys, values, mask, is_causal=plain, scale=scale)
        return mixed.permute(2, 0, 1, 3).flatten(1, 2)[None]

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


def _runs(pages: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and count of each run of pages that follow one another."""
    first, count = -1, 0
    for page in pages:
        if page != first + count:
            if count:
                yield first, count
            first, count = page, 0
        count += 1
    if count:
        yield first, count


def _fresh_memory(n_bytes: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, n_bytes)
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

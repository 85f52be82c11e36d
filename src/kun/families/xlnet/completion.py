"""Completion of a text by XLNet: a query behind the last word, and the words before it as they were understood.

The query stands at the next place and sees all words; they see each other, both ways, but not the query. A new
word changes how those before it are understood. Following the reference, the last word is read again together
with the new one, and what stands farther back stays as it was: Transformer-XL's memory, kept here as keys and
values in pages. A network that remembers nothing reads the whole text again for each word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from kun.blocks.cache import CacheStep, PagedCache
from kun.errors import UnsupportedFormat
from kun.families.xlnet.attention import Attention, mask_of
from kun.families.xlnet.config import XLNetConfig
from kun.networks.decoding import DecodingState, RowState

REREAD = 1
"""The number of last words that are read again with a new one."""


class Completing(Protocol):
    """The network as completion needs it: its sizes, its sinusoids of distances, and where its weights are."""

    config: XLNetConfig

    def places(self, distances: Tensor, dtype: torch.dtype) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class DistanceKeys:
    """The keys of distances, which are the same in every step: each layer's are made once, as far as was asked."""

    def __init__(self, net: Completing) -> None:
        self._net, self._reach = net, 0
        self._tables: dict[int, Tensor] = {}

    def of(self, layer: int, attention: Attention, farthest: int, count: int) -> Tensor:
        """[heads, count, d_head] for the distances `farthest`, one less, and so on."""
        reach = max(farthest, count - farthest)
        if reach > self._reach:
            self._reach, self._tables = 1 << reach.bit_length(), {}
        if layer not in self._tables:
            weight = next(iter(self._net.parameters()))
            distances = torch.arange(self._reach, -self._reach, -1, device=weight.device)
            made = attention.heads(attention.r(self._net.places(distances, weight.dtype)))
            self._tables[layer] = made.detach().transpose(0, 1).contiguous()
        start = self._reach - farthest
        return self._tables[layer][:, start : start + count]


class CompletionState(DecodingState):
    """Keys and values of the words in pages, and the keys of distances."""

    rows_apart = False

    def __init__(
        self, net: Completing, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        config = self.config = net.config
        sizes = config.n_layers, config.n_heads, config.d_head
        super().__init__(PagedCache(*sizes, n_pages, page_size, dtype, device))
        self.distances = DistanceKeys(net)

    def start(self, prompt: Sequence[int]) -> RowState:
        """Raises UnsupportedFormat where a text's first words would see nothing."""
        if self.config.attention == "uni" and self.config.same_length:
            raise UnsupportedFormat(
                "A network with same_length sees nothing before its memory is full, so it completes no text: "
                "set same_length to false in its config.json."
            )
        return RowState(list(prompt), root=None, keeps=self.config.remembers, rereads=REREAD)

    def step(
        self, rows: Sequence[RowState], tables: list[list[int]], before: list[int], counts: list[int]
    ) -> "CompletionStep":
        return CompletionStep(self, tables, before, counts)


@dataclass
class Group:
    """Rows of a step that read as many new words, run together; their keys end at the same column.

    `places` [rows, words + 1] are those of their words and of the query behind them, `pages` and `offsets`
    [rows, keys] where their keys stand in the cache. `hidden` bool [rows, 1 or words + 1, keys] is true where
    a key is not seen, None where all are.
    """

    places: Tensor
    pages: Tensor
    offsets: Tensor
    hidden: Tensor | None


class CompletionStep(CacheStep):
    """One pass over the new words of all rows, with a query behind each row.

    `queries` int64 [rows] are the places of the queries among the packed words and queries, `words` int64
    [total] those of the words.
    """

    def __init__(
        self, state: CompletionState, tables: list[list[int]], before: list[int], counts: list[int]
    ) -> None:
        super().__init__(state.cache, tables, before, counts)
        self._state = state
        device = self.row_starts.device
        self._ends = self.row_starts[1:].long()
        self.queries = self._ends + torch.arange(len(counts), device=device)
        self.words = torch.arange(self.total, device=device)
        self.words += torch.bucketize(self.words, self._ends, right=True)
        self._groups = [self._group(count) for count in sorted(set(counts))]

    def _group(self, count: int) -> Group:
        """The rows that read `count` new words."""
        rows = torch.tensor(
            [row for row, own in enumerate(self._counts) if own == count], device=self.queries.device
        )
        before, lengths = self.before[rows].long(), self.lengths[rows].long()
        memory = self._state.config.memory
        # the reference's memory also holds the query's place and the last word, and gives both up
        first = torch.zeros_like(before) if memory is None else (before - max(0, memory - 2)).clamp(min=0)
        n_keys = int((lengths - first).max())
        column = torch.arange(n_keys, device=rows.device)
        keys = lengths[:, None] - n_keys + column
        hidden = (keys < first[:, None])[:, None]
        words = torch.arange(count + 1, device=rows.device)
        if self._state.config.attention == "uni":
            hidden = hidden | (column > words[:, None] + n_keys - count)
        keys = keys.clamp(min=0)
        size = self.cache.page_size
        return Group(
            self.queries[rows, None] - count + words,
            self.tables[rows].long().gather(1, keys // size),
            keys % size,
            hidden if bool(hidden.any()) else None,
        )

    def with_queries(self, x: Tensor, query: Tensor) -> Tensor:
        """The words' states [1, total, d_model] with a `query` [1, 1, d_model] behind each row."""
        widened = query.expand(1, x.shape[1] + len(self.queries), -1).clone()
        widened[:, self.words] = x
        return widened

    def rows_of(self, words: Tensor) -> Tensor:
        """The rows to which the packed `words` [m] belong."""
        return torch.bucketize(words.contiguous(), self._ends, right=True)

    def attend_to_words(self, layer: int, attention: Attention, x: Tensor) -> Tensor:
        """Store the words' keys and values; attend with all of x [1, total + rows, d_model] -> its shape."""
        words = x[:, self.words]
        self._write(layer, attention.heads(attention.k(words)), attention.heads(attention.v(words)))
        asked, mixed = attention.heads(attention.q(x))[0], torch.empty_like(x)
        for group in self._groups:
            q = asked[group.places]
            k, v = (
                store[layer].transpose(1, 2)[group.pages, group.offsets].to(q.dtype)
                for store in (self.cache.keys, self.cache.values)
            )
            queries, keys = q.shape[1], k.shape[1]
            # the last of the queries stands right behind the last key; `shift` wants one distance more
            r = self._state.distances.of(layer, attention, keys + 1, queries + keys)
            mask = None if group.hidden is None else mask_of(group.hidden, q.dtype)
            mixed[0, group.places] = attention.mix(q, k, v, r.to(q.dtype), mask, None)
        return mixed

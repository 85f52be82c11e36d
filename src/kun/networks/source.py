"""The source that an encoder has read, as a decoder's cross-attention sees it.

Cross-attention sees a source in two ways, as a network is called in two: as states of padded rows, whose keys
and values are made on the spot, or as keys and values that were made once, when a row began, and are kept.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from kun.blocks.attention import attend
from kun.blocks.cache import CacheStep, PagedCache
from kun.errors import BadInput
from kun.networks.attention_mask import seen_by_all
from kun.networks.decoding import DecodingState, RowState

Project = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From states [b, s, d_model] of a source to keys and values, [b, s, heads, d_head] each."""


class Source(Protocol):
    """A source as cross-attention needs it."""

    def attend(self, layer: int, q: Tensor, project: Project, scale: float | None, dropout: float) -> Tensor:
        """Attention of q [b, t, heads, d_head] over what `project` makes of the source -> its shape."""


@dataclass
class PaddedSource:
    """An encoder's `states` [b, s, d_model], of which the tokens in `mask` bool [b, s] are real."""

    states: Tensor
    mask: Tensor | None

    def attend(self, layer: int, q: Tensor, project: Project, scale: float | None, dropout: float) -> Tensor:
        return attend(q, *project(self.states), seen_by_all(self.mask), dropout=dropout, scale=scale)


Kept = list[tuple[Tensor, Tensor]]
"""Keys and values [s, heads, d_head] that each layer of a decoder has made of a source."""


def kept(states: Tensor, lengths: Sequence[int], projects: Iterable[Project]) -> list[Kept]:
    """For each of the sources packed in states [1, total, d_model] what the layers' `projects` make of it."""
    layers = [tuple(x[0].split(list(lengths)) for x in project(states)) for project in projects]
    return [[(keys[row], values[row]) for keys, values in layers] for row in range(len(lengths))]


@dataclass(eq=False)
class SourceRow(RowState):
    """A row's `source` ids, and once they are read what is `kept` of them."""

    source: list[int] = field(default_factory=list)
    kept: Kept | None = None


class SourceState(DecodingState):
    """Pages for the decoder's own tokens; each row keeps its source, read with the row's first step.

    `read` is what the network makes of packed sources, ids [1, total] of those lengths.
    """

    rows_apart = False

    def __init__(
        self,
        cache: PagedCache,
        start_token: int,
        longest: int,
        read: Callable[[Tensor, list[int]], list[Kept]],
    ) -> None:
        super().__init__(cache)
        self.start_token, self.longest, self.read = start_token, longest, read
        self._stacked: StackedSources | None = None

    def start(self, prompt: Sequence[int]) -> SourceRow:
        """The prompt is the source; the decoder begins with its start token."""
        if not 1 <= len(prompt) <= self.longest:
            raise BadInput(f"The source has {len(prompt)} tokens; this network reads 1 to {self.longest}.")
        # what the pages hold depends on the source as well
        root = blake2b(np.array(prompt, dtype=np.int64).tobytes(), digest_size=16).digest()
        size = len(prompt)
        return SourceRow([self.start_token], root=root, unread=size, beside=size, source=list(prompt))

    def step(
        self, rows: Sequence[RowState], tables: list[list[int]], before: list[int], counts: list[int]
    ) -> "SourceStep":
        """As DecodingState's; sources that were not read yet are, all in one pass."""
        sources = [row for row in rows if isinstance(row, SourceRow)]
        unread = list({id(row): row for row in sources if row.kept is None}.values())
        if unread:
            packed = [token for row in unread for token in row.source]
            ids = torch.tensor([packed], device=self.cache.keys.device)
            for row, made in zip(unread, self.read(ids, [len(row.source) for row in unread]), strict=True):
                row.kept, row.unread = made, 0
        distinct = list({id(row): row for row in sources}.values())
        if self._stacked is None or self._stacked.rows != distinct:
            self._stacked = None
            self._stacked = StackedSources(distinct)
        step = SourceStep(self.cache, tables, before, counts)
        step.source = KeptSources(self._stacked, sources, counts)
        return step


class SourceStep(CacheStep):
    """A step of rows that each look at a source."""

    source: "KeptSources"


class StackedSources:
    """The kept keys and values of several rows, side by side until one comes or goes.

    `layers` are pairs [rows, heads, s, d_head], padded behind; `seen` bool [rows, 1, 1, s], None where nothing
    is padding.
    """

    def __init__(self, rows: list[SourceRow]) -> None:
        self.rows = rows
        lengths = [len(row.source) for row in rows]
        made = [row.kept or [] for row in rows]
        self.layers = [
            tuple(_stacked([layer[which] for layer in layers]) for which in (0, 1))
            for layers in zip(*made, strict=True)
        ]
        self.seen: Tensor | None = None
        if min(lengths) < max(lengths):
            device = self.layers[0][0].device
            ends = torch.tensor(lengths, device=device)[:, None, None, None]
            self.seen = torch.arange(max(lengths), device=device) < ends


def _stacked(tensors: list[Tensor]) -> Tensor:
    """[s, heads, d] of several lengths s -> [rows, heads, longest, d]."""
    return pad_sequence(tensors, batch_first=True).transpose(1, 2).contiguous()


class KeptSources:
    """One step's packed queries over the sources of their rows; rows that share a source ask it together.

    `counts[r]` queries belong to row r.
    """

    def __init__(self, stacked: StackedSources, rows: Sequence[SourceRow], counts: Sequence[int]) -> None:
        self.stacked = stacked
        place = {id(row): index for index, row in enumerate(stacked.rows)}
        of_row = [place[id(row)] for row in rows]
        of_query = np.repeat(of_row, counts)
        asked = np.bincount(of_query, minlength=len(stacked.rows))
        self.most = int(asked.max())
        self.even = bool((np.diff(of_query) >= 0).all() and (asked == self.most).all())
        order = np.argsort(of_query, kind="stable")
        within = np.empty(len(of_query), dtype=np.int64)
        within[order] = np.arange(len(of_query)) - np.repeat(np.cumsum(asked) - asked, asked)
        self.which = torch.from_numpy(of_query), torch.from_numpy(within)

    def attend(self, layer: int, q: Tensor, project: Project, scale: float | None, dropout: float) -> Tensor:
        """Attention of q [1, total, heads, d_head] -> its shape; nothing is projected or dropped here."""
        keys, values = (x.to(q.dtype) for x in self.stacked.layers[layer])
        if self.even:  # the queries of each source stand together, the same number each
            asked = q.view(len(keys), self.most, *q.shape[2:])
        else:
            asked = q.new_zeros(len(keys), self.most, *q.shape[2:])
            asked[self.which] = q[0]
        mixed = F.scaled_dot_product_attention(
            asked.transpose(1, 2), keys, values, self.stacked.seen, scale=scale
        ).transpose(1, 2)
        return mixed.reshape(q.shape) if self.even else mixed[self.which][None]


def source_of(cache: CacheStep | None) -> Source | None:
    """The sources of a step over a cache, None without one; BadInput for a step of a decoder alone."""
    if cache is not None and not isinstance(cache, SourceStep):
        raise BadInput("A step of an encoder-decoder knows its sources: take it from the state of new_state.")
    return None if cache is None else cache.source

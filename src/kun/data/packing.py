"""Documents packed into rows of `context` tokens, nearly without padding, and never seeing each other.

Best-fit packing (Ding et al., arXiv:2404.10830): documents stay whole; each goes, the longest first, into the row with
the least room that still holds it. What is longer than the context is cut into pieces, at places that move with the
epoch. Only where whole documents leave more than `MOST_PADDING` (those of two thirds of the context always do), the
emptiest rows are taken apart and their documents cut to fill the others.

The packing of documents sorts nothing but lengths, so that it takes steps in proportion to the context, not to the
documents: rows with equal room are handled together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.data.columns import ranges
from kun.data.store import TokenStore
from kun.errors import BadInput

#: share of padding above which documents are cut to fill rows
MOST_PADDING = 0.01
IGNORED = -100
"""The label of a token that is not to be predicted, as torch's cross-entropy has it."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PackedBatch:
    """Rows of packed documents.

    `input_ids` int64 [b, t]; `documents` int32 [b, t], 0 at padding, else 1, 2, … for each row's documents; `labels`
    int64 [b, t], already shifted: the next token's id where that is of the same document and learned, else -100;
    `places` int64 [b, t]: where the token stands among all tokens of the data, 0 at padding.
    """

    input_ids: NDArray[np.int64]
    documents: NDArray[np.int32]
    labels: NDArray[np.int64]
    places: NDArray[np.int64]


class PackedRows:
    """The documents of a store as rows of `context` tokens, packed anew for every epoch."""

    def __init__(self, store: TokenStore, context: int, seed: int = 0) -> None:
        """Raises `BadInput` for a context below 2 tokens."""
        if context < 2:
            raise BadInput(f"A context of {context} tokens leaves nothing to predict: make it 2 or more.")
        self.store = store
        self.context = context
        self.seed = seed

    def plan(self, epoch: int = 0) -> "PackingPlan":
        """How epoch `epoch` is packed: a function of the store, the context, the seed and the epoch alone."""
        random = np.random.default_rng([self.seed, epoch])
        pieces = cut_long(self.store.lengths, self.context, random)
        rows, n_rows = best_fit(pieces.lengths, self.context, random)
        pieces, rows, n_rows = _fill(pieces, rows, n_rows, self.context)
        order = random.permutation(n_rows)
        return PackingPlan(self.store, self.context, pieces, order[rows], n_rows)


@dataclass(frozen=True)
class Pieces:
    """Stretches of documents: `lengths` tokens from token `offsets` of document `documents`, each [p]."""

    documents: Ints
    offsets: Ints
    lengths: Ints


class PackingPlan:
    """Which piece of which document stands in which row."""

    def __init__(self, store: TokenStore, context: int, pieces: Pieces, rows: Ints, n_rows: int) -> None:
        order = np.argsort(rows, kind="stable")
        self._store = store
        self.context = context
        self.pieces = Pieces(pieces.documents[order], pieces.offsets[order], pieces.lengths[order])
        self._bounds = np.searchsorted(rows[order], np.arange(n_rows + 1))
        self._starts = store.starts[self.pieces.documents] + self.pieces.offsets
        #: tokens of the document from the piece's start to its end, which is where labels end
        self._left = store.lengths[self.pieces.documents] - self.pieces.offsets

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def padding_fraction(self) -> float:
        """The share of padding."""
        return 1 - float(self.pieces.lengths.sum()) / (len(self) * self.context)

    def batch(self, indices: NDArray[np.integer] | list[int]) -> PackedBatch:
        """The rows `indices`."""
        chosen = np.asarray(indices, np.int64)
        first, counts = self._bounds[chosen], self._bounds[chosen + 1] - self._bounds[chosen]
        within = ranges(counts)
        pieces = np.repeat(first, counts) + within
        lengths = self.pieces.lengths[pieces]
        ends = np.cumsum(lengths)
        row_starts = np.concatenate([[0], ends])[np.concatenate([[0], np.cumsum(counts)[:-1]])]
        column_starts = ends - lengths - np.repeat(row_starts, counts)
        along = ranges(lengths)
        rows = np.repeat(np.repeat(np.arange(len(chosen)), counts), lengths)
        cells = rows * self.context + np.repeat(column_starts, lengths) + along
        tokens = np.repeat(self._starts[pieces], lengths) + along
        goes_on = along + 1 < np.repeat(self._left[pieces], lengths)
        return self._laid_out(len(chosen), cells, tokens, goes_on, np.repeat(within + 1, lengths))

    def _laid_out(
        self, rows: int, cells: Ints, tokens: Ints, goes_on: NDArray[np.bool_], numbers: Ints
    ) -> PackedBatch:
        """Put tokens into cells; each has a label where its document goes on after it."""
        shape = (rows, self.context)
        input_ids = np.zeros(shape, np.int64)
        documents = np.zeros(shape, np.int32)
        labels = np.full(shape, IGNORED, np.int64)
        places = np.zeros(shape, np.int64)
        input_ids.ravel()[cells] = self._store.take("ids", tokens)
        documents.ravel()[cells] = numbers
        places.ravel()[cells] = tokens
        following = tokens[goes_on] + 1
        targets = self._store.take("ids", following).astype(np.int64)
        if self._store.is_masked:
            targets = np.where(self._store.take("learned", following), targets, IGNORED)
        labels.ravel()[cells[goes_on]] = targets
        return PackedBatch(input_ids, documents, labels, places)


def cut_long(lengths: Ints, context: int, random: np.random.Generator) -> Pieces:
    """Whole documents, and those above `context` as a first piece of random length, full ones, and the rest."""
    whole = np.flatnonzero((lengths > 0) & (lengths <= context))
    long = np.flatnonzero(lengths > context)
    first = random.integers(1, context + 1, len(long))
    counts = 1 + -(-(lengths[long] - first) // context)
    documents = np.repeat(long, counts)
    number = ranges(counts)
    starts = np.repeat(first, counts) + (number - 1) * context
    stops = np.minimum(starts + context, lengths[documents])
    starts = np.maximum(starts, 0)
    return Pieces(
        np.concatenate([whole, documents]),
        np.concatenate([np.zeros(len(whole), np.int64), starts]),
        np.concatenate([lengths[whole], np.where(number == 0, np.repeat(first, counts), stops - starts)]),
    )


def best_fit(lengths: Ints, capacity: int, random: np.random.Generator) -> tuple[Ints, int]:
    """The row of each item, [n], and the number of rows; ties among items are broken at random.

    Best fit, longest first. `lengths` lie between 1 and `capacity`.
    """
    shuffled = random.permutation(len(lengths))
    items = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    bounds = np.searchsorted(lengths[items], np.arange(capacity + 2))
    rows = np.empty(len(lengths), np.int64)
    rooms = _Rooms(capacity)
    for length in range(capacity, 0, -1):
        waiting = items[bounds[length] : bounds[length + 1]]
        while len(waiting):
            taken = rooms.take(length, len(waiting))
            rows[waiting[: len(taken)]] = taken
            waiting = waiting[len(taken) :]
    return rows, rooms.n_rows


class _Rooms:
    """Open rows by the room that they have left."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_room: list[list[Ints]] = [[] for _ in range(capacity + 1)]
        self._counts = np.zeros(capacity + 1, np.int64)
        self.n_rows = 0

    def take(self, length: int, most: int) -> Ints:
        """Put up to `most` items of `length` into the rows with the least room that holds one, else into new ones.

        Returns the row of each item: a row that an item was put into has the least room for the next, until it is full.
        """
        fitting = np.flatnonzero(self._counts[length:])
        room = length + int(fitting[0]) if len(fitting) else self._capacity
        each = min(room // length, most)
        rows = self._remove(room, most // each) if len(fitting) else self._open(most // each)
        self._put(rows, room - each * length)
        return np.repeat(rows, each)

    def _remove(self, room: int, most: int) -> Ints:
        group = self._by_room[room].pop()
        rows, rest = group[:most], group[most:]
        if len(rest):
            self._by_room[room].append(rest)
        self._counts[room] -= len(rows)
        return rows

    def _open(self, count: int) -> Ints:
        fresh = np.arange(self.n_rows, self.n_rows + count)
        self.n_rows += count
        return fresh

    def _put(self, rows: Ints, room: int) -> None:
        if room:
            self._by_room[room].append(rows)
            self._counts[room] += len(rows)


def _fill(pieces: Pieces, rows: Ints, n_rows: int, context: int) -> tuple[Pieces, Ints, int]:
    """Where there is too much padding, take the emptiest rows apart and lay their tokens into the others' room."""
    tokens = int(pieces.lengths.sum())
    wanted = max(-(-tokens // context), int(tokens / (context * (1 - MOST_PADDING))))
    if n_rows <= wanted:
        return pieces, rows, n_rows
    filled = np.bincount(rows, pieces.lengths, n_rows).astype(np.int64)
    by_fill = np.argsort(-filled, kind="stable")
    kept, emptied = by_fill[:wanted], by_fill[wanted:]
    number = np.full(n_rows, -1)
    number[kept] = np.arange(wanted)
    loose = number[rows] < 0
    # the largest rooms first, so that documents are cut as seldom as can be
    holes = kept[::-1]
    scattered, into = _scatter(Pieces(*(column[loose] for column in _of(pieces))), context - filled[holes])
    together = Pieces(
        *(np.concatenate([a[~loose], b]) for a, b in zip(_of(pieces), _of(scattered), strict=True))
    )
    assert len(emptied) > 0
    return together, np.concatenate([number[rows[~loose]], number[holes[into]]]), wanted


def _of(pieces: Pieces) -> tuple[Ints, Ints, Ints]:
    return pieces.documents, pieces.offsets, pieces.lengths


def _scatter(pieces: Pieces, rooms: Ints) -> tuple[Pieces, Ints]:
    """Lay pieces end to end into `rooms` laid end to end: cut where either ends. Returns the cuts and their rooms."""
    ends, room_ends = np.cumsum(pieces.lengths), np.cumsum(rooms)
    stops = np.union1d(ends, room_ends[room_ends < ends[-1]])
    stops = stops[stops > 0]
    starts = np.concatenate([[0], stops[:-1]])
    piece = np.searchsorted(ends, starts, side="right")
    room = np.searchsorted(room_ends, starts, side="right")
    offsets = pieces.offsets[piece] + starts - (ends - pieces.lengths)[piece]
    return Pieces(pieces.documents[piece], offsets, stops - starts), room

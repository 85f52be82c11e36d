"""Documents as rows of their own, padded to the longest of the few that stand together.

For what cannot be packed: pairs, texts with a label, spans to be found. Rows of like lengths stand together (as in
fairseq and tensor2tensor), so that little is padding, and steps are drawn anew for every epoch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.data.packing import IGNORED, Ints, Pieces, cut_long
from kun.data.store import TokenStore

_POOL = 32
"""Steps whose rows are sorted by length together."""
_LENGTHS, _BRICK = 8, 1024
"""Of how many lengths a step is made, to be a fair sample, each of at least so many tokens."""
_SLACK, _FEWEST = 0.1, 512
"""The share of padding from which on rows are kept apart, unless fewer tokens would stand together."""


@dataclass(frozen=True)
class PaddedBatch:
    """Rows padded behind: `input_ids` int64 [b, s], of a pair its source; `real` bool [b, s], false at padding.

    `targets` int64 [b, t] of pairs, -100 at padding; `labels` float64 [b] of labelled rows; `types` int64 [b, s] where
    two texts are judged together; `learned` bool [b, s] where only some tokens are.
    """

    input_ids: NDArray[np.int64]
    real: NDArray[np.bool_]
    targets: NDArray[np.int64] | None = None
    labels: NDArray[np.float64] | None = None
    types: NDArray[np.int64] | None = None
    learned: NDArray[np.bool_] | None = None


class PaddedRows:
    """The documents of a store, each a row; running text that is longer than `longest` is cut into several rows.

    `pad` is the id that stands at padding, `share` of how many processes divide a step's rows among them.
    """

    def __init__(
        self, store: TokenStore, step_tokens: int, *, seed: int = 0, pad: int = 0, longest: int | None = None
    ) -> None:
        self.store, self.step_tokens, self.seed, self.pad, self.longest = (
            store,
            step_tokens,
            seed,
            pad,
            longest,
        )

    def plan(self, epoch: int = 0) -> "PaddedPlan":
        """Which rows make up which step of epoch `epoch`: a function of store, sizes, seed and epoch alone."""
        random = np.random.default_rng([self.seed, epoch])
        pieces = self._pieces(random)
        order = random.permutation(len(pieces.lengths))
        widths = self.widths(pieces)
        pools = _numbered(widths[order], _POOL * self.step_tokens)
        order = order[_by_length(pieces.lengths[order], widths[order], pools)]
        brick = min(self.step_tokens, max(_BRICK, self.step_tokens // _LENGTHS))
        bricks = np.split(order, _starts(widths[order], brick)[1:])
        shuffled = np.concatenate([bricks[index] for index in random.permutation(len(bricks))])
        steps = np.split(shuffled, _starts(widths[shuffled], self.step_tokens)[1:])
        return PaddedPlan(
            self, pieces, [step[_by_length(pieces.lengths[step], widths[step])] for step in steps]
        )

    def widths(self, pieces: Pieces) -> Ints:
        """Tokens of each row, a pair's source and target together."""
        if not self.store.has_sources:
            return pieces.lengths
        return pieces.lengths + self.store.source_lengths[pieces.documents]

    def _pieces(self, random: np.random.Generator) -> Pieces:
        lengths = self.store.lengths
        if self.longest is not None and not self.store.has_sources:
            return cut_long(lengths, self.longest, random)
        return Pieces(np.arange(len(lengths)), np.zeros_like(lengths), lengths)


class PaddedPlan:
    """The steps of an epoch: `steps` are the numbers of the rows of each, like lengths side by side.

    `widths` are the tokens of each row, and `starts` how many rows come before each step.
    """

    def __init__(self, rows: PaddedRows, pieces: Pieces, steps: list[Ints]) -> None:
        self._store, self._pad, self.pieces, self.steps = rows.store, rows.pad, pieces, steps
        self.widths = rows.widths(pieces)
        self.starts = np.cumsum([0, *(len(step) for step in steps)])

    def __len__(self) -> int:
        """How many rows there are."""
        return int(self.starts[-1])

    def batch(self, indices: Ints | list[int]) -> PaddedBatch:
        """The rows `indices`."""
        rows = np.asarray(indices, np.int64)
        documents = self.pieces.documents[rows]
        starts, lengths = self._store.starts[documents] + self.pieces.offsets[rows], self.pieces.lengths[rows]
        labels = self._store.labels[documents] if self._store.has_labels else None
        if self._store.has_sources:
            sources, source_lengths = (
                self._store.source_starts[documents],
                self._store.source_lengths[documents],
            )
            targets = self._padded("ids", starts, lengths, IGNORED)
            return PaddedBatch(
                self._padded("source", sources, source_lengths, self._pad),
                _real(source_lengths),
                targets,
                labels,
            )
        types = self._padded("types", starts, lengths, 0) if self._store.has_types else None
        learned = self._padded("learned", starts, lengths, 0) > 0 if self._store.is_masked else None
        ids = self._padded("ids", starts, lengths, self._pad)
        return PaddedBatch(ids, _real(lengths), None, labels, types, learned)

    def _padded(self, name: str, starts: Ints, lengths: Ints, filler: int) -> NDArray[np.int64]:
        """A column's numbers of rows that begin at `starts` of all its tokens: int64 [b, longest]."""
        real = _real(lengths)
        padded = np.full(real.shape, filler, np.int64)
        places = starts[:, None] + np.arange(real.shape[1])
        padded[real] = self._store.take(name, places[real])
        return padded


def _real(lengths: Ints) -> NDArray[np.bool_]:
    return np.arange(int(lengths.max(initial=0))) < lengths[:, None]


def _by_length(lengths: Ints, widths: Ints, pools: Ints | None = None) -> Ints:
    """The order of rows by their source's length, then by their own, within each pool."""
    keys = (lengths, widths - lengths)
    return np.lexsort(keys if pools is None else (*keys, pools))


def _numbered(costs: Ints, budget: int) -> Ints:
    """Which of the stretches of `budget` tokens laid end to end each row begins in, [n]."""
    return (np.cumsum(costs) - costs) // budget


def _starts(widths: Ints, budget: int) -> Ints:
    """Where steps begin, [steps]; a last one of less than half a budget belongs to the one before it."""
    starts = np.flatnonzero(np.diff(_numbered(widths, budget), prepend=-1))
    if len(starts) > 1 and 2 * int(widths[starts[-1] :].sum()) < budget:
        starts = starts[:-1]
    return starts


def micro_batches(plan: PaddedPlan, rows: Ints, budget: int) -> list[Ints]:
    """`rows`, like lengths side by side, in parts of up to `budget` tokens with their padding, which is little."""
    parts: list[Ints] = []
    start, widest, real = 0, 0, 0
    for place, width in enumerate(plan.widths[rows].tolist()):
        padded = max(widest, width) * (place + 1 - start)
        loose = real >= _FEWEST and padded - real - width > _SLACK * padded
        if place > start and (padded > budget or loose):
            parts.append(rows[start:place])
            start, widest, real = place, 0, 0
        widest, real = max(widest, width), real + width
    if len(rows):
        parts.append(rows[start:])
    return parts

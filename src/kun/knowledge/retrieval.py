"""Finding passages: by meaning, by words, and word for word, in one score.

Ranks throw away how much better the first was than the second, so scores are fused, not ranks: each kind is put
on a scale of its own best, and added. The best passages are then looked at token by token, which is too dear for
all. What stands word for word goes before everything else.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.exact import ExactText
from kun.knowledge.interaction import max_sim
from kun.knowledge.lexical import BM25Index
from kun.knowledge.passage import Reasons
from kun.knowledge.rows import Table

_SPREAD = 0.12
"""How far below the best a cosine is nothing: cosines of text encoders lie close together."""
_TOKEN_SPREAD = 0.06
"""The same for the mean of many tokens' nearest, which lie closer."""
_WORDS = 1.0
_MEANING = 1.0
_COVERAGE = 0.5
_CANDIDATES = 32
"""Passages that are looked at token by token."""


class Index:
    """The passages of a knowledge base, ready to be searched. Nothing changes after `build`."""

    def __init__(self, table: Table, lexicon: BM25Index, exact: ExactText) -> None:
        self._table, self._lexicon, self._exact = table, lexicon, exact

    @classmethod
    def build(cls, table: Table, documents: dict[str, str]) -> "Index":
        """An index of `table`, whose passages are cut from `documents` (the whole texts, by name)."""
        texts = [
            f"{source} {heading} {text}"
            for source, heading, text in zip(table.sources, table.headings, table.texts, strict=True)
        ]
        return cls(table, BM25Index(texts), ExactText(documents, table.sources, table.starts, table.ends))

    def search(
        self,
        query: str,
        vector: NDArray[np.float32],
        k: int,
        allowed: Collection[str] | None = None,
        states: NDArray[np.float32] | None = None,
    ) -> list[tuple[int, float, Reasons]]:
        """The `k` best rows for `query`, its unit `vector` [d] and its tokens' `states` [t, d]: score and reasons.

        `allowed` are the names of the documents to look in; None means all. Best first. Scores lie between 2 and 3
        for passages that hold the query word for word, between 1 and 2 for those that hold it within longer words,
        and between 0 and 1 for all others; of those that hold it, also by how much of it they hold.
        """
        cosine = self._table.vectors @ vector
        found = self._lexicon.search(query)
        held = self._exact.search(query)
        scores = fused(cosine, found.scores, found.coverage)
        if allowed is not None:
            outside = [row for row, source in enumerate(self._table.sources) if source not in allowed]
            scores[outside] = -np.inf
        nearest = np.zeros_like(scores)
        if states is not None and len(states):
            scores = self._looked_at(scores, states, nearest)
        within = np.where(held.letters > 0, 1 + (scores + held.letters) / 2, scores)
        scores = np.where(held.words > 0, 2 + (scores + held.words) / 2, within)

        def reasons(row: int) -> Reasons:
            exact = bool(held.words[row])
            return Reasons(
                exact,
                float(found.coverage[row]),
                float(cosine[row]),
                within=bool(held.letters[row]) and not exact,
                tokens=float(nearest[row]),
            )

        return [(row, float(scores[row]), reasons(row)) for row in _best(scores, k)]

    def _looked_at(
        self, scores: NDArray[np.float32], states: NDArray[np.float32], nearest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Half of each score, and for the best of them as much again by how near their tokens come.

        So the best stay before all others. One whose tokens were not kept has its score for both halves. The
        cosines of tokens are put into `nearest` [n].
        """
        best = np.array(_best(scores, _CANDIDATES), dtype=np.int64)
        if not len(best):
            return scores
        nearest[best] = max_sim(states, self._table.tokens(best.tolist()))
        closeness = np.where(nearest[best] > 0, _nearness(nearest[best], _TOKEN_SPREAD), scores[best])
        halves = scores / 2
        halves[best] += closeness / 2
        return halves.astype(np.float32)


def fused(
    cosine: NDArray[np.float32], words: NDArray[np.float32], coverage: NDArray[np.float32]
) -> NDArray[np.float32]:
    """One score in [0, 1] for each passage, from its cosine, its BM25 score and its coverage, all [n]."""
    if not len(cosine):
        return cosine
    best = words.max()
    lexical = words / best if best > 0 else words
    total = _MEANING * _nearness(cosine, _SPREAD) + _WORDS * lexical + _COVERAGE * coverage
    return (total / (_MEANING + _WORDS + _COVERAGE)).astype(np.float32)


def _nearness(cosine: NDArray[np.float32], spread: float) -> NDArray[np.float32]:
    """1 for the best, falling to 0 at `spread` below it."""
    near: NDArray[np.float32] = np.maximum(0.0, 1.0 - (cosine.max() - cosine) / spread).astype(np.float32)
    return near


def _best(scores: NDArray[np.float32], k: int) -> list[int]:
    """The rows of the `k` largest scores, best first, the earlier row first among equals."""
    count = min(k, len(scores))
    if count < len(scores):
        edge = np.partition(scores, len(scores) - count)[len(scores) - count]
        rows = np.flatnonzero(scores >= edge)
    else:
        rows = np.arange(len(scores))
    ordered = rows[np.argsort(-scores[rows], kind="stable")][:count]
    return [int(row) for row in ordered if np.isfinite(scores[row])]

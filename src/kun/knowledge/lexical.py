"""Search by words: BM25 (Robertson and Zaragoza, 2009) over terms in both languages, in memory.

Scores of a term in a passage do not depend on the query, so they are computed when the index is built; a query
adds up a few short arrays.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.text.words import STOP_WORDS, words

_K1 = 1.2
_B = 0.6
_STOP_WEIGHT = 0.1
"""Small words say little, but "to be or not to be" has no others."""
_MOST_TERMS = 512
"""Distinct terms of a query that are looked up: a pasted page is found by its first hundreds."""


@dataclass(frozen=True)
class Found:
    """For each passage: `scores` float32 [n] by BM25, and `coverage` [n], the share of the query's weight met."""

    scores: NDArray[np.float32]
    coverage: NDArray[np.float32]


class BM25Index:
    """Which term stands in which passage, and how much it counts there."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._n = len(texts)
        counted = [Counter(words(text)) for text in texts]
        self._ids: dict[str, int] = {}
        rows: list[int] = []
        terms: list[int] = []
        counts: list[int] = []
        for row, counter in enumerate(counted):
            for term, count in counter.items():
                rows.append(row)
                terms.append(self._ids.setdefault(term, len(self._ids)))
                counts.append(count)
        self._pack(np.array(rows, np.int32), np.array(terms, np.int32), np.array(counts, np.float32))

    def _pack(self, rows: NDArray[np.int32], terms: NDArray[np.int32], counts: NDArray[np.float32]) -> None:
        lengths = np.bincount(rows, weights=counts, minlength=self._n).astype(np.float32)
        mean = float(lengths.mean()) if self._n else 1.0
        order = np.argsort(terms, kind="stable")
        self._rows = rows[order]
        found_in = np.bincount(terms, minlength=len(self._ids))
        self._starts = np.concatenate([[0], np.cumsum(found_in)])
        self._idf = np.log1p((self._n - found_in + 0.5) / (found_in + 0.5)).astype(np.float32)
        tf, length = counts[order], lengths[self._rows]
        self._impact = tf * (_K1 + 1) / (tf + _K1 * (1 - _B + _B * length / max(mean, 1.0)))

    def search(self, query: str) -> Found:
        """How well each passage fits the words of `query`."""
        scores = np.zeros(self._n, np.float32)
        met = np.zeros(self._n, np.float32)
        weight = 0.0
        for term in list(dict.fromkeys(words(query)))[:_MOST_TERMS]:
            number = self._ids.get(term)
            idf = float(np.log1p(2 * self._n + 1)) if number is None else float(self._idf[number])
            worth = idf * (_STOP_WEIGHT if term in STOP_WORDS else 1.0)
            weight += worth
            if number is None:
                continue
            there = slice(self._starts[number], self._starts[number + 1])
            scores[self._rows[there]] += worth * self._impact[there]
            met[self._rows[there]] += worth
        return Found(scores, met / weight if weight else met)

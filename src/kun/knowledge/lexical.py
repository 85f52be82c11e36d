"""Search by words: BM25 (Robertson and Zaragoza, 2009) over terms in both languages.

Which term occurs in which passage lies in arrays, terms as numbers: a query looks at its own terms only. Several
of these parts make one index, for which terms are as rare as they are in all of it.
"""

import hashlib
from array import array
from collections.abc import Mapping, Sequence
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
_MOST_COUNT = 65_535


@dataclass(frozen=True)
class Found:
    """For each passage: `scores` float32 [n] by BM25, and `coverage` [n], the share of the query's weight met."""

    scores: NDArray[np.float32]
    coverage: NDArray[np.float32]


class _Numbering(dict[str, int]):
    """Terms in the order in which they were first met, each with its number."""

    def __missing__(self, term: str) -> int:
        self[term] = number = len(self)
        return number


class Postings:
    """The terms of each passage, and how often they occur: arrays only, which may lie in a file."""

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self.arrays = arrays
        self.lengths: NDArray[np.float32] = arrays["lengths"].astype(np.float32)
        self._terms, self._begins = arrays["terms"], arrays["term_begin"]
        self._rows, self._counts = arrays["term_row"], arrays["term_count"]

    @classmethod
    def build(cls, texts: Sequence[str]) -> "Postings":
        """Of each passage the text whose words it is found by."""
        ids = _Numbering()
        occurring, sizes = array("i"), array("i", [0])
        for text in texts:
            occurring.extend(map(ids.__getitem__, words(text)))
            sizes.append(len(occurring))
        numbers = np.array([_number(term) for term in ids], np.uint64)
        ranks = np.empty(len(numbers), np.int64)
        ranks[np.argsort(numbers)] = np.arange(len(numbers))
        ends = np.frombuffer(sizes, np.int32)
        lengths = ends[1:] - ends[:-1]
        # by term, then by passage, in one sort of numbers
        place = ranks[np.frombuffer(occurring, np.int32)] * len(texts)
        place += np.repeat(np.arange(len(texts)), lengths)
        place.sort()
        firsts = np.flatnonzero(np.diff(place, prepend=-1))
        pairs = place[firsts]
        counts = np.diff(firsts, append=len(place))
        holders = np.bincount(pairs // max(len(texts), 1), minlength=len(ids))
        return cls(
            {
                "lengths": lengths.astype(np.float32),
                "terms": np.sort(numbers),
                "term_begin": np.concatenate([[0], np.cumsum(holders)]).astype(np.int64),
                "term_row": (pairs % max(len(texts), 1)).astype(np.int32),
                "term_count": np.minimum(counts, _MOST_COUNT).astype(np.uint16),
            }
        )

    def of(self, term: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The passages that have `term`, and how often."""
        number = np.uint64(_number(term))
        place = int(np.searchsorted(self._terms, number))
        if place == len(self._terms) or self._terms[place] != number:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        there = slice(int(self._begins[place]), int(self._begins[place + 1]))
        return self._rows[there].astype(np.int64), self._counts[there].astype(np.float32)


def search_words(parts: Sequence[Postings], query: str) -> Found:
    """The fit of each passage, those of all `parts` in order, with the words of `query`."""
    firsts = np.cumsum([0, *(len(part.lengths) for part in parts)])
    n = int(firsts[-1])
    scores, met = np.zeros(n, np.float32), np.zeros(n, np.float32)
    mean = max(sum(float(part.lengths.sum()) for part in parts) / max(n, 1), 1.0)
    total = 0.0
    for term in list(dict.fromkeys(words(query)))[:_MOST_TERMS]:
        found = [part.of(term) for part in parts]
        holders = sum(len(rows) for rows, _ in found)
        idf = (
            float(np.log1p((n - holders + 0.5) / (holders + 0.5))) if holders else float(np.log1p(2 * n + 1))
        )
        worth = np.float32(idf * (_STOP_WEIGHT if term in STOP_WORDS else 1.0))
        total += float(worth)
        for part, first, (rows, counts) in zip(parts, firsts, found, strict=False):
            impact = counts * (_K1 + 1) / (counts + _K1 * (1 - _B + _B * part.lengths[rows] / mean))
            scores[first + rows] += worth * impact.astype(np.float32)
            met[first + rows] += worth
    return Found(scores, met / np.float32(total) if total else met)


def _number(term: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )

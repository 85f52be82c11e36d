"""What of the evaluation stands in the training data too: whole documents, and runs of 13 tokens.

The runs are those of GPT-3's authors (Brown et al., arXiv:2005.14165, appendix C).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.data.columns import ranges
from kun.data.store import TokenStore

GRAM = 13
_TOKENS = 2**21  # hashed at a time
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits well mixed
_FILTER_BITS = 24


@dataclass(frozen=True)
class Overlap:
    """Of `documents` for evaluation, `identical` are in the training data whole, `touched` share a run with it.

    `places` are those that do either; `grams` is the share of all runs of the evaluation that training has.
    """

    documents: int
    identical: int
    touched: int
    grams: float
    places: NDArray[np.int64]


def overlap(training: TokenStore, evaluation: TokenStore, n: int = GRAM) -> Overlap:
    """Compare two stores made with the same tokenizer; of pairs, the sources."""
    identical = np.isin(evaluation.digests, training.digests)
    owners, hashes = _all_grams(evaluation, n)
    known = np.unique(hashes)
    met = np.zeros(len(known), np.bool_)
    screen = np.zeros(2**_FILTER_BITS, np.bool_)
    screen[known >> np.uint64(64 - _FILTER_BITS)] = True
    if len(known):
        for _, grams in _grams(training, n):
            likely = grams[screen[grams >> np.uint64(64 - _FILTER_BITS)]]
            places = np.minimum(np.searchsorted(known, likely), len(known) - 1)
            met[places[known[places] == likely]] = True
    shared = met[np.searchsorted(known, hashes)]
    touched = np.zeros(len(evaluation), np.bool_)
    touched[owners[shared]] = True
    return Overlap(
        documents=len(evaluation),
        identical=int(identical.sum()),
        touched=int(touched.sum()),
        grams=float(shared.mean()) if len(shared) else 0.0,
        places=np.flatnonzero(identical | touched),
    )


def _all_grams(store: TokenStore, n: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    parts = list(_grams(store, n))
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    owners, hashes = zip(*parts, strict=True)
    return np.concatenate(owners), np.concatenate(hashes)


def _grams(store: TokenStore, n: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
    """The documents and hashes of all runs of `n` tokens, some documents at a time; no run crosses a document's end."""
    column = "source" if store.has_sources else "ids"
    lengths = store.source_lengths if store.has_sources else store.lengths
    starts = store.source_starts if store.has_sources else store.starts
    documents = np.flatnonzero(lengths >= n)
    groups = np.cumsum(lengths[documents]) // _TOKENS
    for some in np.split(documents, np.flatnonzero(np.diff(groups)) + 1):
        counts = lengths[some]
        if not len(some):
            continue
        along = ranges(counts)
        tokens = store.take(column, np.repeat(starts[some], counts) + along).astype(np.uint64)
        ends = np.repeat(counts, counts)
        begins = np.flatnonzero(along + n <= ends)
        yield np.repeat(some, counts)[begins], _hashed(tokens, n)[begins]


def _hashed(tokens: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """A hash of the `n` tokens from each place on; the last n − 1 places hold nothing of use."""
    hashes = np.zeros(len(tokens), np.uint64)
    mixed = (tokens + np.uint64(1)) * _FACTOR
    mixed ^= mixed >> np.uint64(29)
    with np.errstate(over="ignore"):
        for shift in range(n):
            hashes *= _FACTOR
            hashes[: len(tokens) - shift] += mixed[shift:]
    hashes ^= hashes >> np.uint64(32)
    return hashes * _FACTOR

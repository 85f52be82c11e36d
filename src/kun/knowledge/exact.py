"""Word for word: passages that hold a query as it stands, whatever its case, spacing or width, even across a cut."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kun.text.fold import fold, fold_with_offsets

_BETWEEN = "\x00"
_MOST_PLACES = 10_000


class ExactText:
    """All documents of a knowledge base, folded, as one text that a substring search runs through."""

    def __init__(
        self,
        documents: dict[str, str],
        sources: Sequence[str],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> None:
        self._documents = documents
        self._names = list(documents)
        folded = [fold(text).replace(_BETWEEN, "") for text in documents.values()]
        self._text = _BETWEEN.join(folded)
        self._begins = [0, *np.cumsum([len(text) + 1 for text in folded]).tolist()]
        self._rows = _rows_by_source(sources)
        self._starts, self._ends = starts, ends
        # a query's hits lie in few documents; mapping them back needs those documents' offsets
        self._offsets = lru_cache(maxsize=32)(self._offsets_of)

    def search(self, query: str) -> dict[int, float]:
        """Rows of passages that hold `query`, with the largest share of it that each holds (1 for all of it)."""
        wanted = fold(query).replace(_BETWEEN, "")
        found: dict[int, float] = {}
        if not wanted:
            return found
        place = self._text.find(wanted)
        for _ in range(_MOST_PLACES):
            if place < 0:
                break
            self._hold(place, len(wanted), found)
            place = self._text.find(wanted, place + 1)
        return found

    def _hold(self, place: int, size: int, found: dict[int, float]) -> None:
        number = bisect_right(self._begins, place) - 1
        name = self._names[number]
        offsets = self._offsets(name)
        first = place - self._begins[number]
        # the end is the last character's own, not the next one's: white space between them belongs to no match
        start, end = int(offsets[first]), int(offsets[first + size - 1]) + 1
        rows = self._rows.get(name, range(0))
        # passages follow each other: from the first that ends behind the start
        for row in rows[bisect_right(rows, start, key=self._ends.__getitem__) :]:
            shared = min(end, int(self._ends[row])) - max(start, int(self._starts[row]))
            if shared <= 0:
                break
            found[row] = max(found.get(row, 0.0), shared / (end - start))

    def _offsets_of(self, name: str) -> NDArray[np.int64]:
        return fold_with_offsets(self._documents[name])[1]


def _rows_by_source(sources: Sequence[str]) -> dict[str, range]:
    """The rows of each document, which stand together."""
    begins = [row for row, source in enumerate(sources) if row == 0 or source != sources[row - 1]]
    return {sources[begin]: range(begin, end) for begin, end in pairwise([*begins, len(sources)])}

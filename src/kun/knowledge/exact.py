"""Word for word: passages that hold a query as it stands, whatever its case, spacing or width, even across a cut."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kun.text.fold import fold, fold_with_offsets
from kun.text.words import word_edges

_BETWEEN = "\x00"
_STEPS = 64
"""A query that overlaps itself is found this often within its own length, so that no text takes for ever."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Held:
    """For each passage the largest share of the query that it holds, float32 [n], 0 for none of it.

    `words` counts only where the query begins and ends with a word, as "art" does not in "start"; `letters` anywhere.
    """

    words: Floats
    letters: Floats


class ExactText:
    """All documents of a knowledge base, folded, as one text that a substring search runs through."""

    def __init__(
        self,
        documents: dict[str, str],
        sources: Sequence[str],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> None:
        """`documents` by name; passage i is `[starts[i], ends[i])` of `sources[i]`, whose passages stand together."""
        self._starts, self._ends = np.empty_like(starts), np.empty_like(ends)
        parts: list[str] = []
        edges: list[NDArray[np.bool_]] = []
        begin = 0
        for name, rows in _rows_by_source(sources):
            document = documents[name].replace(_BETWEEN, " ")
            folded, offsets = fold_with_offsets(document)
            self._starts[rows] = begin + np.searchsorted(offsets, starts[rows])
            self._ends[rows] = begin + np.searchsorted(offsets, ends[rows])
            parts.append(folded)
            edges.append(word_edges(document, offsets))
            begin += len(folded) + len(_BETWEEN)
        self._text = _BETWEEN.join(parts)
        self._edges = np.concatenate(edges) if edges else np.zeros(0, np.bool_)

    def search(self, query: str) -> Held:
        """Which passages hold `query`."""
        held = Held(np.zeros(len(self._starts), np.float32), np.zeros(len(self._starts), np.float32))
        wanted = fold(query).replace(_BETWEEN, "")
        places = self._places(wanted)
        if len(places):
            whole = self._edges[places] & self._edges[places + len(wanted)]
            self._hold(places[whole], len(wanted), held.words)
            self._hold(places, len(wanted), held.letters)
        return held

    def _places(self, wanted: str) -> NDArray[np.int64]:
        """Where `wanted` stands in the text."""
        found = array("q")
        place = self._text.find(wanted) if wanted else -1
        while place >= 0:
            found.append(place)
            place = self._text.find(wanted, place + max(1, len(wanted) // _STEPS))
        return np.frombuffer(found, np.int64)

    def _hold(self, places: NDArray[np.int64], size: int, shares: Floats) -> None:
        """Note in `shares` what the passages have of the matches of `size` characters that begin at `places`."""
        first = np.searchsorted(self._ends, places, side="right")
        behind = np.searchsorted(self._starts, places + size)
        while (within := first < behind).any():
            places, first, behind = places[within], first[within], behind[within]
            begins = np.maximum(places, self._starts[first])
            shared = np.minimum(places + size, self._ends[first]) - begins
            np.maximum.at(shares, first, (shared / size).astype(np.float32))
            first = first + 1


def _rows_by_source(sources: Sequence[str]) -> list[tuple[str, slice]]:
    """The documents in the order of their rows, which stand together."""
    begins = [row for row, source in enumerate(sources) if row == 0 or source != sources[row - 1]]
    return [(sources[begin], slice(begin, end)) for begin, end in pairwise([*begins, len(sources)])]

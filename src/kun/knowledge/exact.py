"""Word for word: passages that hold a query itself, whatever its case, spacing or width, even across a cut.

A document is searched folded (`kun.text.fold`), and once more where a word is parted at the end of a line or Markdown
is inside of words (`max\\_size`, `**bold**`): there also as a reader reads it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.text.fold import fold, fold_with_offsets
from kun.text.words import word_edges

_BETWEEN = "\x00"
_UNREAD = re.compile(r"(?<=[^\W\d_])-[ \t]*\n[ \t]*(?=[^\W\d_])|\\(?=[!-/:-@\[-`{-~])|\*\*|`")
"""A hyphen at the end of a line within a word, Markdown's escapes, and its marks for bold text and code."""
_STEPS = 64
"""A query that overlaps itself is found this often within its own length, so that no text takes for ever."""
_GRAM = 4
"""Characters in a row whose absence tells at once that a longer query is nowhere."""
_FACTORS = np.array([2654435761, 2246822519, 3266489917, 668265263], np.uint32)
_CHUNK = 1 << 20
_LEAST_BITS = 13
_CELLS = 1 << 22
"""Passages times characters that are looked at together: what fits in the processor's cache."""

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Codes = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class Held:
    """For each passage the largest share of the query that it holds, float32 [n], 0 for none of it.

    `words` counts only where the query begins and ends with a word, as "art" does not in "start"; `letters` anywhere.
    """

    words: Floats
    letters: Floats


class ExactText:
    """Documents, folded, as one text that a substring search runs through: arrays only, which may lie in a file."""

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], n_passages: int) -> None:
        self.arrays, self._n = arrays, n_passages
        self._codes, self._edges, self._grams = arrays["codes"], arrays["edges"], arrays["grams"]
        self._starts: Places = arrays["entry_start"].astype(np.int64)
        self._ends: Places = arrays["entry_end"].astype(np.int64)
        self._rows: Places = arrays["entry_row"].astype(np.int64)
        self._holders_begin = arrays["letter_begin"]
        self._holders: NDArray[np.uint32] = arrays["letter_row"].view(np.uint32)
        alphabet, counts = arrays["alphabet"].tolist(), arrays["alphabet_count"].tolist()
        self._frequency: dict[int, int] = dict(zip(alphabet, counts, strict=True))
        self._letters = {code: number for number, code in enumerate(alphabet)}

    @classmethod
    def build(cls, documents: Sequence[tuple[str, Places, Places]]) -> "ExactText":
        """Of each document its text and where its passages start and end; passages are numbered through."""
        parts: list[str] = []
        edges: list[NDArray[np.bool_]] = []
        starts: list[Places] = []
        ends: list[Places] = []
        rows: list[Places] = []
        begin = first = 0
        for text, begins, finishes in documents:
            plain = text.replace(_BETWEEN, " ")
            for folded, offsets, marks in _foldings(plain):
                starts.append(begin + np.searchsorted(offsets, begins))
                ends.append(begin + np.searchsorted(offsets, finishes))
                rows.append(np.arange(first, first + len(begins)))
                parts.append(folded)
                edges.append(marks)
                begin += len(folded) + len(_BETWEEN)
            first += len(begins)
        codes = _codes_of(_BETWEEN.join(parts))
        alphabet, counts = np.unique(codes, return_counts=True)
        letters: NDArray[np.int64] = alphabet.astype(np.int64)
        all_edges = np.concatenate([*edges, np.ones(1, np.bool_)])
        bounds, row = np.stack([_joined(starts), _joined(ends)], axis=1), _joined(rows)
        holders_begin, holders = _holders(codes, all_edges, letters, bounds, row)
        return cls(
            {
                "codes": codes,
                "edges": np.packbits(all_edges),
                "letter_begin": holders_begin,
                "letter_row": holders,
                "grams": _grams_of(codes),
                "alphabet": alphabet.astype(np.uint32),
                "alphabet_count": counts.astype(np.int64),
                "entry_start": np.ascontiguousarray(bounds[:, 0]),
                "entry_end": np.ascontiguousarray(bounds[:, 1]),
                "entry_row": row,
            },
            first,
        )

    def search(self, query: str) -> Held:
        """Which passages hold `query`."""
        held = Held(np.zeros(self._n, np.float32), np.zeros(self._n, np.float32))
        wanted = _codes_of(fold(query).replace(_BETWEEN, ""))
        if len(wanted) == 1:
            return self._with_letter(int(wanted[0]), held)
        places = self._places(wanted)
        if len(places):
            whole = self._is_edge(places) & self._is_edge(places + len(wanted))
            self._hold(places[whole], len(wanted), held.words)
            self._hold(places, len(wanted), held.letters)
        return held

    def _with_letter(self, code: int, held: Held) -> Held:
        """Single characters are everywhere, so that it is kept which passages have which."""
        number = self._letters.get(code)
        if number is not None:
            found = self._holders[int(self._holders_begin[number]) : int(self._holders_begin[number + 1])]
            held.letters[found >> 1] = 1
            held.words[found[(found & 1).astype(np.bool_)] >> 1] = 1
        return held

    def _places(self, wanted: Codes) -> Places:
        """Where `wanted` begins in the text, in order: its rarest character is looked for, then the others there."""
        none = np.zeros(0, np.int64)
        size, letters = len(wanted), wanted.tolist()
        if not 0 < size <= len(self._codes) or any(code not in self._frequency for code in letters):
            return none
        if size >= _GRAM and not _may_hold(self._grams, wanted):
            return none
        order = sorted(range(size), key=lambda place: self._frequency[letters[place]])
        rarest = order[0]
        within = self._codes[rarest : len(self._codes) - size + rarest + 1]
        places: Places = np.flatnonzero(within == wanted[rarest])
        for place in order[1:_STEPS]:
            if not len(places):
                return none
            places = places[self._codes[places + place] == wanted[place]]
        if size <= _STEPS:
            return places
        places = _spread(places, size)
        same = [bool((self._codes[place : place + size] == wanted).all()) for place in places.tolist()]
        return places[np.array(same, np.bool_)]

    def _is_edge(self, places: Places) -> NDArray[np.bool_]:
        edges: NDArray[np.bool_] = (
            self._edges[places >> 3] >> (7 - (places & 7)).astype(np.uint8) & 1
        ).astype(np.bool_)
        return edges

    def _hold(self, places: Places, size: int, shares: Floats) -> None:
        """Note in `shares` what the passages have of the matches of `size` characters that begin at `places`."""
        # passages that hold one whole are found from the passages' side: there are fewer of them
        low = np.searchsorted(places, self._starts)
        whole = np.searchsorted(places, self._ends - size, side="right") > low
        np.maximum.at(shares, self._rows[whole], np.float32(1))
        if size == 1:
            return
        first = np.searchsorted(self._ends, places, side="right")
        known = np.minimum(first, len(self._ends) - 1)
        parted = (self._starts[known] > places) | (self._ends[known] < places + size) | (first != known)
        places, first = places[parted], first[parted]
        behind = np.searchsorted(self._starts, places + size)
        while (within := first < behind).any():
            places, first, behind = places[within], first[within], behind[within]
            begins = np.maximum(places, self._starts[first])
            shared = np.minimum(places + size, self._ends[first]) - begins
            np.maximum.at(shares, self._rows[first], (shared / size).astype(np.float32))
            first = first + 1


def _holders(
    codes: Codes, edges: NDArray[np.bool_], alphabet: Places, bounds: Places, rows: Places
) -> tuple[Places, NDArray[np.uint32]]:
    """For each character of the `alphabet` where its holders begin, [a + 1], and all holders.

    A holder is twice the row of a passage that has the character, and one more where it has it as a word.
    `bounds` [n, 2] are those of the passages, whose `rows` come in any order.
    """
    numbers = np.zeros(int(alphabet[-1]) + 1 if len(alphabet) else 1, np.int64)
    numbers[alphabet] = np.arange(len(alphabet))
    at_once = max(1, _CELLS // max(len(alphabet), 1))
    letters: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    holders: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for first in range(0, len(rows), at_once):
        part = bounds[first : first + at_once]
        sizes = part[:, 1] - part[:, 0]
        places = np.arange(int(sizes.sum())) + np.repeat(part[:, 0] - np.cumsum(sizes) + sizes, sizes)
        cells = numbers[codes[places]] + np.repeat(np.arange(len(part)), sizes) * len(alphabet)
        seen = np.zeros((len(part), len(alphabet)), np.uint8)
        seen.ravel()[cells] = 1
        seen.ravel()[cells[edges[places] & edges[places + 1]]] = 2
        entry, letter = np.nonzero(seen)
        letters.append(letter)
        holders.append(2 * rows[first + entry] + (seen[entry, letter] == 2))
    letter = np.concatenate(letters)
    order = np.argsort(letter.astype(np.uint16 if len(alphabet) < 1 << 16 else np.int64), kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(letter, minlength=len(alphabet)))])
    return begins.astype(np.int64), np.concatenate(holders)[order].astype(np.uint32)


def _foldings(text: str) -> list[tuple[str, Places, NDArray[np.bool_]]]:
    """The text folded, its offsets, and where no word goes on; a second time as it is read, where that differs."""
    folded, offsets = fold_with_offsets(text)
    foldings = [(folded, offsets, word_edges(text, offsets))]
    spans = [match.span() for match in _UNREAD.finditer(text)]
    if spans:
        kept = np.ones(len(text), np.bool_)
        for start, end in spans:
            kept[start:end] = False
        places = np.append(np.flatnonzero(kept), len(text))
        read = "".join(text[a:b] for a, b in _between(spans, len(text)))
        folded, offsets = fold_with_offsets(read)
        foldings.append((folded, places[offsets], word_edges(read, offsets)))
    return foldings


def _between(spans: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The stretches between the spans, in order."""
    begins = [0, *(end for _, end in spans)]
    return list(zip(begins, [*(start for start, _ in spans), size], strict=True))


def _spread(places: Places, size: int) -> Places:
    """The places, thinned where a text overlaps itself too often."""
    step = size // _STEPS
    if step <= 1 or len(places) < 2:
        return places
    kept = np.zeros(len(places), np.bool_)
    place = 0
    while place < len(places):
        kept[place] = True
        place = int(np.searchsorted(places, places[place] + step))
    return places[kept]


def _codes_of(text: str) -> Codes:
    """The characters as numbers, two bytes each where that is enough."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return codes.astype(np.uint16) if not len(codes) or codes.max() < 1 << 16 else codes


def _joined(parts: Sequence[Places]) -> Places:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def _hashes(codes: Codes) -> NDArray[np.uint32]:
    """A number for each run of `_GRAM` characters."""
    count = len(codes) - _GRAM + 1
    total = np.zeros(max(count, 0), np.uint32)
    for place, factor in enumerate(_FACTORS):
        total += codes[place : place + len(total)].astype(np.uint32) * factor
        total ^= total >> np.uint32(15)
    return total


def _grams_of(codes: Codes) -> NDArray[np.uint8]:
    """A bit for the number of each run of `_GRAM` characters that the text has."""
    bits = max(_LEAST_BITS, len(codes).bit_length())
    seen = np.zeros(1 << bits, np.bool_)
    for start in range(0, len(codes), _CHUNK):
        seen[_hashes(codes[start : start + _CHUNK + _GRAM - 1]) & np.uint32(len(seen) - 1)] = True
    return np.packbits(seen)


def _may_hold(grams: NDArray[np.generic], wanted: Codes) -> bool:
    hashes = _hashes(wanted) & np.uint32(8 * len(grams) - 1)
    return bool((grams[hashes >> 3] >> (7 - (hashes & 7)).astype(np.uint8) & 1).all())

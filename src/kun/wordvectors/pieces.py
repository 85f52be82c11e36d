"""A vector for a word that has none, rare or misspelt, put together from the vectors of its pieces.

That a word is the sum of its pieces is fastText's idea (Bojanowski et al., arXiv:1607.04606), which trains a vector for
each run of letters. Vectors that were trained without them are taken apart afterwards (after Zhao et al., "Generalizing
word embeddings using bag of subwords", arXiv:1809.04259): a run's vector is the mean of the words that hold it. A GPT
does neither: it keeps the vector of each piece apart, in a place of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.errors import BadInput
from kun.text.words import is_han
from kun.wordvectors.vectors import Floats, WordVectors

SHORTEST, LONGEST = 3, 5
"""Letters of a run; the ends of a word count as letters, "<" and ">"."""
LOOKED_AT = 100_000
"""Words, the commonest, whose runs are known."""
_LONGEST_WORD = 100


@dataclass(frozen=True)
class Composition:
    """A word's vector, float32 [d], as the sum of its `pieces`; `rows` hold those that are words."""

    word: str
    pieces: tuple[str, ...]
    vector: Floats
    rows: frozenset[int] = frozenset()
    left_out: tuple[str, ...] = ()
    """Pieces of the word without a vector that can be named: parts of a character."""


def runs(word: str) -> Iterator[str]:
    """Runs of letters of a word, its ends marked: "<ki", "kin" … of king; of a short one the whole word alone."""
    marked = f"<{word}>"
    for length in range(SHORTEST, min(LONGEST, len(marked)) + 1):
        for start in range(len(marked) - length + 1):
            yield marked[start : start + length]


def compose(vectors: WordVectors, word: str) -> Composition:
    """The vector of a word from the runs of letters that it shares with others; its own vector is not used.

    A run that few words have says more, so that it weighs more: 1 / the number of its words. Raises `BadInput` for a
    word of which no run is known.
    """
    word = word.strip().casefold()
    if not word or len(word) > _LONGEST_WORD:
        raise BadInput(f"{word[:40]!r} is no word of 1 to {_LONGEST_WORD} letters: name one.")
    wanted = {run: number for number, run in enumerate(dict.fromkeys(_pieces(word)))}
    sums = np.zeros((len(wanted), vectors.dimensions), np.float32)
    met: NDArray[np.int64] = np.zeros(len(wanted), np.int64)
    for row, other in enumerate(vectors.words[:LOOKED_AT]):
        if other == word:
            continue
        shared = {wanted[run] for run in _pieces(other) if run in wanted}
        if shared:
            numbers = list(shared)
            sums[numbers] += vectors.vectors[row] * vectors.inverse_lengths[row]
            met[numbers] += 1
    known = np.flatnonzero(met)
    if not len(known):
        raise BadInput(f"No word of {vectors.name} shares letters with {word!r}: name another.")
    means = sums[known] / met[known, None]
    vector: Floats = (means / met[known, None]).sum(axis=0)
    pieces = list(wanted)
    rarest_first = sorted(known, key=lambda number: int(met[number]))
    return Composition(word, tuple(pieces[number] for number in rarest_first), vector)


def _pieces(word: str) -> Iterator[str]:
    """Runs of letters, and the Chinese characters of a word, which carry the meaning."""
    yield from (letter for letter in word if is_han(letter))
    yield from runs(word)

"""Words with a vector for each: neighbours, analogies, sums."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import new_folder
from kun.errors import BadInput, DamagedFile
from kun.hub.layout import LINEAGE
from kun.hub.store import display_name
from kun.hub.word_vectors import StoredVectors, read_word_vectors, write_word_vectors
from kun.models.kinds import Candidate
from kun.text.words import cut_words
from kun.wordvectors.spelling import unknown_word
from kun.wordvectors.text_format import TEXT_SUFFIX, read_text, write_text

log = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float32]
Near: TypeAlias = list[tuple[str, float]]
"""Words with their cosines, the nearest first."""

MOST_NEIGHBOURS = 1000


class WordVectors:
    """Words and a vector for each, the commonest first; ready for callers from several threads.

    `words` are all different, `vectors` is float32 [n, d] with their rows. `outputs` are word2vec's output rows, which
    its loss needs; `counts` how often each word came; `config` how they were made.
    """

    def __init__(
        self,
        words: Sequence[str],
        vectors: Floats,
        *,
        name: str = "vectors",
        outputs: Floats | None = None,
        counts: NDArray[np.int64] | None = None,
        config: Mapping[str, object] | None = None,
    ) -> None:
        if vectors.ndim != 2 or len(words) != len(vectors) or not len(words):
            raise BadInput(f"There are {len(words):,} words for vectors of shape {vectors.shape}.")
        self.words, self.vectors, self.name = tuple(words), vectors, name
        self.outputs, self.counts, self.config = outputs, counts, dict(config or {})
        self.index = {word: row for row, word in enumerate(self.words)}
        if len(self.index) < len(self.words):
            raise BadInput(f"The vectors {name} have a word twice: leave one of the two rows out.")

    @classmethod
    def from_candidate(
        cls,
        candidate: Candidate,
        *,
        quantize: str | None = None,
        dtype: object = None,
        device: object = None,
    ) -> "WordVectors":
        """Those in a folder, or in a file in word2vec's text format. Raises `DamagedFile`, `BadInput`."""
        if quantize is not None:
            raise BadInput(f"Word vectors are not quantized: leave quantize = {quantize!r} out.")
        return cls.open(candidate.path)

    @classmethod
    def open(cls, path: Path) -> "WordVectors":
        """Those in a folder, or in a file in word2vec's text format. Raises `DamagedFile`, `BadInput`."""
        name = display_name(path)
        if path.is_file():
            words, vectors = read_text(path)
            return cls(words, vectors, name=name)
        held = read_word_vectors(path)
        try:
            return cls(
                held.words,
                held.vectors,
                name=name,
                outputs=held.outputs,
                counts=held.counts,
                config=held.config,
            )
        except BadInput as error:
            raise DamagedFile(f"{path}: {error}") from error

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return self.row_or_none(word) is not None

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        return int(self.vectors.shape[1])

    @cached_property
    def inverse_lengths(self) -> Floats:
        """One over each vector's length, float32 [n]; zero for a vector of zeros."""
        lengths = np.empty(len(self.words), np.float32)
        for start in range(0, len(lengths), 1 << 16):  # no copy of all of a mapped table
            part = self.vectors[start : start + (1 << 16)]
            lengths[start : start + len(part)] = np.sqrt(np.einsum("nd,nd->n", part, part))
        return np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)

    def row_or_none(self, word: str) -> int | None:
        """The row of a word as it is written, else as the house cuts words (small letters, simplified characters)."""
        row = self.index.get(word)
        if row is None:
            folded = cut_words(word)
            row = self.index.get(folded[0]) if len(folded) == 1 else None
        return row

    def same_word(self, row: int) -> Collection[int]:
        """The rows that hold the word of `row`, written in any way; here it alone."""
        return (row,)

    def row(self, word: str) -> int:
        """The row of a word. Raises `NotFound`, which names those spelled most alike."""
        row = self.row_or_none(word)
        if row is None:
            raise unknown_word(word, self.words, self.name)
        return row

    def __getitem__(self, word: str) -> Floats:
        """The vector of a word, float32 [d]. Raises `NotFound`, which names those spelled most alike."""
        return self.vectors[self.row(word)]

    def unit(self, word: str) -> Floats:
        """The vector of a word at length one, float32 [d]. Raises `NotFound`."""
        row = self.row(word)
        unit: Floats = self.vectors[row] * self.inverse_lengths[row]
        return unit

    def near(self, word: str | Floats, k: int = 5, *, without: Collection[int] = ()) -> Near:
        """The `k` words whose vectors point most nearly where that of a word, or a vector [d], does.

        A word is not among its own neighbours, nor are the rows `without`. Raises `NotFound` for an unknown one,
        `BadInput` for a bad `k` or size.
        """
        if isinstance(word, str):
            row = self.row(word)
            return self._nearest(self.vectors[row], k, {row, *without})
        if word.shape != (self.dimensions,):
            raise BadInput(f"A vector of {self.name} has {self.dimensions} numbers, not {word.shape}.")
        return self._nearest(word, k, set(without))

    def analogy(self, a: str, b: str, c: str, *, exclude: bool = True, k: int = 5) -> Near:
        """The words nearest to b − a + c, of vectors at length one: what is to c as b is to a.

        With `exclude` the three words themselves are left out, as is usual and changes the answer: without it the
        nearest is often b or c (Linzen, arXiv:1606.07736). Of a model's table their other spellings (King, ##king) are
        left out with them. Raises `NotFound`, `BadInput`.
        """
        target: Floats = self.unit(b) - self.unit(a) + self.unit(c)
        asked = {same for word in (a, b, c) for same in self.same_word(self.row(word))}
        return self._nearest(target, k, asked if exclude else set())

    def sum(self, words: Iterable[str], k: int = 5, *, minus: Iterable[str] = ()) -> tuple[Floats, Near]:
        """The sum of the vectors of some words, less those of `minus`, float32 [d], and the words nearest to it, those
        of the sum left out.

        A word as the sum of its pieces is fastText's idea (Bojanowski et al., arXiv:1607.04606); a GPT keeps the vector
        of every piece apart. Raises `NotFound`, `BadInput` where there are none.
        """
        rows = [self.row(word) for word in words]
        if not rows:
            raise BadInput("There are no words to sum: name at least one.")
        less = [self.row(word) for word in minus]
        total: Floats = self.vectors[rows].sum(axis=0) - self.vectors[less].sum(axis=0)
        return total, self._nearest(total, k, {*rows, *less})

    def cosine(self, one: str, other: str) -> float:
        """The cosine of two words' vectors. Raises `NotFound`."""
        return float(self.unit(one) @ self.unit(other))

    def _nearest(self, vector: Floats, k: int, without: set[int]) -> Near:
        if not 1 <= k <= MOST_NEIGHBOURS:
            raise BadInput(f"{k} neighbours cannot be shown: ask for 1 to {MOST_NEIGHBOURS}.")
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not length or not np.isfinite(length):
            raise BadInput(
                "A vector of zeros, or with numbers that are none, points nowhere: it has no neighbours."
            )
        cosines = (self.vectors @ (vector / length)) * self.inverse_lengths
        cosines[list(without)] = -np.inf
        k = min(k, len(self.words) - len(without))
        best = np.argpartition(-cosines, k - 1)[:k] if k else np.empty(0, np.int64)
        best = best[np.argsort(-cosines[best], kind="stable")]
        return [(self.words[row], round(float(cosines[row]), 6)) for row in best]

    def save(self, folder: str | Path, lineage: Mapping[str, object] | None = None) -> Path:
        """Write a folder that `kun.load` opens again, or a file in word2vec's text format where the name ends in .vec.

        Returns its path. The text format leaves out words with spaces, and the log tells how many. Raises `BadInput`
        for a folder that holds other things, `NoSpace`.
        """
        target = Path(folder).absolute()
        if target.suffix == TEXT_SUFFIX:
            if left_out := write_text(target, self.words, self.vectors):
                log.warning(
                    "%d words with spaces were left out of %s, which cannot hold them", left_out, target
                )
            return target
        if target.is_file():
            raise BadInput(f"{target} is a file: name a folder for the vectors.")
        if target.is_dir() and any(target.iterdir()) and not (target / LINEAGE).is_file():
            raise BadInput(f"{target} holds other things: name a new or empty folder for the vectors.")
        held = StoredVectors(self.words, self.vectors, self.outputs, self.counts, self.config)
        with new_folder(target) as fresh:
            write_word_vectors(fresh, held, {"name": display_name(target), **(lineage or {})})
        return target

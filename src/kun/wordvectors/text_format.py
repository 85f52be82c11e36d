"""word2vec's text format: a line with the counts of words and numbers, then a line for each word with its vector.

GloVe's own files, which lack the first line, are read too. gensim reads what is written here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import new_file
from kun.errors import BadInput, DamagedFile

TEXT_SUFFIX = ".vec"
SUFFIXES = (TEXT_SUFFIX, ".txt", ".w2v", ".word2vec")
"""Endings of a file without the first line that is taken for vectors."""
MOST_NUMBERS = 2**16
_LONGEST_LINE = 2**21


def looks_like_text_format(path: Path) -> bool:
    """Whether a file begins as one in this format does."""
    try:
        with path.open("rb") as file:
            first, second = (file.readline(_LONGEST_LINE).decode("utf-8-sig").rstrip() for _ in range(2))
    except (OSError, UnicodeDecodeError):
        return False
    if (counts := _counts(first)) is not None:
        return len(second.split(" ")) == counts[1] + 1 and _is_row(second)
    return path.suffix.lower() in SUFFIXES and _is_row(first) and len(first.split(" ")) > 2


def _counts(line: str) -> tuple[int, int] | None:
    parts = line.split()
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def _is_row(line: str) -> bool:
    try:
        _, *numbers = line.split(" ")
        return bool([float(number) for number in numbers])
    except ValueError:
        return False


def read_text(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """The words of a file and their vectors, float32 [n, d]; the first of two rows of one word stays.

    Raises `DamagedFile`, which names the line, for one that is cut short or holds no numbers.
    """
    words: list[str] = []
    seen: set[str] = set()
    lines = _numbered(path)
    counts = None
    try:
        first = next(lines, (1, ""))
        counts = _counts(first[1])
        dimensions = counts[1] if counts else len(first[1].split(" ")) - 1
        if not 1 <= dimensions <= MOST_NUMBERS:
            raise DamagedFile(
                f"{path} begins with no words and numbers: it is not in word2vec's text format."
            )
        # as many rows as lines, of which the system gives memory to those that are written
        vectors = np.empty((_lines(path), dimensions), np.float32)
        rows = [] if counts else [first]
        for number, line in _chained(rows, lines):
            word, vector = _row(path, number, line, dimensions)
            if word in seen:
                continue
            seen.add(word)
            words.append(word)
            vectors[len(words) - 1] = vector
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path} is not UTF-8 text: convert it, or save it again.") from error
    if not words:
        raise DamagedFile(f"{path} holds no vectors: it is empty or cut short.")
    if counts and len(words) < counts[0] and number - 1 < counts[0]:
        raise DamagedFile(f"{path} ends after {number - 1:,} of its {counts[0]:,} words: copy it again.")
    return words, vectors[: len(words)]


def _lines(path: Path) -> int:
    """How many lines a file has, an unended last one too."""
    with path.open("rb") as file:
        return 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _chained(first: list[tuple[int, str]], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from first
    yield from rest


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty; only "\\n" ends one, as words may hold other separators."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(_LONGEST_LINE):
            number += 1
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n ")
            if line:
                yield number, line


def _row(path: Path, number: int, line: str, dimensions: int) -> tuple[str, NDArray[np.float32]]:
    # GloVe's words may hold a space, as ". . ." does
    word, *numbers = line.rsplit(" ", dimensions)
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError as error:
        raise DamagedFile(f"{path}, line {number:,}: a number cannot be read ({error}).") from error
    if len(vector) != dimensions:
        raise DamagedFile(
            f"{path}, line {number:,}: {word[:40]!r} has {len(vector)} numbers, not {dimensions}: copy the file again."
        )
    if not np.isfinite(vector).all():
        raise DamagedFile(
            f"{path}, line {number:,}: {word[:40]!r} has a number that is none, or too large (nan, inf): train "
            f"the vectors again, or copy the file again."
        )
    return word, vector


def write_text(path: Path, words: Sequence[str], vectors: NDArray[np.float32]) -> int:
    """Write words and their vectors, float32 [n, d], whole or not at all; every number reads back to the same bits.

    Returns how many were left out: words with a space or a line's end, as GloVe's ". . .", which the format cannot
    hold. Raises `BadInput` where none is left, `NoSpace`.
    """
    fit = [row for row, word in enumerate(words) if word.split() == [word]]
    if not fit:
        raise BadInput(f"word2vec's text format cannot hold words with spaces, as {words[0]!r}: name others.")
    with new_file(path.absolute()) as fresh, fresh.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{len(fit)} {vectors.shape[1]}\n")
        for row in fit:
            # the shortest digits that give the same float32 again
            file.write(f"{words[row]} {' '.join(map(str, vectors[row]))}\n")
    return len(words) - len(fit)

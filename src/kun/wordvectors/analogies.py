"""Analogies: files of questions, and how many of them vectors answer, the query words left out or not.

A file has a line for each question, `man king woman queen`: what is to `woman` as `king` is to `man`. A line that
begins with ":" names the questions after it, as Mikolov's `questions-words.txt` does; one with "#" is a comment.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kun.errors import BadInput, NotFound
from kun.wordvectors.vectors import Floats, WordVectors

_CELLS = 1 << 24
"""Cosines that are held at once: 64 MB."""
_LONGEST_FILE = 64 * 2**20


def signed(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that are added and those that are taken away, by the sign before each; the first may have none.

    Raises `BadInput` where a sign or a word is missing.
    """
    plus: list[str] = []
    minus: list[str] = []
    sign = "+"
    for word in words:
        if word not in _SIGNS:
            (plus if sign in ("", "+") else minus).append(word)
        elif sign:
            break
        sign = word if word in _SIGNS else ""
    if sign:
        raise BadInput("A sum is words with + or - between: kun vectors sum paris - france + japan.")
    return plus, minus


_SIGNS = ("+", "-", "−")


@dataclass(frozen=True)
class Analogy:
    """`answer` is to `c` as `b` is to `a`; `group` is what kind of relation it is."""

    a: str
    b: str
    c: str
    answer: str
    group: str = ""


@dataclass(frozen=True)
class GroupRate:
    """Of a kind of relation: questions, those whose words all have vectors, and how many of these came out right."""

    group: str
    questions: int
    asked: int
    right: int
    right_with_query: int


@dataclass(frozen=True)
class AnalogyRates:
    """The answers of vectors to a file of analogies, in all and by kind of relation."""

    groups: tuple[GroupRate, ...]

    @property
    def questions(self) -> int:
        return sum(group.questions for group in self.groups)

    @property
    def asked(self) -> int:
        """Questions whose four words all have vectors."""
        return sum(group.asked for group in self.groups)

    def rate(self, *, exclude: bool) -> float:
        """The share of right answers of those asked, the three query words left out or not; 0 of none."""
        right = sum(group.right if exclude else group.right_with_query for group in self.groups)
        return right / self.asked if self.asked else 0.0


def read_analogies(path: Path) -> list[Analogy]:
    """The questions of a file. Raises `NotFound`, `BadInput`, which names the line that is no question."""
    if not path.is_file():
        raise NotFound(f"{path} does not exist: name a file of analogies, four words a line.")
    if path.stat().st_size > _LONGEST_FILE:
        raise BadInput(f"{path} is longer than {_LONGEST_FILE >> 20} MB: take fewer questions.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: save it as UTF-8.") from error
    found = list(_questions(path, lines))
    if not found:
        raise BadInput(f"{path} holds no analogies: write four words a line.")
    return found


def _questions(path: Path, lines: Sequence[str]) -> Iterator[Analogy]:
    group = ""
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith(":"):
            group = line.strip().removeprefix(":").strip()
            continue
        if len(words) != 4:
            raise BadInput(f"{path}, line {number}: {line.strip()[:60]!r} is no analogy of four words.")
        a, b, c, answer = words
        yield Analogy(a, b, c, answer, group)


def measure(vectors: WordVectors, questions: Sequence[Analogy]) -> AnalogyRates:
    """The rates of right answers, with the query words left out and with them among the candidates."""
    groups: dict[str, list[Analogy]] = {}
    for question in questions:
        groups.setdefault(question.group, []).append(question)
    return AnalogyRates(tuple(_rate(vectors, group, some) for group, some in groups.items()))


def _rate(vectors: WordVectors, group: str, questions: Sequence[Analogy]) -> GroupRate:
    rows = [[vectors.row_or_none(word) for word in (one.a, one.b, one.c, one.answer)] for one in questions]
    known = np.array([row for row in rows if None not in row], np.int64).reshape(-1, 4)
    right = right_with_query = 0
    at_once = max(1, _CELLS // len(vectors))
    for start in range(0, len(known), at_once):
        some = known[start : start + at_once]
        best, best_of_all = _answers(vectors, some[:, :3])
        right += int((best == some[:, 3]).sum())
        right_with_query += int((best_of_all == some[:, 3]).sum())
    return GroupRate(group, len(questions), len(known), right, right_with_query)


def _answers(vectors: WordVectors, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the words nearest to b − a + c, the query words left out and not, int64 [n] each."""
    unit: Floats = vectors.vectors[rows] * vectors.inverse_lengths[rows][..., None]
    targets = unit[:, 1] - unit[:, 0] + unit[:, 2]
    cosines = targets @ vectors.vectors.T
    cosines *= vectors.inverse_lengths
    best_of_all = cosines.argmax(axis=1)
    for number, asked in enumerate(rows.tolist()):
        cosines[number, [same for row in asked for same in vectors.same_word(row)]] = -np.inf
    return cosines.argmax(axis=1), best_of_all

"""Preferences for the reward model: the documentation's answers against worse ones, and what people clicked.

A worse answer is another question's, or the right one that rambles on, or the right one that breaks off: neither the
longer nor the shorter of two answers is always the better one.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from kun.alignment.feedback.exchange import rankings
from kun.alignment.feedback.store import FeedbackStore
from kun.data.rows import Ranking
from kun.data.sources import Rows
from kun.tour.speedrun.corpus import Files, write_rows

_MOST_HELD_OUT = 400
_TRIES = 8
"""Draws of another answer, of which the first that differs is taken."""
_REPEATS = 3


@dataclass(frozen=True)
class Preferred:
    """The number of rankings made of the documentation, and of those that people gave."""

    made: int
    clicked: int


@dataclass(frozen=True)
class _Asked:
    """A question with its answer in the documentation."""

    kind: str
    question: str
    answer: str


def write_preferences(files: Files, clicks: Sequence[Ranking], seed: int) -> Preferred:
    """Write the rankings to learn from and those that are held out.

    Of people's all are learned from, but no more than are made of the documentation, on which the model is asked.
    """
    learned, held_out = (_asked(path) for path in (files.prompts, files.held_out_chats))
    made = list(_ranked(learned, seed))
    clicks = clicks[: len(made)]
    write_rows(files.preferences, [*made, *map(_as_row, clicks)])
    write_rows(files.held_out_preferences, islice(_ranked(held_out, seed), _MOST_HELD_OUT))
    return Preferred(len(made), len(clicks))


def clicked(source: Path | None) -> list[Ranking]:
    """The rankings of a file of people's feedback, in any shape that `kun train` reads, or without one of this machine.

    Rows that cannot be used are left out. Raises `NotFound`, `UnsupportedFormat`, `BadInput` for an empty file, and
    what the store raises.
    """
    if source is None:
        with closing(FeedbackStore.open()) as store:
            return list(rankings(store))
    return [row for row in Rows(source, "preference", skip_bad=True) if isinstance(row, Ranking)]


def _asked(path: Path) -> list[_Asked]:
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [_Asked(row["kind"], *(message["content"] for message in row["messages"])) for row in rows]


def _ranked(asked: Sequence[_Asked], seed: int) -> Iterator[dict[str, object]]:
    """The right answer above three others, which are as good as each other."""
    rng = np.random.default_rng(seed)
    answers: dict[str, list[str]] = {}
    for one in asked:
        answers.setdefault(one.kind, []).append(one.answer)
    for one in asked:
        worse = [
            _another(one, answers[one.kind], rng),
            _rambling(one, answers[one.kind], rng),
            _broken_off(one.answer) or _another(one, answers[one.kind], rng),
        ]
        others = [answer for answer in dict.fromkeys(worse) if answer and answer != one.answer]
        if others:
            yield {"prompt": one.question, "ranking": [one.answer, others]}


def _another(one: _Asked, answers: Sequence[str], rng: np.random.Generator) -> str:
    """The answer to another question of the kind; "" where there is none that differs."""
    drawn = (answers[int(rng.integers(len(answers)))] for _ in range(_TRIES))
    return next((answer for answer in drawn if answer != one.answer), "")


def _rambling(one: _Asked, answers: Sequence[str], rng: np.random.Generator) -> str:
    """The right answer, over and over or with others behind it."""
    if rng.random() < 0.5:
        return " ".join([one.answer] * _REPEATS)
    return " ".join([one.answer, *(_another(one, answers, rng) for _ in range(_REPEATS - 1))]).strip()


def _broken_off(answer: str) -> str:
    """The first half of an answer's words; "" for one that has no halves."""
    words = answer.split()
    return " ".join(words[: len(words) // 2])


def _as_row(ranking: Ranking) -> dict[str, object]:
    groups = [[[dict(message) for message in answer] for answer in group] for group in ranking.groups]
    return {"prompt": [dict(message) for message in ranking.prompt], "ranking": groups}

"""Scores of a whole file: conversations one by one, rankings with how often the better answer has the higher score."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kun.alignment.reward_model import RewardModel
from kun.atomic_files import Progress, silent
from kun.data.rows import ChatMessage, Conversation, Pair, Ranking, Row, Text, Unpaired
from kun.data.sources import Rows
from kun.errors import BadInput

_AT_ONCE = 256
"""Conversations that are scored together."""


@dataclass(frozen=True)
class Scored:
    """What stands at `where`: the `scores` of its answers, and their `ranks` from 0, the best, where people ranked."""

    where: str
    scores: tuple[float, ...]
    ranks: tuple[int, ...] = ()

    @property
    def right(self) -> float | None:
        """The share of pairs whose better answer has the higher score, half for equal ones; None without pairs."""
        pairs = [
            (a, b)
            for a, rank in zip(self.scores, self.ranks, strict=bool(self.ranks))
            for b, other in zip(self.scores, self.ranks, strict=bool(self.ranks))
            if rank < other
        ]
        return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs) if pairs else None


@dataclass(frozen=True)
class Accuracy:
    """The mean over rankings, its standard error, and their number."""

    mean: float
    error: float
    rankings: int

    @classmethod
    def of(cls, scored: Sequence[Scored]) -> "Accuracy | None":
        """None where nothing is ranked."""
        shares = [each for one in scored if (each := one.right) is not None]
        if not shares:
            return None
        mean = sum(shares) / len(shares)
        variance = sum((share - mean) ** 2 for share in shares) / max(1, len(shares) - 1)
        return cls(mean, math.sqrt(variance / len(shares)), len(shares))


def score_file(
    model: RewardModel, source: str | Path, *, limit: int | None = None, progress: Progress = silent
) -> Iterator[Scored]:
    """The scores of a file's rows, in their order. Raises `BadRow`, `NotFound`, and `BadInput` for other rows
    and for one whose score is no number.
    """
    done = 0
    for some in _blocks(Rows(str(source), limit=limit)):
        talks = [_talks(row) for row in some]
        scores = iter(model.score([talk for each in talks for talk in each]).tolist())
        for row, each in zip(some, talks, strict=True):
            ranks = row.ranks if isinstance(row, Ranking) else ()
            found = tuple(next(scores) for _ in each)
            if not all(map(math.isfinite, found)):
                raise BadInput(
                    f"{row.where}: its scores are {list(found)}: look at the reward model {model.name}, or leave the "
                    "row out."
                )
            yield Scored(row.where, found, ranks)
        done += len(some)
        progress("scoring", done, None)


def _blocks(rows: Rows) -> Iterator[list[Row]]:
    some: list[Row] = []
    for row in rows:
        some.append(row)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _talks(row: Row) -> list[Sequence[ChatMessage] | str]:
    """What is to be scored of a row."""
    match row:
        case Ranking():
            return [(*row.prompt, *answer) for answer in row.answers]
        case Unpaired():
            return [(*row.prompt, *row.answer)]
        case Conversation():
            return [row.messages]
        case Pair():
            user, assistant = (
                {"role": "user", "content": row.source},
                {"role": "assistant", "content": row.target},
            )
            return [(user, assistant)]
        case Text():
            return [row.text]
    raise BadInput(f"{row.where} is nothing to score: name conversations, pairs, preferences or texts.")

"""Standings: win rates and scores with bootstrap intervals, by category, and how far the judge can be trusted."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kun.evaluation.judging.answers import Answers
from kun.evaluation.judging.judges import Judge
from kun.evaluation.judging.questions import Question
from kun.evaluation.judging.verdicts import Compared, Verdicts

_DRAWS = 2000
_MIDDLE = (2.5, 97.5)
MOST_FLIPS = 0.2
"""The share of verdicts that change with the order above which a judge is called unreliable."""
MOST_ALIKE, FEWEST_MARKS = 0.9, 8
"""The share of answers with one and the same mark from which on marks say little; fewer answers are no sign of it."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over `n` questions; `low` and `high` bound 95 % of resampled question sets, None for a single one."""

    value: float
    low: float | None
    high: float | None
    n: int

    def shown(self, digits: int = 2) -> str:
        """The mean with its interval, to so many places after the point."""
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class Encounter:
    """Two models: `wins` are of `a`. A win counts where both orders agree on it; where they differ it is a tie."""

    a: str
    b: str
    wins: int
    ties: int
    losses: int
    win_rate: Interval | None
    """Of `a`: wins and half the ties, as a share."""


@dataclass(frozen=True)
class Consistency:
    """How the verdicts of a judge hold when the order of the answers is turned.

    `flips` are comparisons in which it named the answer in the same place both times, so that the other model won:
    `first` and `second` say which place. `wavers` are a tie in one order and a win in the other. `unclear` had no
    verdict in an order, and count for nothing. `equal` answers, of which no judge was asked, are none of these and not
    among the `compared`. A judge who sees no order cannot flip.
    """

    compared: int
    flips: int
    first: int
    second: int
    wavers: int
    unclear: int
    equal: int
    cut: int
    sees_order: bool

    @property
    def share(self) -> float:
        """Flips among comparisons with both verdicts."""
        return self.flips / self.compared if self.compared else 0.0

    @property
    def unsteady(self) -> float:
        """Flips and wavers among comparisons with both verdicts."""
        return (self.flips + self.wavers) / self.compared if self.compared else 0.0

    @property
    def warning(self) -> str:
        """A sentence for people where the judge is not to be trusted, else empty."""
        if self.share > MOST_FLIPS:
            place = "first" if self.first >= self.second else "second"
            return (
                f"This judge's verdict flips with the order of the answers in {self.share:.0%} of comparisons, and "
                f"then favours the {place} one {max(self.first, self.second)} times in {self.flips}: "
                "its win rates say little."
            )
        if self.unsteady > MOST_FLIPS:
            return (
                f"This judge's verdict changes with the order of the answers in {self.unsteady:.0%} of comparisons, in "
                f"{self.wavers} of {self.compared} between a win and a tie: its win rates say little."
            )
        if self.compared + self.unclear and self.unclear > MOST_FLIPS * (self.compared + self.unclear):
            return (
                f"This judge gave no verdict in {self.unclear} of {self.compared + self.unclear} comparisons: "
                "take another one."
            )
        return ""


@dataclass
class Standing:
    """One model among the others: means over questions, all and by category, and what its answers cost."""

    model: str
    win_rate: Interval | None
    score: Interval | None
    wins: int
    ties: int
    losses: int
    win_rate_by_category: dict[str, float]
    score_by_category: dict[str, float]
    tokens: int
    seconds: float
    cut: int
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class Judged:
    """What a judge found, the best model first."""

    judge: str
    kind: str
    questions: int
    categories: list[str]
    standings: list[Standing]
    encounters: list[Encounter]
    consistency: Consistency
    scored: int
    unscored: int
    mark: float | None = None
    """The mark that was given most often, to so many answers as `alike` says."""
    alike: int = 0

    @property
    def score_digits(self) -> int:
        """Places after the point at which scores can be told apart: those of a reward model may be small numbers."""
        largest = max((abs(one.score.value) for one in self.standings if one.score), default=0.0)
        if self.kind != "reward model" or not largest:
            return 2
        return min(8, max(2, 2 - math.floor(math.log10(largest))))

    @property
    def warnings(self) -> list[str]:
        """Sentences for people where the judge is not to be trusted."""
        found = [self.consistency.warning] if self.consistency.warning else []
        if self.mark is not None and self.scored >= FEWEST_MARKS and self.alike >= MOST_ALIKE * self.scored:
            found.append(
                f"This judge gives {self.mark:g} to {self.alike} of {self.scored} answers: its scores say little."
            )
        return found


def standings(
    judge: Judge,
    questions: Sequence[Question],
    answers: Sequence[Answers],
    verdicts: Verdicts,
    seed: int = 0,
) -> Judged:
    """The standings of all models.

    A win rate is that of wins and half the ties over all other models, question by question. Intervals are percentile
    bootstraps (Efron and Tibshirani 1993, 13.3) over whole questions, the same draws for all models.
    """
    names = [each.model for each in answers]
    places = {question.id: place for place, question in enumerate(questions)}
    points = np.full((len(names), len(names), len(questions)), np.nan)
    for one in verdicts.compared:
        a, b, at = names.index(one.a), names.index(one.b), places[one.question]
        points[a, b, at] = _points(one)
        points[b, a, at] = 1 - points[a, b, at]
    scores = np.full((len(names), len(questions)), np.nan)
    for scored in verdicts.scored:
        if scored.score is not None:
            scores[names.index(scored.model), places[scored.question]] = scored.score
    drawn = np.random.default_rng(seed).integers(len(questions), size=(_DRAWS, len(questions)))
    categories = list(dict.fromkeys(question.category for question in questions))
    of = np.array([categories.index(question.category) for question in questions])
    found = [
        _standing(each, points[place], scores[place], drawn, categories, of)
        for place, each in enumerate(answers)
    ]
    met = [
        _encounter(names[a], names[b], points[a, b], drawn)
        for a in range(len(names))
        for b in range(a + 1, len(names))
        if verdicts.compared
    ]
    marks = Counter(one.score for one in verdicts.scored if one.score is not None)
    mark, alike = marks.most_common(1)[0] if marks else (None, 0)
    return Judged(
        judge.name,
        judge.kind,
        len(questions),
        categories,
        sorted(found, key=_rank, reverse=True),
        met,
        _consistency(judge, verdicts.compared),
        marks.total(),
        sum(one.score is None for one in verdicts.scored),
        mark,
        alike,
    )


def _points(one: Compared) -> float:
    """1, ½ or 0 for `a`, NaN without a verdict: an order that disagrees makes it a tie."""
    forth, back = one.winners
    if forth is None or back is None:
        return float("nan")
    if forth != back or not forth:
        return 0.5
    return float(forth == one.a)


def _standing(
    each: Answers,
    points: Floats,
    scores: Floats,
    drawn: NDArray[np.int64],
    categories: list[str],
    of: NDArray[np.int64],
) -> Standing:
    by_question = _mean(points)
    return Standing(
        each.model,
        _interval(by_question, drawn),
        _interval(scores, drawn),
        int((points == 1).sum()),
        int((points == 0.5).sum()),
        int((points == 0).sum()),
        _by_category(by_question, categories, of),
        _by_category(scores, categories, of),
        each.tokens,
        round(each.seconds, 3),
        each.cut,
        {str(id): why for id, why in each.failed.items()},
    )


def _encounter(a: str, b: str, points: Floats, drawn: NDArray[np.int64]) -> Encounter:
    wins, ties, losses = (int((points == value).sum()) for value in (1, 0.5, 0))
    return Encounter(a, b, wins, ties, losses, _interval(points, drawn))


def _mean(points: Floats) -> Floats:
    """The mean over other models of [models, questions], NaN where no verdict is."""
    known = ~np.isnan(points)
    counts = known.sum(axis=0)
    sums = np.where(known, points, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _interval(values: Floats, drawn: NDArray[np.int64]) -> Interval | None:
    known = ~np.isnan(values)
    n = int(known.sum())
    if not n:
        return None
    mean = float(values[known].mean())
    if n < 2:
        return Interval(mean, None, None, n)
    means = _mean(values[drawn].T)
    low, high = np.percentile(means[~np.isnan(means)], _MIDDLE)
    return Interval(mean, float(low), float(high), n)


def _by_category(values: Floats, categories: list[str], of: NDArray[np.int64]) -> dict[str, float]:
    """The mean of each category in which there is a value."""
    found = {}
    for number, name in enumerate(categories):
        some = values[(of == number) & ~np.isnan(values)]
        if len(some):
            found[name] = float(some.mean())
    return found


def _rank(standing: Standing) -> tuple[float, float]:
    lowest = float("-inf")
    return (
        standing.win_rate.value if standing.win_rate else lowest,
        standing.score.value if standing.score else lowest,
    )


def _consistency(judge: Judge, compared: Sequence[Compared]) -> Consistency:
    first = second = wavers = unclear = 0
    asked = [one for one in compared if one.asked]
    for one in asked:
        forth, back = one.winners
        if forth is None or back is None:
            unclear += 1
        elif forth != back:
            wavers += not (forth and back)
            first += bool(forth and back) and forth == one.a
            second += bool(forth and back) and forth == one.b
    cut = sum(one.cut for one in asked)
    clear, equal = len(asked) - unclear, len(compared) - len(asked)
    return Consistency(clear, first + second, first, second, wavers, unclear, equal, cut, judge.sees_order)

"""The result of an evaluation: numbers with their standard errors, and samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_NORMAL = 1.959964
"""Standard errors on either side that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Measure:
    """A number and its standard error, None where it has none; `goal` is where better ones lie.

    A share of rows has an interval of 95 %, too, from `low` to `high`.
    """

    value: float
    error: float | None = None
    goal: str = "higher"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sample:
    """One row: what was asked, what is right, what the model said, and its score (1 or 0 where it is right or wrong).

    `right` is None where answers are not simply right or wrong. A text whose perplexity was measured has its own
    `nats`, −log p of it, and `tokens`, of whose ids `cut` is a digest. `group` is the measure for which it counts,
    where a task has several; `broken` are the rules that the answer does not keep.
    """

    where: str
    asked: str
    wanted: str
    said: str
    score: float
    right: bool | None = None
    nats: float = 0.0
    tokens: int = 0
    cut: str = ""
    group: str = ""
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The measures of one model on one task by name, the first of which is the task's own.

    `n` rows took `seconds`; the texts of `cut` of them were too long and lost a part. `samples` are all rows in order;
    `confusion[wanted][said]` counts labels where the task has some. `notes` tell how it was measured.
    """

    task: str
    kind: str
    model: str
    measures: Mapping[str, Measure]
    n: int
    seconds: float
    samples: Sequence[Sample]
    cut: int = 0
    confusion: Mapping[str, Mapping[str, int]] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def mean(values: Sequence[float], goal: str = "higher") -> Measure:
    """The mean of independent values, and its standard error s/√n; none of a single value."""
    n = len(values)
    average = sum(values) / n
    if n < 2:
        return Measure(average, None, goal)
    variance = sum((value - average) ** 2 for value in values) / (n - 1)
    return Measure(average, math.sqrt(variance / n), goal)


def share(hits: int, n: int, goal: str = "higher") -> Measure:
    """The share `hits`/`n` of independent rows, with the interval of Wilson (1927), which also holds near 0 and 1."""
    value = hits / n
    squared = _NORMAL**2 / n
    middle = (value + squared / 2) / (1 + squared)
    half = math.sqrt(value * (1 - value) * squared + squared**2 / 4) / (1 + squared)
    error = math.sqrt(value * (1 - value) / n)
    return Measure(value, error, goal, max(0.0, middle - half), min(1.0, middle + half))


def ratio(above: Sequence[float], below: Sequence[float], goal: str = "lower") -> Measure:
    """Σ above / Σ below over independent units, with the standard error of a ratio estimate (Cochran 1977, 6.4)."""
    n, total = len(above), sum(below)
    quotient = sum(above) / total
    if n < 2:
        return Measure(quotient, None, goal)
    squares = sum((a - quotient * b) ** 2 for a, b in zip(above, below, strict=True))
    return Measure(quotient, math.sqrt(n * squares / (n - 1)) / total, goal)


def measured_with(results: Sequence[Result]) -> dict[str, list[str]]:
    """The notes of results in words, each with the names of the models that it is of."""
    models: dict[str, list[str]] = {}
    for result in results:
        if result.notes:
            told = ", ".join(f"{name} {value}" for name, value in result.notes.items())
            models.setdefault(told, []).append(result.model)
    return models


def difference(one: Result, other: Result) -> Measure:
    """The mean score of `one`'s rows less `other`'s on the same rows, with its paired standard error."""
    pairs = zip(one.samples, other.samples, strict=True)
    return mean([first.score - second.score for first, second in pairs])

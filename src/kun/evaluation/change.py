"""The change from one model to another on the same rows, of perplexity or of shares, with a resampled interval."""

from dataclasses import dataclass

import numpy as np

from kun.evaluation.result import Result

_DRAWS = 2000
_MIDDLE = (2.5, 97.5)
"""Percentiles between which 95 % of the resampled changes lie."""


@dataclass(frozen=True)
class Change:
    """Of perplexity a share of it: −0.2 is a fifth lower. Of a share its points: 0.3 is from 20 % to 50 %.

    `low` and `high` bound 95 %, None for a single text.
    """

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        within = "" if self.low is None else f" [{self.low:+.1%}, {self.high:+.1%}]"
        return f"{self.value:+.1%}{within}"


def perplexity_change(before: Result, after: Result, seed: int = 0) -> Change | None:
    """The change from `before` to `after`; None where no perplexity was measured, or in other tokens.

    The interval is the percentile bootstrap (Efron and Tibshirani 1993, 13.3) over whole texts: both models are
    measured on the same drawn ones, so that how hard a text is falls out.
    """
    tokens = np.array([sample.tokens for sample in before.samples], float)
    same = [
        (a.tokens, a.cut) == (b.tokens, b.cut) for a, b in zip(before.samples, after.samples, strict=False)
    ]
    if not tokens.any() or len(before.samples) != len(after.samples) or not all(same):
        return None
    more = np.array([b.nats - a.nats for a, b in zip(before.samples, after.samples, strict=True)])
    value = float(np.expm1(more.sum() / tokens.sum()))
    if (tokens > 0).sum() < 2:
        return Change(value, None, None)
    more, tokens = more[tokens > 0], tokens[tokens > 0]  # a text without tokens tells of neither
    drawn = np.random.default_rng(seed).integers(len(tokens), size=(_DRAWS, len(tokens)))
    changes = np.expm1(more[drawn].sum(axis=1) / tokens[drawn].sum(axis=1))
    low, high = np.percentile(changes, _MIDDLE)
    return Change(value, float(low), float(high))


def share_changes(before: Result, after: Result, seed: int = 0) -> dict[str, Change]:
    """The change of each measure that counts rows of its own, by name; none where the rows are not the same ones.

    Both models answered the same rows, so that the rows are resampled in pairs, those of a measure among themselves.
    """
    rows = [(sample.where, sample.group) for sample in before.samples]
    if rows != [(sample.where, sample.group) for sample in after.samples]:
        return {}
    changes = {}
    for name, measure in before.measures.items():
        sign = -1.0 if measure.goal == "lower" else 1.0  # a right answer there is one that is not counted
        apart = np.array(
            [
                sign * (b.score - a.score)
                for a, b in zip(before.samples, after.samples, strict=True)
                if a.group == name
            ]
        )
        if len(apart):
            drawn = np.random.default_rng(seed).integers(len(apart), size=(_DRAWS, len(apart)))
            low, high = np.percentile(apart[drawn].mean(axis=1), _MIDDLE)
            changes[name] = Change(float(apart.mean()), float(low), float(high))
    return changes

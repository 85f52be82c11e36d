"""The change of perplexity from one model to another, and its interval."""

import math

import numpy as np
import pytest

from kun.evaluation.change import perplexity_change
from kun.evaluation.result import Measure, Result, Sample


def measured(nats: list[float], tokens: list[int], cut: str = "") -> Result:
    samples = [
        Sample(f"texts:{row}", "", "", "", 0.0, nats=cost, tokens=count, cut=cut)
        for row, (cost, count) in enumerate(zip(nats, tokens, strict=True), 1)
    ]
    perplexity = math.exp(sum(nats) / sum(tokens))
    return Result(
        "texts", "perplexity", "model", {"perplexity": Measure(perplexity)}, len(samples), 0.0, samples
    )


def test_a_change_is_that_of_the_perplexities_and_lies_in_its_interval() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 400, 20).tolist()
    hardness = rng.normal(3, 1, 20)
    before = measured([h * t for h, t in zip(hardness, tokens, strict=True)], tokens)
    after = measured(
        [(h - g) * t for h, g, t in zip(hardness, rng.normal(0.3, 0.05, 20), tokens, strict=True)], tokens
    )
    found = perplexity_change(before, after)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    ratio = after.measures["perplexity"].value / before.measures["perplexity"].value
    assert found.value == pytest.approx(ratio - 1)
    assert found.low < found.value < found.high < 0
    # texts differ much in how hard they are, and the interval is none of that: both models had the same ones
    assert found.high - found.low < 0.08
    assert found == perplexity_change(before, after)


def test_one_text_has_a_change_without_an_interval() -> None:
    found = perplexity_change(measured([30.0], [10]), measured([29.0], [10]))
    assert found is not None
    assert (found.low, found.high) == (None, None)
    assert str(found) == f"{math.exp(-0.1) - 1:+.1%}"


def test_models_that_cut_differently_have_no_change_of_perplexity() -> None:
    assert perplexity_change(measured([30.0, 10.0], [10, 5]), measured([30.0, 10.0], [10, 6])) is None
    # as many tokens, and others
    assert (
        perplexity_change(measured([30.0, 10.0], [10, 5], "a"), measured([29.0, 9.0], [10, 5], "b")) is None
    )


def test_a_text_without_tokens_changes_nothing() -> None:
    before, after = measured([30.0, 0.0, 9.0], [10, 0, 3]), measured([29.0, 0.0, 8.0], [10, 0, 3])
    found = perplexity_change(before, after)
    assert found is not None
    assert (found.low, found.high) != (None, None)
    assert math.isfinite(found.low or math.nan)
    one = perplexity_change(measured([30.0, 0.0], [10, 0]), measured([29.0, 0.0], [10, 0]))
    assert one is not None
    assert one.low is None


def test_results_of_another_kind_have_none() -> None:
    rows = Result(
        "facts",
        "multiple-choice",
        "model",
        {"accuracy": Measure(0.5)},
        1,
        0.0,
        [Sample("a", "", "", "", 1.0)],
    )
    assert perplexity_change(rows, rows) is None

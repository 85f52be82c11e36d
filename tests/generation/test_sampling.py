"""Sampling against a plain reference, row by row, and the bounds of its options."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kun.errors import BadInput
from kun.generation.options import SamplingOptions, make_options
from kun.generation.sampling import Sampler, adjusted, best, sample, token_logprobs

options_strategy = st.builds(
    SamplingOptions,
    temperature=st.sampled_from([0.0, 1e-9, 0.5, 1.0, 3.0]),
    top_k=st.sampled_from([None, 1, 3, 40, 10**6]),
    top_p=st.sampled_from([1.0, 0.9, 0.3, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    presence_penalty=st.sampled_from([0.0, -0.4]),
    logit_bias=st.sampled_from([{}, {3: 5.0, 7: -9.0}]),
    seed=st.integers(0, 5),
)


def plain_distribution(
    logits: list[float], sampler: Sampler, prompt: list[int], said: list[int]
) -> np.ndarray:
    """The distribution of one row, written as one would explain it."""
    o, scores = sampler.options, np.array(logits, dtype=np.float64)
    for token, value in o.logit_bias.items():
        scores[token] += value
    for token in set(prompt) | set(said):
        scores[token] = (
            scores[token] / o.repetition_penalty
            if scores[token] > 0
            else scores[token] * o.repetition_penalty
        )
        count = said.count(token)
        scores[token] -= count * o.frequency_penalty + (count > 0) * o.presence_penalty
    if sampler.greedy:
        return (np.arange(len(scores)) == scores.argmax()).astype(float)
    scores = (scores - scores.max()) / sampler.temperature
    order = np.argsort(-scores, kind="stable")
    chance = np.exp(scores[order])
    if o.top_k:
        chance[o.top_k :] = 0
    chance /= chance.sum()
    chance[1:][np.cumsum(chance)[:-1] >= sampler.top_p] = 0
    chance[chance < o.min_p * chance[0]] = 0
    result = np.zeros(len(scores))
    result[order] = chance / chance.sum()
    return result


def random_logits(rows: int, vocabulary: int, seed: int, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


@given(st.lists(options_strategy, min_size=1, max_size=5), st.integers(0, 1000), st.sampled_from([11, 700]))
def test_rows_with_different_options_choose_as_the_plain_reference_allows(
    options: list[SamplingOptions], seed: int, vocabulary: int
) -> None:
    logits, prompt, said = random_logits(len(options), vocabulary, seed), [1, 3, 3], [3, 5, 5, 8]
    samplers = [Sampler(o, prompt) for o in options]
    for sampler in samplers:
        for token in said:
            sampler.chose(token)
    tokens = sample(logits, samplers).tokens
    for row, (sampler, token) in enumerate(zip(samplers, tokens, strict=True)):
        assert plain_distribution(logits[row].tolist(), sampler, prompt, said)[token] > 1e-12


@pytest.mark.parametrize(
    "given",
    [{}, {"temperature": 0.6}, {"top_k": 5}, {"top_p": 0.7}, {"top_k": 9, "top_p": 0.8, "temperature": 1.5},
     {"min_p": 0.1}, {"top_p": 0.95, "min_p": 0.05}, {"repetition_penalty": 1.5, "presence_penalty": 0.5}],
)  # fmt: skip
@pytest.mark.parametrize("vocabulary", [30, 600])
def test_frequencies_pass_a_chi_square_test(given: dict[str, Any], vocabulary: int) -> None:
    draws, logits = 4000, random_logits(1, vocabulary, 3, spread=2.0)
    sampler = Sampler(SamplingOptions(seed=1, **given), [0, 1, 2])
    expected = plain_distribution(logits[0].tolist(), sampler, [0, 1, 2], []) * draws
    seen = np.zeros(vocabulary)
    for token in sample(logits.repeat(draws, 1), [sampler] * draws).tokens:
        seen[token] += 1
    assert seen[expected == 0].sum() == 0
    big = expected >= 5
    pairs = [(seen[big], expected[big]), (seen[~big].sum(keepdims=True), expected[~big].sum(keepdims=True))]
    s, e = (np.concatenate(part) for part in zip(*pairs, strict=True))
    s, e = s[e > 0], e[e > 0]
    freedom = max(1, len(e) - 1)
    # five standard deviations of the chi-square distribution
    assert ((s - e) ** 2 / e).sum() < freedom + 5 * math.sqrt(2 * freedom)


@given(st.integers(1, 4), st.integers(1, 9000), st.integers(1, 300), st.integers(0, 99))
def test_the_best_of_a_row_are_those_that_sorting_finds(rows: int, n: int, count: int, seed: int) -> None:
    scores, count = random_logits(rows, n, seed).numpy(), min(count, n)
    found = np.take_along_axis(scores, best(scores, count), axis=-1)
    assert np.array_equal(found, -np.sort(-scores, axis=-1)[:, :count])


def test_a_flat_distribution_is_cut_by_top_p_beyond_the_candidates() -> None:
    logits = torch.zeros(1, 50_000)
    samplers = [Sampler(SamplingOptions(seed=seed, top_p=0.9), []) for seed in range(60)]
    tokens = sample(logits.repeat(60, 1), samplers).tokens
    assert len(set(tokens)) > 50
    assert max(tokens) > 20_000


def test_log_probabilities_are_those_of_the_untouched_logits() -> None:
    logits = random_logits(2, 50, 4)
    samplers = [
        Sampler(SamplingOptions(temperature=0, logprobs=n, logit_bias={7: 100.0}), []) for n in (0, 3)
    ]
    first, second = sample(logits, samplers).logprobs
    wanted = logits.log_softmax(-1)
    assert first is not None
    assert second is not None
    assert (first.token_id, first.top) == (7, ())
    assert second.logprob == pytest.approx(wanted[1, 7].item(), abs=1e-5)
    assert [token for token, _ in second.top] == wanted[1].topk(3).indices.tolist()
    assert token_logprobs(logits[:1], [4], 0)[0].logprob == pytest.approx(wanted[0, 4].item(), abs=1e-5)


def test_penalties_leave_the_logits_of_the_caller_alone() -> None:
    logits = random_logits(1, 20, 5).numpy()
    before = logits.copy()
    adjusted(logits, [Sampler(SamplingOptions(repetition_penalty=2.0, logit_bias={1: 4.0}), [1, 2])])
    assert np.array_equal(logits, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1), ("temperature", math.nan), ("temperature", math.inf), ("temperature", "hot"),
        ("temperature", True), ("top_p", 0), ("top_p", 1.5), ("top_p", math.nan), ("top_k", -1), ("top_k", 2.5),
        ("min_p", 1.1), ("repetition_penalty", 0), ("frequency_penalty", math.nan), ("max_tokens", 0),
        ("max_tokens", 2**40), ("n", 0), ("n", 10**6), ("seed", "x"), ("seed", 2**70), ("logprobs", -1),
        ("logprobs", 101),
        ("stop", ["a"] * 17), ("stop", ["x" * 600]), ("stop", [""]), ("stop", [3]), ("logit_bias", {1: math.nan}),
        ("logit_bias", {"x": 1}), ("logit_bias", [1]), ("logit_bias", {-1: 1}), ("regex", 5), ("json_schema", 5),
        ("regex", "a" * 70_000), ("json_schema", {"x": {1, 2}}), ("temprature", 1),
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=name):
        make_options({name: value})


def test_two_constraints_at_once_are_refused() -> None:
    with pytest.raises(BadInput, match="json_schema and regex"):
        SamplingOptions(json_schema=True, regex="a")


def test_what_is_left_out_is_the_checkpoint_s_to_say() -> None:
    advice = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
    filled = SamplingOptions().filled(advice)
    assert (filled.temperature, filled.top_p, filled.top_k, filled.max_tokens) == (0.7, 0.8, None, 256)
    assert SamplingOptions(temperature=0).filled(advice).temperature == 0
    assert SamplingOptions().filled({"temperature": "warm", "top_p": -3}).temperature == 1.0

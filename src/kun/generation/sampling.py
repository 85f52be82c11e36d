"""From logits to tokens: all rows at once, each with its own options and its own random numbers."""

import math
from copy import copy
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kun.generation.options import SamplingOptions
from kun.generation.results import TokenLogprob

if TYPE_CHECKING:
    from kun.generation.constraint import Constraint

_CANDIDATES = 256
_MORE = 16
_DEPTH = 64
Scores = npt.NDArray[np.float32]
_ENTROPY = SystemRandom()


class TokenUse:
    """Which tokens a row has used: ids and how often the answer (not the prompt) holds each."""

    def __init__(self, prompt: list[int]) -> None:
        ids = sorted(set(prompt))
        self._place = {token: place for place, token in enumerate(ids)}
        self._ids = np.array(ids + [0] * 64, dtype=np.int64)
        self._counts = np.zeros(len(self._ids), dtype=np.float32)

    def add(self, token: int) -> None:
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token
        self._counts[place] += 1

    def copy(self) -> "TokenUse":
        copied = TokenUse([])
        copied._place = dict(self._place)
        copied._ids, copied._counts = self._ids.copy(), self._counts.copy()
        return copied

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> np.ndarray:
        return self._counts[: len(self._place)]


class Sampler:
    """Chooses the tokens of one row: its options, its random numbers, and the tokens that it has used so far.

    The same seed and index give the same numbers whatever else is in the batch.
    """

    def __init__(
        self,
        options: SamplingOptions,
        prompt: list[int],
        index: int = 0,
        constraint: "Constraint | None" = None,
    ) -> None:
        self.options, self.constraint = options, constraint
        seed = options.seed if options.seed is not None else _ENTROPY.getrandbits(64)
        self._random = Random(f"{seed}:{index}")
        self.temperature = 1.0 if options.temperature is None else options.temperature
        self.top_p = 1.0 if options.top_p is None else options.top_p
        self.greedy = self.temperature == 0
        penalized = options.repetition_penalty != 1 or options.frequency_penalty or options.presence_penalty
        self.use = TokenUse(prompt) if penalized else None
        self.bias = (
            (
                np.array(list(options.logit_bias), dtype=np.int64),
                np.array(list(options.logit_bias.values()), np.float32),
            )
            if options.logit_bias
            else None
        )

    def branch(self) -> "Sampler":
        """The sampler of a row that goes on from this one's; it draws nothing, so random numbers are shared."""
        branched = copy(self)
        branched.use = self.use.copy() if self.use is not None else None
        return branched

    @property
    def plain(self) -> bool:
        """Whether the logits are used as they are."""
        return self.use is None and self.bias is None and self.constraint is None

    @property
    def sorts(self) -> bool:
        """Whether the likeliest tokens must be separated from the rest."""
        return bool(self.options.top_k) or self.top_p < 1

    def uniform(self) -> float:
        return self._random.random()

    def chose(self, token: int) -> None:
        if self.use is not None:
            self.use.add(token)


@dataclass(frozen=True)
class Sampled:
    """A token for each row, and its log-probabilities where they were asked for."""

    tokens: list[int]
    logprobs: list[TokenLogprob | None]


def sample(logits: Tensor, samplers: list[Sampler]) -> Sampled:
    """Choose a token in each row of logits [rows, vocabulary].

    In NumPy on the CPU: one thread that never waits for another beats torch's pool on arrays of this size.
    """
    raw: Scores = logits.float().cpu().numpy()
    scores = raw if all(sampler.plain for sampler in samplers) else adjusted(raw, samplers)
    tokens = _choose(scores, samplers)
    return Sampled(tokens, _report(logits, tokens, samplers))


def adjusted(logits: Scores, samplers: list[Sampler]) -> Scores:
    """A copy of the logits after constraints, biases and penalties."""
    logits = logits.copy()
    for row, sampler in enumerate(samplers):
        if sampler.constraint is not None:
            logits[row][~sampler.constraint.allowed(logits.shape[1])] = -np.inf
        if sampler.bias is not None:
            ids, values = sampler.bias
            logits[row, ids] += values
        if sampler.use is not None:
            _penalize(logits[row], sampler.use, sampler.options)
    return logits


def _penalize(logits: Scores, use: TokenUse, options: SamplingOptions) -> None:
    scores, repetition = logits[use.ids], options.repetition_penalty
    scores = np.where(scores > 0, scores / repetition, scores * repetition)
    penalty = use.counts * options.frequency_penalty + (use.counts > 0) * options.presence_penalty
    logits[use.ids] = scores - penalty.astype(np.float32)


def _choose(logits: Scores, samplers: list[Sampler]) -> list[int]:
    tokens: list[int] = logits.argmax(-1).tolist()
    whole = [row for row, sampler in enumerate(samplers) if not sampler.greedy and not sampler.sorts]
    cut = [row for row, sampler in enumerate(samplers) if not sampler.greedy and sampler.sorts]
    for rows, way in ((whole, _from_all), (cut, _from_best)):
        if rows:
            part = logits if len(rows) == len(samplers) else logits[rows]
            for row, token in zip(rows, way(part, [samplers[row] for row in rows]), strict=True):
                tokens[row] = token
    return tokens


def _column(values: list[float]) -> Scores:
    return np.array(values, dtype=np.float32)[:, None]


def _scaled(logits: Scores, samplers: list[Sampler]) -> Scores:
    """Logits over temperature with the highest at 0, which a temperature near 0 cannot blow up."""
    with np.errstate(over="ignore"):
        return (logits - logits.max(-1, keepdims=True)) / _column(
            [sampler.temperature for sampler in samplers]
        )


def _floor(samplers: list[Sampler]) -> Scores:
    """min-p as a distance below the highest score."""
    return _column(
        [math.log(sampler.options.min_p) if sampler.options.min_p else -np.inf for sampler in samplers]
    )


def _draw(weights: Scores, uniforms: list[float]) -> list[int]:
    """A column for each row of weights [rows, n], by inverting the cumulative sum (in float64)."""
    totals = np.cumsum(weights, axis=-1, dtype=np.float64)
    drawn = []
    for total, uniform in zip(totals, uniforms, strict=True):
        place = int(np.searchsorted(total, uniform * total[-1], side="right"))
        # rounding may reach the end, beyond which nothing has a weight
        drawn.append(min(place, int(np.searchsorted(total, total[-1]))))
    return drawn


def _from_all(logits: Scores, samplers: list[Sampler]) -> list[int]:
    scores = _scaled(logits, samplers)
    weights = np.exp(scores)
    if any(sampler.options.min_p for sampler in samplers):
        weights[scores < _floor(samplers)] = 0
    return _draw(weights, [sampler.uniform() for sampler in samplers])


def _from_best(logits: Scores, samplers: list[Sampler]) -> list[int]:
    scores = _scaled(logits, samplers)
    uniforms = [sampler.uniform() for sampler in samplers]
    vocabulary = scores.shape[1]
    count = min(vocabulary, max(sampler.options.top_k or _CANDIDATES for sampler in samplers))
    weights, ids, short = _rank(scores, samplers, count)
    places = _draw(weights, uniforms)
    tokens = [int(row[place]) for row, place in zip(ids, places, strict=True)]
    for row in np.flatnonzero(short):
        # the best few do not hold enough probability: rank more of the vocabulary for this row
        more, lacking = count, True
        while lacking:
            more = min(vocabulary, more * _MORE)
            weights, ids, still = _rank(scores[row : row + 1], [samplers[row]], more)
            lacking = bool(still[0])
        tokens[row] = int(ids[0, _draw(weights, [uniforms[row]])[0]])
    return tokens


def _rank(scores: Scores, samplers: list[Sampler], count: int) -> tuple[Scores, np.ndarray, np.ndarray]:
    """Weights of the `count` best (0 for those cut off), their ids, and which rows need more than `count`."""
    vocabulary = scores.shape[1]
    ids = best(scores, count)
    ranked = np.take_along_axis(scores, ids, axis=-1)
    limited = np.array([bool(sampler.options.top_k) for sampler in samplers])[:, None]
    within = np.arange(count)[None] < _column(
        [float(sampler.options.top_k or vocabulary) for sampler in samplers]
    )
    share = np.where(within, np.exp(ranked), 0)
    mass = share.sum(-1, keepdims=True)
    if not limited.all():
        mass = np.where(limited, mass, np.exp(scores).sum(-1, keepdims=True))
    share /= mass
    total = share.cumsum(-1)
    top_p, floor = _column([sampler.top_p for sampler in samplers]), _floor(samplers)
    kept = within & (total - share < top_p) & (ranked >= floor)
    kept[:, 0] = True
    more = ~limited & (total[:, -1:] < top_p) & (ranked[:, -1:] >= floor) & (count < vocabulary)
    return np.where(kept, share, 0), ids, more[:, 0]


def best(scores: Scores, count: int) -> np.ndarray:
    """The places of the `count` highest scores in each row [rows, n], best first.

    The highest scores lie in the columns with the highest maxima, which narrows the search 64-fold.
    """
    rows, vocabulary = scores.shape
    width = vocabulary // _DEPTH
    if count * _DEPTH * 2 > vocabulary:
        return _sorted(-scores, count)
    body = scores[:, : width * _DEPTH].reshape(rows, _DEPTH, width)
    columns = np.argpartition(-body.max(axis=1), count - 1, axis=-1)[:, :count]
    within = (columns[:, None, :] + (np.arange(_DEPTH) * width)[None, :, None]).reshape(rows, -1)
    tail = np.broadcast_to(np.arange(width * _DEPTH, vocabulary), (rows, vocabulary - width * _DEPTH))
    ids = np.concatenate([within, tail], axis=1)
    return np.take_along_axis(ids, _sorted(-np.take_along_axis(scores, ids, axis=-1), count), axis=-1)


def _sorted(values: Scores, count: int) -> np.ndarray:
    """The places of the `count` lowest values in each row, lowest first."""
    if count == values.shape[1]:
        return np.argsort(values, axis=-1, kind="stable")
    some = np.argpartition(values, count - 1, axis=-1)[:, :count]
    order = np.argsort(np.take_along_axis(values, some, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(some, order, axis=-1)


def _report(logits: Tensor, tokens: list[int], samplers: list[Sampler]) -> list[TokenLogprob | None]:
    wanted = [row for row, sampler in enumerate(samplers) if sampler.options.logprobs is not None]
    report: list[TokenLogprob | None] = [None] * len(samplers)
    if wanted:
        top = max(samplers[row].options.logprobs or 0 for row in wanted)
        heat = [samplers[row].temperature if samplers[row].options.for_training else 1.0 for row in wanted]
        reported = logits[wanted]
        if any(each != 1 for each in heat):
            reported = reported.float() / torch.tensor(heat, device=logits.device)[:, None]
        found = token_logprobs(reported, [tokens[row] for row in wanted], top)
        for row, one in zip(wanted, found, strict=True):
            count = samplers[row].options.logprobs or 0
            report[row] = TokenLogprob(one.token_id, one.logprob, one.top[:count])
    return report


def token_logprobs(logits: Tensor, tokens: list[int], top: int) -> list[TokenLogprob]:
    """Log-probabilities of one token in each row of logits [rows, vocabulary], and the `top` likeliest there."""
    scores = logits.float().log_softmax(-1)
    chosen = scores.gather(-1, torch.tensor(tokens, device=scores.device)[:, None]).squeeze(-1).tolist()
    if not top:
        return [TokenLogprob(token, value) for token, value in zip(tokens, chosen, strict=True)]
    values, ids = scores.topk(min(top, scores.shape[1]))
    likeliest = [tuple(zip(i, v, strict=True)) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]
    return [TokenLogprob(*each) for each in zip(tokens, chosen, likeliest, strict=True)]

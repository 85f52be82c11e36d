"""From logits to tokens: all rows at once, each with its own options and its own random numbers."""

import math
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kun.generation.options import SamplingOptions
from kun.generation.results import TokenLogprob

if TYPE_CHECKING:
    from kun.generation.constraint import Constraint

_CANDIDATES = 256
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

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> np.ndarray:
        return self._counts[: len(self._place)]


class Choice:
    """How one row chooses: its options, random numbers, and what it has used so far.

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

    @property
    def plain(self) -> bool:
        """Whether the logits are used as they are."""
        return self.use is None and self.bias is None and self.constraint is None

    @property
    def sorts(self) -> bool:
        """Whether the likeliest tokens must be told from the rest."""
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


def sample(logits: Tensor, choices: list[Choice]) -> Sampled:
    """Choose a token in each row of logits [rows, vocabulary]."""
    logits = logits.float()
    raw = logits
    if not all(choice.plain for choice in choices):
        logits = adjusted(logits, choices)
    tokens = _choose(logits, choices)
    return Sampled(tokens, _report(raw, tokens, choices))


def adjusted(logits: Tensor, choices: list[Choice]) -> Tensor:
    """A copy of the logits after constraints, biases and penalties."""
    logits = logits.clone()
    _constrain(logits, choices)
    _bias(logits, choices)
    _penalize(logits, choices)
    return logits


def _constrain(logits: Tensor, choices: list[Choice]) -> None:
    for row, choice in enumerate(choices):
        if choice.constraint is not None:
            allowed = torch.from_numpy(choice.constraint.allowed(logits.shape[1])).to(logits.device)
            logits[row].masked_fill_(~allowed, -math.inf)


def _bias(logits: Tensor, choices: list[Choice]) -> None:
    for row, choice in enumerate(choices):
        if choice.bias is not None:
            ids, values = (torch.from_numpy(part).to(logits.device) for part in choice.bias)
            logits[row].index_add_(0, ids, values)


def _penalize(logits: Tensor, choices: list[Choice]) -> None:
    rows = [(row, choice, choice.use) for row, choice in enumerate(choices) if choice.use is not None]
    if not rows:
        return
    sizes = [len(use.ids) for _, _, use in rows]

    def spread(values: list[float]) -> Tensor:
        return torch.from_numpy(np.repeat(np.array(values, dtype=np.float32), sizes)).to(logits.device)

    row_ids = torch.from_numpy(np.repeat(np.array([row for row, _, _ in rows]), sizes)).to(logits.device)
    ids = torch.from_numpy(np.concatenate([use.ids for _, _, use in rows])).to(logits.device)
    counts = torch.from_numpy(np.concatenate([use.counts for _, _, use in rows])).to(logits.device)
    repetition = spread([choice.options.repetition_penalty for _, choice, _ in rows])
    frequency = spread([choice.options.frequency_penalty for _, choice, _ in rows])
    presence = spread([choice.options.presence_penalty for _, choice, _ in rows])
    scores = logits[row_ids, ids]
    scores = torch.where(scores > 0, scores / repetition, scores * repetition)
    logits[row_ids, ids] = scores - counts * frequency - (counts > 0) * presence


def _choose(logits: Tensor, choices: list[Choice]) -> list[int]:
    if all(choice.greedy for choice in choices):
        return logits.argmax(-1).tolist()
    tokens = [0] * len(choices)
    greedy = [row for row, choice in enumerate(choices) if choice.greedy]
    whole = [row for row, choice in enumerate(choices) if not choice.greedy and not choice.sorts]
    cut = [row for row, choice in enumerate(choices) if not choice.greedy and choice.sorts]
    for rows, way in ((greedy, _likeliest), (whole, _from_all), (cut, _from_best)):
        if rows:
            part = logits if len(rows) == len(choices) else logits[rows]
            for row, token in zip(rows, way(part, [choices[row] for row in rows]), strict=True):
                tokens[row] = token
    return tokens


def _likeliest(logits: Tensor, choices: list[Choice]) -> list[int]:
    return logits.argmax(-1).tolist()


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _scaled(logits: Tensor, choices: list[Choice]) -> Tensor:
    """Logits over temperature with the highest at 0, which a temperature near 0 cannot blow up."""
    highest = logits.amax(-1, keepdim=True)
    return (logits - highest) / _column([choice.temperature for choice in choices], logits)


def _floor(choices: list[Choice], like: Tensor) -> Tensor:
    """min-p as a distance below the highest score."""
    lowest = [math.log(choice.options.min_p) if choice.options.min_p else -math.inf for choice in choices]
    return _column(lowest, like)


def _draw(weights: Tensor, uniforms: list[float]) -> Tensor:
    """A column for each row of weights [rows, n], by inverting the cumulative sum (in float64)."""
    total = weights.double().cumsum(-1)
    target = torch.tensor(uniforms, dtype=torch.float64, device=weights.device)[:, None] * total[:, -1:]
    places = torch.searchsorted(total, target, right=True)
    # rounding may reach the end, beyond which nothing has a weight
    return torch.minimum(places, torch.searchsorted(total, total[:, -1:].contiguous())).squeeze(-1)


def _from_all(logits: Tensor, choices: list[Choice]) -> list[int]:
    scores = _scaled(logits, choices)
    if any(choice.options.min_p for choice in choices):
        scores = scores.masked_fill(scores < _floor(choices, scores), -math.inf)
    return _draw(scores.exp(), [choice.uniform() for choice in choices]).tolist()


def _from_best(logits: Tensor, choices: list[Choice]) -> list[int]:
    scores = _scaled(logits, choices)
    uniforms = [choice.uniform() for choice in choices]
    ranked, ids, kept = _rank(scores, choices, _candidates(choices, scores.shape[1]))
    short = (kept.sum(-1) < 0).nonzero().flatten().tolist()
    places = _draw(ranked.exp() * kept.clamp(min=0), uniforms)
    tokens = ids.gather(-1, places[:, None]).squeeze(-1).tolist()
    if short:
        # the best few do not hold enough probability: rank the whole vocabulary for these rows
        some = [choices[row] for row in short]
        ranked, ids, kept = _rank(scores[short], some, scores.shape[1])
        places = _draw(ranked.exp() * kept, [uniforms[row] for row in short])
        for row, token in zip(short, ids.gather(-1, places[:, None]).squeeze(-1).tolist(), strict=True):
            tokens[row] = token
    return tokens


def _candidates(choices: list[Choice], vocabulary: int) -> int:
    return min(vocabulary, max(choice.options.top_k or _CANDIDATES for choice in choices))


def _rank(scores: Tensor, choices: list[Choice], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best scores, their ids, and which of them to keep: 1 or 0, or -1 in a row that needs more."""
    vocabulary = scores.shape[1]
    ranked, ids = scores.topk(count) if count < vocabulary else scores.sort(descending=True)
    limits = [float(choice.options.top_k or vocabulary) for choice in choices]
    rank = torch.arange(count, device=scores.device)[None]
    within = rank < _column(limits, scores)
    ranked = ranked.masked_fill(~within, -math.inf)
    cut = torch.tensor([bool(choice.options.top_k) for choice in choices], device=scores.device)[:, None]
    mass = torch.where(cut, ranked.logsumexp(-1, keepdim=True), scores.logsumexp(-1, keepdim=True))
    share = (ranked - mass).exp()
    before = share.cumsum(-1) - share
    top_p = _column([choice.top_p for choice in choices], scores)
    kept = within & (before < top_p) & (ranked >= _floor(choices, scores))
    kept[:, 0] = True
    more = ~cut & (share.sum(-1, keepdim=True) < top_p) & (count < vocabulary)
    more = more & (ranked[:, -1:] >= _floor(choices, scores))
    return ranked, ids, torch.where(more, -1.0, kept.float())


def _report(logits: Tensor, tokens: list[int], choices: list[Choice]) -> list[TokenLogprob | None]:
    wanted = [row for row, choice in enumerate(choices) if choice.options.logprobs is not None]
    report: list[TokenLogprob | None] = [None] * len(choices)
    if wanted:
        top = max(choices[row].options.logprobs or 0 for row in wanted)
        found = token_logprobs(logits[wanted], [tokens[row] for row in wanted], top)
        for row, one in zip(wanted, found, strict=True):
            count = choices[row].options.logprobs or 0
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

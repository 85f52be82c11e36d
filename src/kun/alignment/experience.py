"""What was sampled and what it was worth: the trees that are learned from, with a number for each of their tokens."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from kun.alignment.branches import Tree, planted
from kun.alignment.length import correlation
from kun.alignment.prompts import Prompt
from kun.alignment.rollouts import Rollout
from kun.training.feed import Batch

Floats = NDArray[np.float32]

OF_TOKENS = ("old", "sampler", "reference", "values", "advantages", "returns")


@dataclass
class Experience:
    """Answers to one prompt with their `scores`, float32 [answers]; `tokens` holds float32 [n] a name and answer."""

    prompt: Prompt
    tree: Tree
    answers: list[Rollout]
    scores: Floats
    tokens: dict[str, list[Floats]] = field(default_factory=dict)

    @property
    def kl(self) -> Floats:
        """Σ (log p - log p of the reference) of each answer, in nats: what was sampled says of the divergence."""
        pairs = zip(self.tokens["old"], self.tokens["reference"], strict=True)
        return np.array([float((old - reference).sum()) for old, reference in pairs], np.float32)


def experience_batch(some: Sequence[Experience]) -> Batch:
    """Trees as in `planted`, and each name of `tokens` as float32 [m], in the order of the learned tokens."""
    made = planted([one.tree for one in some])
    for name in OF_TOKENS:
        if all(name in one.tokens for one in some):
            made[name] = torch.from_numpy(np.concatenate([np.concatenate(one.tokens[name]) for one in some]))
    return made


def parted(numbers: torch.Tensor, some: Sequence[Experience]) -> list[list[Floats]]:
    """float32 [m] of a batch as a list for each experience of one array for each answer."""
    flat, at, made = numbers.float().cpu().numpy(), 0, []
    for one in some:
        each = []
        for branch in one.tree.branches:
            each.append(flat[at : at + len(branch)].copy())
            at += len(branch)
        made.append(each)
    return made


def in_parts(some: Sequence[Experience], most: int) -> list[list[Experience]]:
    """As many experiences together as have `most` tokens, or one."""
    parts: list[list[Experience]] = []
    size = 0
    for one in some:
        if not parts or size + one.tree.size > most:
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += one.tree.size
    return parts


def statistics(some: Sequence[Experience]) -> dict[str, float]:
    """Sums over all answers, of which `averages` makes what is reported."""
    sums = dict.fromkeys(
        ("groups", "signal", "answers", "reward", "reward_squares", "kl", "length", "length_squares"), 0.0
    )
    sums |= dict.fromkeys(
        ("length_squares", "reward_length", "ended", "grams", "distinct", "tokens", "off_sampler"), 0.0
    )
    sums |= dict.fromkeys(("valued", "returns", "return_squares", "errors", "error_squares"), 0.0)
    sums |= dict(zip(("asked", "alike"), _alike(some), strict=True))
    for one in some:
        sums["groups"] += 1
        sums["signal"] += float(np.ptp(one.scores)) > 0
        kl = one.kl if "reference" in one.tokens else np.zeros(len(one.answers), np.float32)
        for place, (answer, score) in enumerate(zip(one.answers, one.scores, strict=True)):
            length, grams = len(answer.ids), _trigrams(answer.ids)
            sums["answers"] += 1
            sums["reward"] += float(score)
            sums["reward_squares"] += float(score) ** 2
            sums["kl"] += float(kl[place])
            sums["length"] += length
            sums["length_squares"] += length**2
            sums["reward_length"] += float(score) * length
            sums["ended"] += answer.ended
            sums["grams"] += len(grams)
            sums["distinct"] += len(set(grams))
            if "old" in one.tokens:
                sums["tokens"] += length
                sums["off_sampler"] += float(np.abs(one.tokens["old"][place] - answer.log_probs).sum())
            if "returns" in one.tokens:
                returns = one.tokens["returns"][place]
                sums["valued"] += length
                sums["returns"] += float(returns.sum())
                sums["return_squares"] += float(np.square(returns).sum())
                errors = returns - one.tokens["values"][place]
                sums["errors"] += float(errors.sum())
                sums["error_squares"] += float(np.square(errors).sum())
    return sums


def _alike(some: Sequence[Experience]) -> tuple[float, float]:
    """Different prompts, and how many of them got the answer that most of them got."""
    first = {one.prompt.ids.tobytes(): one.answers[0].ids.tobytes() for one in some}
    return len(first), max(Counter(first.values()).values(), default=0)


def _trigrams(ids: NDArray[np.int32]) -> list[bytes]:
    return [ids[place : place + 3].tobytes() for place in range(len(ids) - 2)]


def averages(sums: Mapping[str, float]) -> dict[str, float]:
    """Means over answers.

    `reward` and its deviation, `kl` in nats an answer, `length`, the share that `ended`, the share of `distinct`
    trigrams within an answer, the share of prompts that got the commonest answer (`alike`), that of prompts whose
    answers' rewards differ (`signal`), the correlation of reward and length, how far the sampler's log-probabilities
    are from the trainer's in nats a token, and the share of the returns' variance that the values explain.
    """
    count = max(1.0, sums["answers"])
    mean, length = sums["reward"] / count, sums["length"] / count
    spread = max(0.0, sums["reward_squares"] / count - mean**2) ** 0.5
    both = ("answers", "reward", "length", "reward_squares", "length_squares", "reward_length")
    made = {
        "reward": mean,
        "reward_std": spread,
        "kl": sums["kl"] / count,
        "length": length,
        "ended": sums["ended"] / count,
        "distinct": sums["distinct"] / sums["grams"] if sums["grams"] else 1.0,
        "alike": sums["alike"] / max(1.0, sums["asked"]),
        "signal": sums["signal"] / max(1.0, sums["groups"]),
        "length_correlation": correlation([sums[name] for name in both]),
    }
    if sums["tokens"]:
        made["off_sampler"] = sums["off_sampler"] / sums["tokens"]
    if sums["valued"]:
        made["explained_variance"] = _explained(sums)
    return made


def _explained(sums: Mapping[str, float]) -> float:
    """The share of the variance of returns that the values foretold."""
    count = sums["valued"]
    whole = sums["return_squares"] / count - (sums["returns"] / count) ** 2
    left = sums["error_squares"] / count - (sums["errors"] / count) ** 2
    return 1 - left / whole if whole > 1e-12 else 0.0

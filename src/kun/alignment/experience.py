"""What was sampled and what it was worth: the trees that are learned from, with a number for each of their tokens."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

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


@dataclass(frozen=True)
class Piece:
    """Some of the answers to a prompt, by their numbers: as many as go through the network together."""

    whole: Experience
    answers: range

    @property
    def tree(self) -> Tree:
        tree, some = self.whole.tree, slice(self.answers.start, self.answers.stop)
        return Tree(tree.trunk, tree.branches[some], tree.learned[some])

    def tokens(self, name: str) -> list[Floats]:
        return self.whole.tokens[name][self.answers.start : self.answers.stop]


def experience_batch(some: Sequence[Piece]) -> Batch:
    """Trees as in `planted`, and each name of `tokens` as float32 [m], in the order of the learned tokens."""
    made = planted([one.tree for one in some])
    for name in OF_TOKENS:
        if all(name in one.whole.tokens for one in some):
            made[name] = torch.from_numpy(np.concatenate([each for one in some for each in one.tokens(name)]))
    return made


def parted(numbers: torch.Tensor, some: Sequence[Piece]) -> Iterator[Floats]:
    """float32 [m] of a batch as one array for each answer."""
    flat, at = numbers.float().cpu().numpy(), 0
    for one in some:
        for branch in one.tree.branches:
            yield flat[at : at + len(branch)].copy()
            at += len(branch)


def in_parts(some: Sequence[Experience], most: int) -> list[list[Piece]]:
    """As many answers together as have `most` tokens with their prompts, or one."""
    parts: list[list[Piece]] = []
    room = 0
    for one in some:
        for place, branch in enumerate(one.tree.branches):
            is_open = bool(parts) and bool(place) and len(branch) <= room
            if not is_open and (not parts or len(one.tree.trunk) + len(branch) > room):
                parts.append([])
                room = most
            if is_open:
                last = parts[-1].pop().answers
                parts[-1].append(Piece(one, range(last.start, place + 1)))
            else:
                parts[-1].append(Piece(one, range(place, place + 1)))
                room -= len(one.tree.trunk)
            room -= len(branch)
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
    sums |= dict(zip(("asked", "alike", "marks", "mark_squares"), _alike(some), strict=True))
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


def _alike(some: Sequence[Experience]) -> tuple[float, float, float, float]:
    """Different prompts, how many of them got the answer that most of them got, and sums of a number of each answer.

    From the last two it can be told whether processes have the same commonest answer.
    """
    first = {one.prompt.ids.tobytes(): one.answers[0].ids.tobytes() for one in some}
    marks = [crc32(answer) / 2**32 for answer in first.values()]
    most = max(Counter(first.values()).values(), default=0)
    return len(first), most, sum(marks), sum(mark**2 for mark in marks)


def _trigrams(ids: NDArray[np.int32]) -> list[bytes]:
    return [ids[place : place + 3].tobytes() for place in range(len(ids) - 2)]


def averages(sums: Mapping[str, float]) -> dict[str, float]:
    """Means over answers.

    `reward` and its deviation, `kl` in nats an answer, `length`, the share that `ended`, the share of `distinct`
    trigrams within an answer, the share of prompts that got the commonest answer (`alike`), of several answers to a
    prompt how often their rewards differ (`signal`), the correlation of reward and length, how far the sampler's
    log-probabilities are from the trainer's in nats a token, and the share of the returns' variance that the values
    explain.
    """
    count = max(1.0, sums["answers"])
    mean, length = sums["reward"] / count, sums["length"] / count
    spread = max(0.0, sums["reward_squares"] / count - mean**2) ** 0.5
    asked = max(1.0, sums["asked"])
    differ = sums["mark_squares"] / asked - (sums["marks"] / asked) ** 2 > 1e-12
    both = ("answers", "reward", "length", "reward_squares", "length_squares", "reward_length")
    made = {
        "reward": mean,
        "reward_std": spread,
        "kl": sums["kl"] / count,
        "length": length,
        "ended": sums["ended"] / count,
        "distinct": sums["distinct"] / sums["grams"] if sums["grams"] else 1.0,
        "alike": min(sums["alike"], asked - differ) / asked,
        "length_correlation": correlation([sums[name] for name in both]),
    }
    if sums["answers"] > sums["groups"]:
        made["signal"] = sums["signal"] / sums["groups"]
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

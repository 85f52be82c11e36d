"""Batches of answers that the trained network sampled, scored, and that it learns from in a few steps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from kun.alignment.experience import (
    Experience,
    averages,
    experience_batch,
    in_parts,
    parted,
    statistics,
)
from kun.alignment.policy import Policy, reference_log_probs
from kun.alignment.prompts import Prompt, Prompts
from kun.alignment.rollouts import Rollout, Scorer, sampled, tree_of
from kun.errors import BadRecipe, Diverged
from kun.objectives.text.cursor import RowFeed
from kun.objectives.text.model import TrainingModel
from kun.training.cross_entropy import IGNORED
from kun.training.feed import ALL_ROWS, Batch, Feed, RankSlice, as_count
from kun.training.networks import Networks
from kun.training.processes import summed_over_processes

_KL_GAIN, _KL_ERROR = 0.1, 0.2
"""How fast an adaptive coefficient follows, and the largest error that it follows: Ziegler et al., arXiv:1909.08593."""


@dataclass(frozen=True)
class Plan:
    """How much is sampled, and how often it is learned from.

    A rollout has `prompts` prompts with `answers` answers each, of at most `max_tokens`; it is learned from in
    `epochs` · `minibatches` steps. `kl` is what a nat of divergence costs; with `kl_target`, in nats an answer, it is
    adapted.
    """

    prompts: int
    answers: int
    max_tokens: int
    temperature: float
    epochs: int = 1
    minibatches: int = 1
    kl: float = 0.05
    kl_target: float | None = None

    @property
    def steps(self) -> int:
        return self.epochs * self.minibatches


class Judge(ABC):
    """What a task makes of scored answers: how much each token is to be said more, or less."""

    @abstractmethod
    def weigh(self, some: list[Experience], kl: float, device: torch.device) -> None:
        """Put `advantages`, and what else its loss needs, into the tokens of each experience."""


@dataclass(kw_only=True)
class RolloutFeed(Feed[Policy]):
    """Samples at its borders, and gives what was sampled in `plan.steps` steps."""

    data: Prompts
    held_out: Prompts | None
    model: TrainingModel
    plan: Plan
    scorer: Scorer
    judge: Judge
    seed: int
    device: torch.device
    micro_tokens: int
    pretraining: RowFeed | None = None
    """What the network was pretrained on, of which each step gets some (PPO-ptx)."""
    rows: RankSlice = ALL_ROWS
    rollouts: int = 0
    kl: float = field(init=False)
    start: dict[str, float] = field(default_factory=dict)
    """What the held-out prompts' answers were worth as they were first evaluated, before the first step."""
    first: dict[str, float] = field(default_factory=dict)
    """What the first rollout was like."""
    shown: list[dict[str, str]] = field(default_factory=list)
    """Answers to held-out prompts, as they were last sampled."""

    def __post_init__(self) -> None:
        self.kl = self.plan.kl
        self._position = 0
        self._experience: list[Experience] = []
        self._told: dict[str, float] = {}
        self._networks: Networks[Policy] | None = None

    @property
    def at_border(self) -> bool:
        return self._position == 0

    def divide(self, rows: RankSlice) -> None:
        if self.plan.prompts % (rows.world * self.plan.minibatches):
            raise BadRecipe(
                f"A rollout of {self.plan.prompts} prompts in {self.plan.minibatches} minibatches cannot be shared by "
                f"{rows.world} processes: raise train.batch."
            )
        self.rows = rows
        if self.pretraining is not None:
            self.pretraining.divide(rows)

    def begin(self, step: int, networks: Networks[Policy]) -> None:
        self._networks = networks
        if not self.at_border:
            return
        numbers = self._next_prompts()
        mine = numbers[self.rows.rank :: self.rows.world]
        seeds = [self._seed(self.rollouts, number) for number in mine]
        self._experience = self._sampled(
            [self.data.prompts[number % len(self.data)] for number in mine], seeds
        )
        self._read(self._experience)
        self.judge.weigh(self._experience, self.kl, self.device)
        made = averages(self._over_all(statistics(self._experience)))
        self.first = self.first or made
        self._told = made | {"kl_coefficient": self.kl}
        self._adapt()

    def _next_prompts(self) -> list[int]:
        """The numbers of this rollout's prompts, counted on over epochs; each epoch has an order of its own."""
        first, size = self.rollouts * self.plan.prompts, len(self.data)
        made = []
        for place in range(first, first + self.plan.prompts):
            epoch, within = divmod(place, size)
            order = np.random.default_rng((self.seed, epoch)).permutation(size)
            made.append(int(order[within]) + epoch * size)
        return made

    def _seed(self, *parts: int) -> int:
        return int(np.random.SeedSequence((self.seed, *parts)).generate_state(1, np.uint64)[0] >> 1)

    def _sampled(self, prompts: list[Prompt], seeds: list[int]) -> list[Experience]:
        """Answers with their scores. Raises `Diverged`, which names the prompt, where a score is no number."""
        assert self._networks is not None
        plan = self.plan
        answers = sampled(
            self._networks.trained.decoder,
            self.model,
            prompts,
            answers=plan.answers,
            max_tokens=plan.max_tokens,
            temperature=plan.temperature,
            seeds=seeds,
        )
        scores = self.scorer(prompts, answers)
        for prompt, each in zip(prompts, scores, strict=True):
            if not np.isfinite(each).all():
                raise Diverged(
                    f"The reward of an answer to {prompt.where} is {each.tolist()}: look at the reward model, or "
                    "leave the prompt out."
                )
        return [
            Experience(prompt, tree_of(prompt, some), some, each)
            for prompt, some, each in zip(prompts, answers, scores, strict=True)
        ]

    def _read(self, some: list[Experience]) -> None:
        """What trainer and reference say of each token now, which later steps are compared with."""
        assert self._networks is not None
        policy, copy = self._networks.trained, self._networks.frozen.get("reference")
        training = policy.training
        policy.eval()
        for part in in_parts(some, self.micro_tokens):
            batch = {name: tensor.to(self.device) for name, tensor in experience_batch(part).items()}
            # by the kernels of training, so that ratios begin at one in bfloat16, too
            with torch.enable_grad():
                read = policy.read(batch, self.plan.temperature)
            reference = reference_log_probs(policy.decoder, copy, batch, self.plan.temperature)
            found = {"old": read.log_probs.detach(), "values": read.values.detach(), "reference": reference}
            del read
            for name, numbers in found.items():
                each = parted(numbers, part)
                for piece in part:
                    piece.whole.tokens.setdefault(name, []).extend(islice(each, len(piece.answers)))
        for one in some:
            one.tokens["sampler"] = [answer.log_probs for answer in one.answers]
        policy.train(training)

    def _over_all(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Sums of all processes."""
        whole = summed_over_processes(list(sums.values()), self.device)
        return dict(zip(sums, whole, strict=True))

    def _adapt(self) -> None:
        if self.plan.kl_target is None or "kl" not in self._told:
            return
        error = self._told["kl"] / self.plan.kl_target - 1
        self.kl *= 1 + _KL_GAIN * min(max(error, -_KL_ERROR), _KL_ERROR)

    def step(self) -> list[Batch]:
        plan = self.plan
        epoch, number = divmod(self._position, plan.minibatches)
        order = np.random.default_rng((self.seed, self.rollouts, epoch)).permutation(len(self._experience))
        size = len(order) // plan.minibatches
        chosen = [self._experience[place] for place in order[number * size : (number + 1) * size]]
        self._position += 1
        if self._position == plan.steps:
            self._position = 0
            self.rollouts += 1
        batches = [experience_batch(part) for part in in_parts(chosen, self.micro_tokens)]
        return batches + self._pretrained(sum(len(batch["targets"]) for batch in batches))

    def _pretrained(self, tokens: int) -> list[Batch]:
        """Rows of pretraining, which count together as much as `tokens` of answers, however many they have."""
        if self.pretraining is None:
            return []
        batches = self.pretraining.step()
        learned = sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
        share = torch.tensor([tokens / max(1, learned)])
        return [batch | {"share": share.expand(len(batch["labels"]))} for batch in batches]

    def spare(self) -> list[Batch]:
        return [experience_batch(in_parts(self._experience[:1], 1)[0])]

    def metrics(self) -> Mapping[str, float]:
        return self._told

    def evaluation(self) -> Iterator[Batch]:
        """Answers to this process's share of the held-out prompts, sampled now, as what `measure` adds up."""
        if self.held_out is None:
            return
        sums = statistics(self._evaluated())
        yield {name: torch.tensor([value], dtype=torch.float64) for name, value in sums.items()}

    def _evaluated(self) -> list[Experience]:
        assert self.held_out is not None
        prompts = self.held_out.prompts[self.rows.rank :: self.rows.world]
        # each prompt has the same random numbers every time, so that only the network's changes show
        places = range(self.rows.rank, len(self.held_out), self.rows.world)
        some = self._sampled(prompts, [self._seed(2**32, place) for place in places])
        self._read(some)
        self.shown = [_shown(one, one.answers[0], float(one.scores[0])) for one in some[:_SHOWN]]
        return some

    def epochs(self) -> float:
        return self.rollouts * self.plan.prompts / len(self.data)

    def where(self) -> str:
        return f"rollout {self.rollouts}"

    def state(self) -> dict[str, object]:
        mixed = {} if self.pretraining is None else {"pretraining": self.pretraining.state()}
        return {"rollouts": self.rollouts, "kl": self.kl, "start": self.start, "first": self.first, **mixed}

    def load(self, state: Mapping[str, object]) -> None:
        self.rollouts = as_count(state, "rollouts")
        kl = state.get("kl")
        self.kl = float(kl) if isinstance(kl, int | float) and math.isfinite(kl) else self.plan.kl
        self.start, self.first = _numbers(state.get("start")), _numbers(state.get("first"))
        self._position = 0
        mixed = state.get("pretraining")
        if self.pretraining is not None and isinstance(mixed, dict):
            self.pretraining.load(mixed)


_SHOWN = 4


def _numbers(given: object) -> dict[str, float]:
    return {str(key): float(value) for key, value in given.items()} if isinstance(given, dict) else {}


def _shown(one: Experience, answer: Rollout, score: float) -> dict[str, str]:
    text = answer.text if answer.ended else f"{answer.text} …"
    return {"prompt": str(one.prompt.messages[-1]["content"]), "text": f"{text}  [{score:+.2f}]"}

"""What training by rewards has in common, whichever way tokens are weighed: rollouts, the reference, the guards."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file

from kun.adaptation.lora import lora_pairs
from kun.alignment.branches import ONE_BY_ONE
from kun.alignment.experience import averages
from kun.alignment.length import LIKE_LENGTH, LengthFlag
from kun.alignment.policy import Policy
from kun.alignment.prompts import Prompts
from kun.alignment.reward_model import RewardModel
from kun.alignment.rollout_feed import Judge, Plan, RolloutFeed
from kun.alignment.rollouts import ByRewardModel, Scorer
from kun.alignment.verifiers import VERIFIERS, ByVerifier
from kun.data.rows import Conversation, Pair, Ranking, Text
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput, BadRecipe
from kun.hub.pull import locate
from kun.models.opening import open_model as open_ready
from kun.networks.family import Family
from kun.objectives.text.cursor import RowFeed
from kun.objectives.text.model import HeadRequirements, TrainingModel, open_model
from kun.objectives.text.saving import writer
from kun.objectives.text.source import TextSource
from kun.training.feed import Batch, Feed
from kun.training.flops import flops_per_token
from kun.training.memory import A_NETWORK, enough_memory
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Evaluation, Task, Write

VALUE_HEAD = "value_head.safetensors"

ADVICE = "this stage learns from prompts: name conversations, pairs, preferences or texts."


class RewardOptions(Table):
    """Keys of [objective] that training by rewards has."""

    reward: str = ""
    """The reward model: a catalog name, a folder or a hub id."""
    verifier: Literal["", "number", "text"] = ""
    """In the place of a reward model: 1 for an answer that ends in the number, or is the text, that the data want."""
    cut_penalty: float = Field(default=0.0, ge=0)
    """Taken off a reward model's score for an answer that was cut at its longest."""
    max_tokens: int = Field(default=64, ge=1, le=2**15)
    temperature: float = Field(default=1.0, gt=0, le=10)
    epochs: int = Field(default=1, ge=1, le=64)
    """How often a rollout is learned from."""
    minibatches: int = Field(default=1, ge=1, le=1024)
    """In how many steps each time."""
    kl: float = Field(default=0.05, ge=0)
    """What a nat of divergence from the reference costs."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats an answer to which the cost is adapted."""
    kl_ceiling: float = Field(default=30.0, gt=0)
    """Nats an answer at which the training ends."""
    guards: bool = True
    """Whether answers that repeat themselves, grow longer for the reward's sake, or are all the same end it, too."""
    clip: float = Field(default=0.2, gt=0)
    """How far the ratio of new to old probabilities may be from one and still be learned from."""
    importance_cap: float = Field(default=2.0, ge=1)
    """The most that a token counts because the trainer says it is likelier than the sampler did."""


class RewardTask(Task[Policy]):
    """A step has `train.batch` answers that the trained network wrote itself."""

    unit = "answers"
    batch = 16
    keeps = "best"
    evaluates_start = True
    guesses: ClassVar[bool] = False
    """Whether a value head learns what states are worth."""
    rows = (Conversation, Pair, Ranking, Text)
    options: RewardOptions

    @classmethod
    def fits(cls, family: Family) -> bool:
        reads = family.kind == "decoder" and family.name not in ONE_BY_ONE
        return reads and "next_token" in family.objectives

    @abstractmethod
    def plan(self, batch: int) -> Plan:
        """How `batch` answers a step are sampled."""

    @abstractmethod
    def judge(self) -> Judge:
        """How answers are weighed by their scores."""

    def networks(self, open: Opener) -> Networks[Policy]:
        job = open.job
        if job.model.dropout or (job.lora and job.lora.dropout):
            raise BadRecipe(
                f"With dropout stage {self.name!r} would compare an answer with another network than the one that "
                "wrote it: leave model.dropout and lora.dropout out."
            )
        if job.parallel.tensor * job.parallel.pipeline * job.parallel.expert > 1 or job.parallel.shard:
            raise BadRecipe(
                "Answers are sampled from a whole network on each process: set parallel.data alone."
            )
        self.is_adapted, self.held = job.lora is not None, dict[str, float]()
        self.say_where_length_rules = LengthFlag(open.progress)
        self.model = open_model(open, HeadRequirements(talks=True, still=True))
        self.policy = Policy(self.model.net)
        if self.guesses and self.model.origin is not None:
            self.policy.resume_value(self.model.origin.path / VALUE_HEAD)
        frozen = {}
        if not lora_pairs(self.model.net):
            assert job.model.source is not None
            frozen = {"reference": open.frozen(job.model.source)}
        return Networks(self.policy, frozen)

    def feed(self, open: Opener, networks: Networks[Policy]) -> RolloutFeed:
        job, model = open.job, self.model
        plan = self.plan(job.batch)
        longest = model.context - plan.max_tokens
        if longest < 1:
            raise BadRecipe(
                f"objective.max_tokens = {plan.max_tokens} leaves no room for a prompt in train.context = "
                f"{model.context}: lower it."
            )
        if plan.kl_target and not plan.kl:
            raise BadRecipe(
                "objective.kl_target adapts objective.kl, which is 0 and would stay so: give it a start, such as 0.05."
            )
        encode = prompt_encoder(model)
        source = TextSource(open, self.rows, ADVICE)
        rows = source.training()
        learned, held_out = Prompts.read(rows, encode, longest, rows.rows.bad), None
        if isinstance(job.data.eval, float):
            learned, held_out = learned.split(job.data.eval)
        elif job.data.eval is not None:
            others = source.rows(job.data.eval, limited=False)
            held_out = Prompts.read(others, encode, longest, others.rows.bad)
        self.made = RolloutFeed(
            data=learned,
            held_out=held_out,
            model=model,
            plan=plan,
            scorer=self.scorer(open),
            judge=self.judge(),
            seed=job.seed,
            device=open.device,
            micro_tokens=job.train.micro_batch_tokens,
            pretraining=self.pretraining(open),
        )
        return self.made

    def scorer(self, open: Opener) -> Scorer:
        """What gives rewards. Raises `BadRecipe` unless the recipe names one."""
        if bool(self.options.reward) == bool(self.options.verifier):
            raise BadRecipe(
                "Rewards come from objective.reward, a reward model, or from objective.verifier: name one."
            )
        if self.options.verifier:
            return ByVerifier(VERIFIERS[self.options.verifier])
        with enough_memory(*A_NETWORK):
            model = open_ready(locate(self.options.reward), device=open.device, dtype=open.dtype)
        if not isinstance(model, RewardModel):
            raise BadInput(
                f'{self.options.reward} is no reward model: name the checkpoint of a training of stage = "reward".'
            )
        if self.is_adapted and (saved := model.share(self.policy.decoder)):
            open.progress("shared with the reward model", 0, None, f"{saved / 1e6:.0f} MB of weights")
        return ByRewardModel(model, self.options.cut_penalty)

    def pretraining(self, open: Opener) -> RowFeed | None:
        """What is mixed into each step of what the network was pretrained on."""
        return None

    def items(self, batch: Batch) -> int:
        return len(batch["ends"]) if "ends" in batch else 0

    def count(self, batch: Batch) -> int:
        """Tokens of answers; of what evaluation sums up, one, and of pretraining, which is weighed by itself, none."""
        if "targets" in batch:
            return len(batch["targets"])
        return 0 if "labels" in batch else 1

    def measure(self, networks: Networks[Policy], batch: Batch) -> dict[str, float]:
        return {name: float(value) for name, value in batch.items()}

    def evaluate(self, networks: Networks[Policy]) -> Evaluation:
        self.say_where_length_rules(self.held.get("length_correlation", 0.0))
        return Evaluation(samples=self.made.shown)

    def averaged(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over the answers to held-out prompts, which are remembered; the first ones are those of the start."""
        self.held = averages(sums)
        self.made.start = self.made.start or dict(self.held)
        return dict(self.held)

    def is_sound(self, means: Mapping[str, float]) -> bool:
        return not self._excess(means, self.made.start)

    def verdict(self, metrics: Mapping[str, float]) -> str:
        plan = self.made.plan
        if self.made.held_out is None and plan.prompts * plan.answers >= _MANY:
            self.say_where_length_rules(metrics.get("length_correlation", 0.0))
        return self._excess(metrics, self.made.first)

    def _excess(self, metrics: Mapping[str, float], first: Mapping[str, float]) -> str:
        """Why it has gone too far: the divergence, or a reward that is had by repetition, length, or one answer to all.

        The last three are told from how it was at first: what was so from the beginning is not learned.
        """
        o = self.options
        if metrics.get("kl", 0.0) > o.kl_ceiling:
            return (
                f"the divergence from the reference is {metrics['kl']:.1f} nats an answer, above "
                f"objective.kl_ceiling = {o.kl_ceiling:g}"
            )
        if not o.guards or "length" not in metrics:
            return ""
        if metrics["distinct"] < _LEAST_DISTINCT <= first.get("distinct", 1.0):
            return f"answers repeat themselves: {metrics['distinct']:.0%} of their trigrams are distinct"
        grown = metrics["length"] / max(1.0, first.get("length", 1.0))
        if grown > _LONGEST_GROWTH and metrics["length_correlation"] > LIKE_LENGTH:
            return (
                f"answers are {grown:.1f} times as long as at first, and their reward follows length (correlation "
                f"{metrics['length_correlation']:.2f})"
            )
        if metrics["alike"] == 1 and first.get("alike", 0.0) < 0.5 and self.made.plan.prompts >= _MANY:
            return "all prompts get the same answer"
        return ""

    def flops(self, networks: Networks[Policy]) -> float:
        return flops_per_token(self.model.net, self.model.context) * self.options.max_tokens

    def facts(self, open: Opener, networks: Networks[Policy], feed: Feed[Policy]) -> dict[str, object]:
        data: dict[str, object] = {**asdict(self.made.data.counts), "source": open.job.data.train}
        data |= {"documents": len(self.made.data)}
        if self.made.held_out is not None:
            data |= {"eval_documents": len(self.made.held_out)}
        return {"config": self.model.net.config.to_hf(), "data": data}

    def saved(self, networks: Networks[Policy]) -> Write:
        policy = networks.trained
        write = writer(self.model, policy.decoder, self.is_adapted)
        head = {
            name: tensor.detach().cpu().contiguous() for name, tensor in policy.value.state_dict().items()
        }

        def whole(folder: Path, lineage: Mapping[str, object]) -> None:
            write(folder, lineage)
            save_file(head, folder / VALUE_HEAD)

        return whole if self.guesses else write


_MANY = 8
"""Prompts of which it is no chance that all get one answer, and answers whose length may tell of their rewards."""
_LONGEST_GROWTH = 2.0
"""So many times as long as at first, answers have grown for the sake of a reward that follows length."""
_LEAST_DISTINCT = 0.3
"""Below this share of distinct trigrams within answers a network says the same over and over."""


def prompt_encoder(model: TrainingModel) -> "PromptEncoder":
    """How a model reads prompts."""
    assert model.template is not None
    return PromptEncoder(RowTokenizer(model.tokenizer, template=model.template))


class PromptEncoder:
    """The ids of a prompt, with the beginning of the answer behind it."""

    def __init__(self, tokens: RowTokenizer) -> None:
        self.tokens = tokens

    def __call__(self, messages: Sequence[Mapping[str, object]]) -> list[int]:
        return self.tokens.prompt(messages)


def policy_loss(
    new: torch.Tensor, batch: Batch, *, clip: float, importance_cap: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of each token -min(ratio · advantage, clipped ratio · advantage), float32 [m]; and sums to be told.

    Schulman et al., arXiv:1707.06347, equation 7. What sampler and trainer disagree on is weighed by their ratio, cut
    off at `importance_cap` (Yao et al. 2025, truncated importance sampling).
    """
    advantages, old = batch["advantages"], batch.get("old")
    old = new.detach() if old is None else old
    ratio = (new - old).exp()
    losses = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    if "sampler" in batch:
        losses = losses * (old - batch["sampler"]).exp().clamp(max=importance_cap)
    outside = ((ratio - 1).abs() > clip).float().sum()
    return losses, {"clipped": outside, "old_kl": (ratio - 1 - (new - old)).detach().sum()}

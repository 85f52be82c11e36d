"""Optimizing a policy by comparing its own answers: Shao et al., "DeepSeekMath", arXiv:2402.03300 (GRPO).

Several answers are sampled to each prompt, and each is said more or less as it is better or worse than the others. No
network guesses values; the divergence from the reference is a part of the loss (equation 4 there).
"""

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field

from kun.alignment.advantages import group_advantages
from kun.alignment.experience import Experience
from kun.alignment.policy import Policy
from kun.alignment.rl_task import RewardOptions, RewardTask, policy_loss
from kun.alignment.rollout_feed import Judge, Plan
from kun.errors import BadRecipe
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.task import Loss


class Grpo(RewardTask):
    """-min(ratio · advantage, clipped ratio · advantage) + kl (r - 1 - log r), r the reference's ratio to the policy.

    A group whose rewards are all equal teaches nothing; `signal` tells the share of those that teach.
    """

    name = "grpo"
    stages = ("grpo",)

    class Options(RewardOptions):
        answers: int = Field(default=8, ge=2, le=64)
        """Answers to one prompt."""

    options: Options

    def plan(self, batch: int) -> Plan:
        o = self.options
        if batch % o.answers:
            raise BadRecipe(
                f"train.batch = {batch} answers a step are no whole groups of objective.answers = {o.answers}: "
                "make one a multiple of the other."
            )
        return Plan(
            batch // o.answers * o.minibatches,
            o.answers,
            o.max_tokens,
            o.temperature,
            epochs=o.epochs,
            minibatches=o.minibatches,
            kl=o.kl,
            kl_target=o.kl_target,
        )

    def judge(self) -> Judge:
        self.weighed = _ByGroups()
        return self.weighed

    def loss(self, networks: Networks[Policy], batch: Batch) -> Loss:
        o, new = self.options, networks.trained.read(batch, self.options.temperature)
        losses, told = policy_loss(new.log_probs, batch, clip=o.clip, importance_cap=o.importance_cap)
        behind = batch["reference"] - new.log_probs
        losses = losses + self.weighed.kl * (behind.exp() - 1 - behind)
        return Loss(losses.sum(), self.count(batch), told | {"entropy": new.entropies.sum()})

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        made = self.averaged(sums)
        return {"loss": -made["reward"], **made}


class _ByGroups(Judge):
    """Each answer against the others of its group; what divergence costs is a part of the loss."""

    kl = 0.0
    """What a nat costs in the steps on this rollout."""

    def weigh(self, some: list[Experience], kl: float, device: torch.device) -> None:
        self.kl = kl
        for one in some:
            worth = group_advantages(one.scores.tolist())
            one.tokens["advantages"] = [
                np.full(len(answer.ids), each, np.float32)
                for answer, each in zip(one.answers, worth, strict=True)
            ]

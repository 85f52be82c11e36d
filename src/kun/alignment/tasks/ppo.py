"""Optimizing a policy by a reward model: Schulman et al., arXiv:1707.06347, as Ouyang et al., arXiv:2203.02155, do it.

Each token costs what it diverges from the reference, and the score comes with the last one. With `ptx` the loss of the
next token of what the network was pretrained on is added (PPO-ptx, equation 2 there), so that less of it is lost.
"""

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field

from kun.alignment.advantages import generalized_advantages, token_rewards
from kun.alignment.experience import Experience
from kun.alignment.policy import Policy
from kun.alignment.rl_task import RewardOptions, RewardTask, policy_loss
from kun.alignment.rollout_feed import Judge, Plan
from kun.data.packing import PackedRows
from kun.data.rows import Text
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadRecipe
from kun.objectives.text.cursor import RowFeed
from kun.objectives.text.packed import PackedFeed
from kun.objectives.text.source import TextSource
from kun.training.cross_entropy import cross_entropy
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.processes import summed_over_processes
from kun.training.task import Loss


class Ppo(RewardTask):
    """-min(ratio · advantage, clipped ratio · advantage), and `value` of how wrong the guesses of what comes are."""

    name = "ppo"
    stages = ("ppo",)
    guesses = True

    class Options(RewardOptions):
        gamma: float = Field(default=1.0, gt=0, le=1)
        lam: float = Field(default=0.95, ge=0, le=1)
        """How far ahead advantages look: 0 to the next guess, 1 to the end."""
        value: float = Field(default=0.1, ge=0)
        """What the loss of the guesses weighs."""
        value_clip: float = Field(default=0.2, gt=0)
        whiten: bool = True
        """Whether advantages of a rollout get the mean zero and the deviation one."""
        ptx: float = Field(default=0.0, ge=0)
        """What the loss of the next token weighs, a token of it as much as one of an answer."""
        ptx_data: str = ""
        """Text for it."""
        ptx_tokens: int = Field(default=1024, ge=1)
        """Tokens of it a step."""

    options: Options

    def plan(self, batch: int) -> Plan:
        o = self.options
        return Plan(
            batch * o.minibatches,
            1,
            o.max_tokens,
            o.temperature,
            epochs=o.epochs,
            minibatches=o.minibatches,
            kl=o.kl,
            kl_target=o.kl_target,
        )

    def judge(self) -> Judge:
        return _ByValues(self.options)

    def pretraining(self, open: Opener) -> RowFeed | None:
        o = self.options
        if bool(o.ptx) != bool(o.ptx_data):
            raise BadRecipe("objective.ptx and objective.ptx_data belong together: give both, or none.")
        if not o.ptx:
            return None
        model, job = self.model, open.job
        rows = TextSource(open, (Text,), "objective.ptx_data is running text; name such data.").rows(
            o.ptx_data
        )
        tokenizer = RowTokenizer(model.tokenizer, begin=model.begin, end=model.end, longest=model.context)
        store = TokenStore.build(
            open.folder.path / "data" / "pretraining",
            rows,
            tokenizer,
            bad=rows.rows.bad,
            fingerprint=rows.fingerprint(),
        )
        context = min(model.context, o.ptx_tokens)
        return PackedFeed(
            PackedRows(store, context, job.seed),
            None,
            seed=job.seed,
            step_tokens=o.ptx_tokens,
            micro_tokens=job.train.micro_batch_tokens,
            eval_tokens=1,
        )

    def loss(self, networks: Networks[Policy], batch: Batch) -> Loss:
        if "labels" in batch:
            return self._pretrained(networks.trained, batch)
        o, new = self.options, networks.trained.read(batch, self.options.temperature)
        losses, told = policy_loss(new.log_probs, batch, clip=o.clip, importance_cap=o.importance_cap)
        returns, before = batch["returns"], batch["values"]
        near = before + (new.values - before).clamp(-o.value_clip, o.value_clip)
        wrong = 0.5 * torch.maximum((new.values - returns).square(), (near - returns).square())
        whole = losses + o.value * wrong
        told |= {"value_loss": wrong.detach().sum(), "entropy": new.entropies.sum()}
        return Loss(whole.sum(), self.count(batch), told)

    def _pretrained(self, policy: Policy, batch: Batch) -> Loss:
        decoder = policy.decoder
        embedded = decoder.embed_tokens(batch["input_ids"])
        states = decoder.states(inputs_embeds=embedded, attention_mask=batch.get("attention_mask"))
        lost = cross_entropy(decoder.head, states, batch["labels"])
        return Loss(self.options.ptx * float(batch["share"][0]) * lost, 0)

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        made = self.averaged(sums)
        start = self.made.start
        if start.get("reward_std"):
            made["gain"] = (made["reward"] - start["reward"]) / start["reward_std"]
        return {"loss": -made["reward"], **made}


class _ByValues(Judge):
    """Generalized advantages of rewards that hold the cost of divergence."""

    def __init__(self, options: Ppo.Options) -> None:
        self.options = options

    def weigh(self, some: list[Experience], kl: float, device: torch.device) -> None:
        o = self.options
        for one in some:
            one.tokens["advantages"], one.tokens["returns"] = [], []
            for place, score in enumerate(one.scores):
                rewards = token_rewards(
                    float(score), one.tokens["old"][place], one.tokens["reference"][place], kl
                )
                values = one.tokens["values"][place]
                advantages, returns = generalized_advantages(rewards, values, gamma=o.gamma, lam=o.lam)
                one.tokens["advantages"].append(advantages)
                one.tokens["returns"].append(returns)
        if o.whiten:
            _whiten([each for one in some for each in one.tokens["advantages"]], device)


def _whiten(each: list[np.ndarray], device: torch.device) -> None:
    """In place: mean zero and deviation one over all tokens of all processes."""
    flat = np.concatenate(each).astype(np.float64)
    count, total, squares = summed_over_processes(
        [len(flat), float(flat.sum()), float(np.square(flat).sum())], device
    )
    mean = total / count
    deviation = max(0.0, squares / count - mean**2) ** 0.5
    for advantages in each:
        np.subtract(advantages, np.float32(mean), out=advantages)
        np.divide(advantages, np.float32(deviation + 1e-8), out=advantages)

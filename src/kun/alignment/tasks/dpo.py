"""Preferences without a reward model: Rafailov et al., "Direct Preference Optimization", arXiv:2305.18290.

What the trained network prefers more than the reference did is its own reward; that is to be higher for the better
answer. IPO (Azar et al., arXiv:2310.12036, equation 17) asks for a difference of 1/(2β), no more, so that answers that
are always preferred do not drive the network ever farther from the reference.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kun.adaptation.lora import lora_pairs
from kun.alignment.pairs import pair_weights
from kun.alignment.policy import reference_log_probs, tree_states
from kun.alignment.task import PreferenceOptions, PreferenceTask
from kun.networks.network import LanguageNetwork
from kun.training.feed import Batch
from kun.training.log_probs import token_log_probs
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.task import Loss


class Dpo(PreferenceTask):
    """-log σ(β (how much more than the reference it prefers the better answer to the worse one)).

    The reference is the network as the training began: under an adapter the base with the adapter off, else a copy.
    Evaluation tells `accuracy`, how often the better answer has the higher implicit reward, and that reward's `margin`.
    """

    name = "dpo"
    stages = ("dpo",)

    class Options(PreferenceOptions):
        beta: float = Field(default=0.1, gt=0)
        """How much it costs to leave the reference."""
        loss: Literal["dpo", "ipo"] = "dpo"

    options: Options

    def networks(self, open: Opener) -> Networks[nn.Module]:
        trained = super().networks(open).trained
        if lora_pairs(trained):
            return Networks(trained)
        assert open.job.model.source is not None
        return Networks(trained, {"reference": open.frozen(open.job.model.source)})

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        gains = self._gains(networks, batch)
        better, worse = gains[batch["pairs"]].unbind(1)
        shares, difference = pair_weights(batch), better - worse
        right = (difference > 0).float() + 0.5 * (difference == 0).float()
        metrics = {
            "accuracy": (right * shares).sum(),
            "margin": (self.options.beta * difference.detach() * shares).sum(),
            "chosen_reward": (self.options.beta * better.detach() * shares).sum(),
            "rejected_reward": (self.options.beta * worse.detach() * shares).sum(),
        }
        return Loss((self._losses(difference) * shares).sum(), self.count(batch), metrics)

    def _losses(self, difference: Tensor) -> Tensor:
        beta = self.options.beta
        if self.options.loss == "ipo":
            return (difference - 1 / (2 * beta)).square()
        return -F.logsigmoid(beta * difference)

    def _gains(self, networks: Networks[nn.Module], batch: Batch) -> Tensor:
        """log p of each branch less what the reference says of it, float32 [branches]."""
        trained, copy = networks.trained, networks.frozen.get("reference")
        assert isinstance(trained, LanguageNetwork)
        reference = reference_log_probs(trained, copy, batch)
        return branch_log_probs(trained, batch) - _of_branches(reference, batch)

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        made = super().summary(sums, count)
        accuracy = made["accuracy"]
        return made | {"accuracy_error": (accuracy * (1 - accuracy) / max(1, count)) ** 0.5}


def branch_log_probs(net: nn.Module, batch: Batch) -> Tensor:
    """log p of what the assistant says in each branch of a batch of trees: float32 [branches], in nats."""
    assert isinstance(net, LanguageNetwork)
    return _of_branches(token_log_probs(net.head, tree_states(net, batch), batch["targets"]).values, batch)


def _of_branches(each: Tensor, batch: Batch) -> Tensor:
    """The sums over the tokens of each branch of what float32 [m] says of every token."""
    return torch.zeros(len(batch["ends"]), device=each.device).index_add(0, batch["branch"], each)

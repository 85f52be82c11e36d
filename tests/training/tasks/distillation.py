"""Distillation: a small decoder learns the whole distribution of a frozen one (Hinton et al., arXiv:1503.02531)."""

from collections.abc import Mapping

import torch
from pydantic import Field

from kun.networks.family import Family
from kun.networks.network import LanguageNetwork
from kun.objectives.next_token import NextToken
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Loss


class Distillation(NextToken):
    """KL(teacher | student) at every place; it ends once the student is near."""

    name = "distillation"
    stages = ("distill",)
    is_pipelined = False

    class Options(Table):
        teacher: str = ""
        temperature: float = Field(default=2.0, gt=0)
        near: float = Field(default=0.0, ge=0)
        """Nats for a token below which the training ends."""

    options: Options

    @classmethod
    def fits(cls, family: Family) -> bool:
        return family.kind == "decoder"

    def networks(self, open: Opener) -> Networks:
        student = super().networks(open).trained
        return Networks(student, {"teacher": open.frozen(self.options.teacher)})

    def loss(self, networks: Networks, batch: Batch) -> Loss:
        learned = batch["labels"] >= 0
        ours = self.log_p(networks.trained, batch)[learned]
        with torch.no_grad():
            theirs = self.log_p(networks.frozen["teacher"], batch)[learned]
        agree = (ours.argmax(dim=-1) == theirs.argmax(dim=-1)).sum()
        divergence = (theirs.exp() * (theirs - ours)).sum()
        return Loss(divergence, self.count(batch), {"agreement": agree})

    def log_p(self, net: LanguageNetwork, batch: Batch) -> torch.Tensor:
        logits = net.head(net.states(batch["input_ids"], batch.get("attention_mask"))).float()
        return (logits / self.options.temperature).log_softmax(dim=-1)

    def verdict(self, metrics: Mapping[str, float]) -> str:
        loss = metrics["loss"]
        return f"the student is {loss:.3f} nats from its teacher" if loss < self.options.near else ""

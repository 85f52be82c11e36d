"""Permutation language modelling: Yang et al., "XLNet", arXiv:1906.08237, sections 2.2 and 2.3.

An order of a document's tokens is drawn, and the last of them in that order are predicted, each from those before it
in the order, wherever they are.
"""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from kun.data.rows import Text
from kun.families.xlnet.xlnet import XLNet
from kun.objectives.text.task import PackedTask
from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.tables import Table
from kun.training.task import Loss


class Permutation(PackedTask):
    """-log p(token | its place, and the tokens before it in a drawn order of its document).

    How many tokens are predicted differs from batch to batch.
    """

    name = "permutation"
    stages = ("pretrain", "finetune")
    rows = (Text,)

    class Options(Table):
        predict_share: float = Field(default=1 / 6, gt=0, lt=1)
        """The share of a document's tokens, the last in its order, that are predicted (XLNet's 1/K)."""

    options: Options

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        ids, documents = batch["input_ids"], batch.get("attention_mask")
        numbers = torch.ones_like(ids) if documents is None else documents.long()
        order = torch.from_numpy(rng.random(ids.shape))
        same = numbers[:, :, None] == numbers[:, None, :]
        earlier = (order[:, None, :] < order[:, :, None]) & same  # [b, i, j]: j comes before i
        size = same.sum(dim=-1)
        # a share that is no whole number of tokens is rounded up as often as it says
        wanted = (
            (size * self.options.predict_share + torch.from_numpy(rng.random((len(ids), 1))))
            .long()
            .clamp(min=1)
        )
        predicted = (earlier.sum(dim=-1) >= size - wanted) & (numbers > 0) & (size > 1)
        seen = same & (~predicted[:, None, :] | (earlier & predicted[:, :, None]))
        places = _places(predicted)
        mapping = torch.zeros(*places.shape, ids.shape[1])
        mapping.scatter_(2, places.clamp(min=0)[..., None], (places >= 0).float()[..., None])
        labels = torch.where(places >= 0, ids.gather(1, places.clamp(min=0)), IGNORED)
        return {**batch, "perm_mask": ~seen, "target_mapping": mapping, "labels": labels}

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        net = networks.trained
        assert isinstance(net, XLNet)
        states = net.states(
            inputs_embeds=net.embed_tokens(batch["input_ids"]),
            perm_mask=batch["perm_mask"],
            target_mapping=batch["target_mapping"],
        )
        return Loss(cross_entropy(net.head, states, batch["labels"]), self.count(batch))


def _places(chosen: Tensor) -> Tensor:
    """The places of the chosen tokens of bool [b, t]: int64 [b, the most in a row], -1 behind a row's last."""
    most = max(1, int(chosen.sum(dim=-1).max()))
    order = chosen.long().argsort(dim=-1, descending=True, stable=True)[:, :most]
    return torch.where(chosen.gather(1, order), order, -1)

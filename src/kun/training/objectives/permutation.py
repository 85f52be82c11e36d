"""Permutation language modelling: Yang et al., "XLNet", arXiv:1906.08237, sections 2.2 and 2.3.

An order of a document's tokens is drawn, and the last of them in that order are predicted, each from those before it
in the order, wherever they stand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.objectives.objective import learned_tokens, means


@dataclass(frozen=True)
class Permutation:
    """-log p(token | its place, and the tokens before it in a drawn order of its document).

    `share` of the tokens of a document, the last in its order, are predicted: the paper's 1/K.
    """

    share: float = 1 / 6

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        ids, documents = batch["input_ids"], batch.get("attention_mask")
        numbers = torch.ones_like(ids) if documents is None else documents.long()
        order = torch.from_numpy(chance.random(ids.shape))
        same = numbers[:, :, None] == numbers[:, None, :]
        earlier = (order[:, None, :] < order[:, :, None]) & same  # [b, i, j]: j comes before i
        size = same.sum(dim=-1)
        # a share that is no whole number of tokens is rounded up as often as it says
        wanted = (size * self.share + torch.from_numpy(chance.random((len(ids), 1)))).long().clamp(min=1)
        predicted = (earlier.sum(dim=-1) >= size - wanted) & (numbers > 0) & (size > 1)
        seen = same & (~predicted[:, None, :] | (earlier & predicted[:, :, None]))
        places = _places(predicted)
        mapping = torch.zeros(*places.shape, ids.shape[1])
        mapping.scatter_(2, places.clamp(min=0)[..., None], (places >= 0).float()[..., None])
        labels = torch.where(places >= 0, ids.gather(1, places.clamp(min=0)), IGNORED)
        return {**batch, "perm_mask": ~seen, "target_mapping": mapping, "labels": labels}

    def targets(self, batch: Batch) -> int:
        return learned_tokens(batch)

    def loss(self, net: Any, batch: Batch) -> Tensor:
        states = net.states(
            inputs_embeds=net.embed_tokens(batch["input_ids"]),
            perm_mask=batch["perm_mask"],
            target_mapping=batch["target_mapping"],
        )
        return cross_entropy(net.head, states, batch["labels"])

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(self.loss(net, batch))}

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        return means(sums, targets)


def _places(chosen: Tensor) -> Tensor:
    """Where the chosen tokens of bool [b, t] stand: int64 [b, the most in a row], -1 behind a row's last."""
    most = max(1, int(chosen.sum(dim=-1).max()))
    order = chosen.long().argsort(dim=-1, descending=True, stable=True)[:, :most]
    return torch.where(chosen.gather(1, order), order, -1)

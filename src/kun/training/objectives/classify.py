"""One label, or one number, for a text or two: Devlin et al., arXiv:1810.04805, section 4.1; Radford et al., 2018.

A decoder learns it as GPT-1 did: its head reads the state of the last token, which has seen all others, and the loss
of the next token is added, since it keeps what was learned before (equation 5 there).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch


@dataclass(frozen=True)
class Classify:
    """-log p(label | the text), of `classes` labels. `auxiliary` weighs the loss of the next token (decoders alone).

    Evaluation tells `accuracy` and `f1`: of the second of two classes, else the mean over classes.
    """

    classes: int
    auxiliary: float = 0.0

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        return _prepared(batch, batch["classes"].long(), self.auxiliary)

    def targets(self, batch: Batch) -> int:
        return len(batch["labels"])

    def loss(self, net: Any, batch: Batch) -> Tensor:
        scores, besides = _scored(net, batch, self.auxiliary)
        return F.cross_entropy(scores, batch["labels"], reduction="sum") + besides

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        labels = batch["labels"]
        with torch.no_grad():
            scores, _ = _scored(net, batch, 0.0)
        said = scores.argmax(dim=-1)
        sums = {
            "loss": float(F.cross_entropy(scores, labels, reduction="sum")),
            "accuracy": float((said == labels).sum()),
        }
        for name, some in (("right", said[said == labels]), ("said", said), ("are", labels)):
            counts = torch.bincount(some, minlength=self.classes).tolist()
            sums |= {f"{name}_{index}": float(count) for index, count in enumerate(counts)}
        return sums

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        scored = range(1, 2) if self.classes == 2 else range(self.classes)
        f1 = [_f1(*(sums[f"{name}_{index}"] for name in ("right", "said", "are"))) for index in scored]
        return {
            "loss": sums["loss"] / targets,
            "accuracy": sums["accuracy"] / targets,
            "f1": sum(f1) / len(f1),
        }


@dataclass(frozen=True)
class Regress:
    """The squared error of a number. `auxiliary` as in `Classify`. Evaluation tells `pearson`, the correlation."""

    auxiliary: float = 0.0

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        return _prepared(batch, batch["classes"].float(), self.auxiliary)

    def targets(self, batch: Batch) -> int:
        return len(batch["labels"])

    def loss(self, net: Any, batch: Batch) -> Tensor:
        scores, besides = _scored(net, batch, self.auxiliary)
        return (scores[:, 0] - batch["labels"]).square().sum() + besides

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            scores, _ = _scored(net, batch, 0.0)
        x, y = scores[:, 0].double(), batch["labels"].double()
        sums = {"loss": (x - y).square(), "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}
        return {name: float(values.sum()) for name, values in sums.items()}

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        x, y, xx, yy, xy = (sums[name] / targets for name in ("x", "y", "xx", "yy", "xy"))
        spread = sqrt(max(0.0, xx - x * x) * max(0.0, yy - y * y))
        return {"loss": sums["loss"] / targets, "pearson": (xy - x * y) / spread if spread else 0.0}


def _f1(right: float, said: float, are: float) -> float:
    return 2 * right / (said + are) if said + are else 0.0


def _prepared(batch: Batch, labels: Tensor, auxiliary: float) -> Batch:
    """With its `labels`, and the next tokens that a decoder is asked for besides."""
    prepared = {**batch, "labels": labels}
    if not auxiliary:
        return prepared
    following = F.pad(batch["input_ids"][:, 1:], (0, 1), value=IGNORED)
    mask = batch.get("attention_mask")
    if mask is not None:
        following = following.masked_fill(~F.pad(mask[:, 1:], (0, 1)), IGNORED)
    return prepared | {"next_tokens": following}


def _scored(net: Any, batch: Batch, auxiliary: float) -> tuple[Tensor, Tensor]:
    """What a network says of each row, float32 [b, labels], and the weighed loss of the next token."""
    if not auxiliary:
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if net.config.token_types > 1 else [])]
        given = {name: batch[name] for name in names if name in batch}
        return net(**given).logits.float(), torch.zeros((), device=batch["input_ids"].device)
    states = net.states(batch["input_ids"], batch.get("attention_mask"))
    scores = net.scores(states, batch["input_ids"], batch.get("attention_mask"))
    next_tokens = batch["next_tokens"]
    # a row's mean, as in GPT-1's own code: it does not depend on what stands in the batch beside it
    asked = next_tokens != IGNORED
    each = (auxiliary / asked.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(asked)
    return scores.float(), cross_entropy(net.word_scores, states, next_tokens, weights=each)

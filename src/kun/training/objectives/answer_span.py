"""Where an answer stands in a text: Devlin et al., "BERT", arXiv:1810.04805, sections 4.2 and 4.3.

Two scores for each token, that of a start and that of an end. Where the text, or this window of it, has no answer, both
point to the first token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kun.training.feed import Batch
from kun.training.objectives.objective import means


@dataclass(frozen=True)
class AnswerSpan:
    """The mean of -log p(start) and -log p(end). Evaluation tells how many spans are `exact`."""

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        learned = batch["learned"].long()
        starts = learned.argmax(dim=-1)
        ends = (learned.shape[1] - 1 - learned.flip(-1).argmax(dim=-1)) * learned.any(dim=-1)
        return {**batch, "labels": torch.stack([starts, ends], dim=-1)}

    def targets(self, batch: Batch) -> int:
        return len(batch["labels"])

    def loss(self, net: Any, batch: Batch) -> Tensor:
        return self._loss(self._scores(net, batch), batch["labels"])

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            scores = self._scores(net, batch)
        exact = (scores.argmax(dim=1) == batch["labels"]).all(dim=-1)
        return {"loss": float(self._loss(scores, batch["labels"])), "exact": float(exact.sum())}

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        return means(sums, targets)

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels, reduction="sum") / 2

    def _scores(self, net: Any, batch: Batch) -> Tensor:
        """float32 [b, t, 2], of starts and of ends; padding is neither."""
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if net.config.token_types > 1 else [])]
        said = net(**{name: batch[name] for name in names if name in batch})
        scores = torch.stack([said.start_logits, said.end_logits], dim=-1).float()
        mask = batch.get("attention_mask")
        return scores if mask is None else scores.masked_fill(~mask[..., None], -torch.inf)

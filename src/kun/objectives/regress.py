"""One number for a text or two: Devlin et al., arXiv:1810.04805, section 4.1 (as STS-B is learned there)."""

from collections.abc import Mapping
from math import sqrt

import numpy as np
import torch
from torch import nn

from kun.objectives.classify import Judging, scored, with_labels
from kun.objectives.text.fitted import Head
from kun.objectives.text.model import HeadRequirements
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.task import Loss


class Regress(Judging):
    """The squared error of a number. Evaluation tells `pearson`, the correlation."""

    name = "regress"
    stages = ("classify",)

    def needs(self, open: Opener) -> HeadRequirements:
        return HeadRequirements(
            head=Head("SequenceClassification", ("LABEL_0",), "regression", self.options.pooling)
        )

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return with_labels(batch, batch["classes"].float(), self.auxiliary)

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        scores, auxiliary = scored(networks.trained, batch, self.auxiliary)
        return Loss((scores[:, 0] - batch["labels"]).square().sum() + auxiliary, self.count(batch))

    def measure(self, networks: Networks[nn.Module], batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            scores, _ = scored(networks.trained, batch, 0.0)
        x, y = scores[:, 0].double(), batch["labels"].double()
        sums = {"loss": (x - y).square(), "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}
        return {name: float(values.sum()) for name, values in sums.items()}

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        x, y, xx, yy, xy = (sums[name] / count for name in ("x", "y", "xx", "yy", "xy"))
        spread = sqrt(max(0.0, xx - x * x) * max(0.0, yy - y * y))
        return {"loss": sums["loss"] / count, "pearson": (xy - x * y) / spread if spread else 0.0}

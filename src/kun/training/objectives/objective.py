"""What the loop asks of every objective."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from kun.training.cross_entropy import IGNORED
from kun.training.feed import Batch


class Objective(Protocol):
    """How a batch becomes a loss. An objective has no state: all chance comes from the generator that it is given."""

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        """The batch as the network sees it, with what is to be predicted in its `labels`."""

    def targets(self, batch: Batch) -> int:
        """How many predictions a prepared batch asks for: the loss of a step is the mean over all of them."""

    def loss(self, net: Any, batch: Batch) -> Tensor:
        """The sum over the targets of a prepared batch of their losses in nats: float32 [], with a gradient."""

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        """Sums over a prepared batch, by name; `loss` is one of them."""

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        """What evaluation reports, of the sums of `measure` over all batches and their number of targets."""


def learned_tokens(batch: Batch) -> int:
    """How many tokens of a prepared batch are to be predicted."""
    return int((batch["labels"] != IGNORED).sum())


def means(sums: Mapping[str, float], targets: int) -> dict[str, float]:
    """Each sum as a mean over the targets."""
    return {name: value / max(1, targets) for name, value in sums.items()}

"""What the loop asks of every objective."""

from typing import Any, Protocol

import numpy as np
from torch import Tensor

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
        """Sums over a prepared batch that evaluation divides by the number of targets; `loss` is one of them."""

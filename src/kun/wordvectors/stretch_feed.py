"""A feed of neighbouring items, a stretch a step, in an order of stretches that seed and epoch alone decide."""

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from kun.training.feed import Batch, Feed, as_count
from kun.training.networks import Net


class StretchFeed(Feed[Net]):
    """All of `items` items once an epoch, `batch` at a time."""

    def __init__(self, items: int, batch: int, seed: int) -> None:
        self.batch, self.seed, self.steps = batch, seed, 0
        self.stretches = max(1, -(-items // batch))

    @abstractmethod
    def stretch(self, start: int) -> Batch:
        """The `batch` items from `start` on, or as many as are left."""

    def step(self) -> list[Batch]:
        epoch, number = divmod(self.steps, self.stretches)
        chosen = np.random.default_rng((self.seed, epoch)).permutation(self.stretches)[number]
        self.steps += 1
        return [self.stretch(int(chosen) * self.batch)]

    def epochs(self) -> float:
        return self.steps / self.stretches

    def where(self) -> str:
        return f"epoch {int(self.epochs())}"

    def state(self) -> dict[str, object]:
        return {"steps": self.steps}

    def load(self, state: Mapping[str, object]) -> None:
        self.steps = as_count(state, "steps")

"""Where the loop gets its batches: rows in an order that seed and place alone decide, or what networks made.

What a feed remembers is its `state`, so that a run can be taken up anywhere at its borders.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kun.data.described import Counts
from kun.errors import BadRecipe, DamagedFile
from kun.training.networks import Net, Networks

Batch = dict[str, Tensor]
"""What a task makes a loss from: tensors by name, their first dimension the rows."""


class Dataset(Protocol):
    """What is learned from, or evaluated on: a digest of all of it, what became of what was read, its length."""

    @property
    def digest(self) -> str: ...

    @property
    def counts(self) -> Counts: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class RankSlice:
    """Which part of each step's rows this process takes: the `rank`-th of `world`."""

    rank: int = 0
    world: int = 1


ALL_ROWS = RankSlice()


class Feed(ABC, Generic[Net]):
    """Gives batches, a step's at a time. `data` is what it gives, `held_out` what is evaluated on."""

    data: Dataset
    held_out: Dataset | None = None

    @property
    def size(self) -> int:
        """Items of an epoch."""
        return len(self.data)

    @property
    def at_border(self) -> bool:
        """Whether a snapshot may be taken now: `state` is all that there is to remember."""
        return True

    def divide(self, rows: RankSlice) -> None:
        """From now on take these rows of each step alone. Raises `BadRecipe` where they cannot be shared so."""
        if rows.world > 1:
            raise BadRecipe("This task's batches are not divided: train on one process.")

    def begin(self, step: int, networks: Networks[Net]) -> None:
        """Called before each step; here networks may be asked for what is then learned from."""

    @abstractmethod
    def step(self) -> list[Batch]:
        """This process's batches of the next step, each as much as goes through at once."""

    def spare(self) -> list[Batch]:
        """Batches such as a step's, without going on: for trials, and for a process that has none."""
        before = self.state()
        batches = self.step()
        self.load(before)
        return batches

    def evaluation(self) -> Iterator[Batch]:
        """This process's share of the evaluation data, always the same."""
        return iter(())

    def metrics(self) -> Mapping[str, float]:
        """What is to be told of how the batches of this step came about, the same on all processes."""
        return {}

    def epochs(self) -> float:
        """How often all the data has been seen."""
        return 0.0

    def where(self) -> str:
        """The place in the data, for messages."""
        return ""

    @abstractmethod
    def state(self) -> dict[str, object]:
        """All that resuming needs, as JSON has it."""

    @abstractmethod
    def load(self, state: Mapping[str, object]) -> None:
        """Take back what `state` gave."""


class OrderedFeed(Feed[nn.Module]):
    """All of a data set once an epoch, `batch` items a step, in an order that seed and epoch alone decide.

    `make` gives the batch of some places in the data, int64 [b].
    """

    def __init__(
        self, data: Dataset, batch: int, seed: int, make: Callable[[NDArray[np.int64]], Batch]
    ) -> None:
        self.data, self.batch, self.seed, self.make = data, min(batch, len(data)), seed, make
        self.rows, self.steps = ALL_ROWS, 0

    def divide(self, rows: RankSlice) -> None:
        if self.batch % rows.world:
            raise BadRecipe(
                f"train.batch = {self.batch} cannot be shared by {rows.world} processes: raise it."
            )
        self.rows = rows

    def step(self) -> list[Batch]:
        epoch, number = divmod(self.steps, len(self.data) // self.batch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data))
        chosen = order[number * self.batch : (number + 1) * self.batch]
        self.steps += 1
        return [self.make(chosen[self.rows.rank :: self.rows.world])]

    def epochs(self) -> float:
        return self.steps / (len(self.data) // self.batch)

    def where(self) -> str:
        return f"epoch {int(self.epochs())}"

    def state(self) -> dict[str, object]:
        return {"steps": self.steps}

    def load(self, state: Mapping[str, object]) -> None:
        self.steps = as_count(state, "steps")


def as_count(state: Mapping[str, object], key: str) -> int:
    """A whole number of a feed's state. Raises `DamagedFile` where there is none."""
    value = state.get(key)
    if not isinstance(value, int):
        raise DamagedFile(f"The snapshot does not say where in its data it was ({key}): start another run.")
    return value


def digests(feed: Feed[Net]) -> dict[str, str | None]:
    """Those of the data to learn from and of the held-out ones, as a snapshot has them."""
    return {"data": feed.data.digest, "eval_data": feed.held_out.digest if feed.held_out else None}

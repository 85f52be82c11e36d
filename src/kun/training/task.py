"""A training task: what learns, from what, and how a batch becomes a loss. The loop asks for nothing else.

Tasks register by where they lie (see `kun.training.registry`); nothing in this package names one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, Literal

import numpy as np
import torch
from torch import Tensor

from kun.networks.family import Family
from kun.training.feed import Batch, Feed
from kun.training.networks import Net, Networks
from kun.training.opening import Opener
from kun.training.tables import Table

Write = Callable[[Path, Mapping[str, object]], object]
"""Writes a checkpoint, one model or a pipeline, into a folder, with what its lineage says."""


@dataclass(frozen=True)
class Loss:
    """The `sum` of a batch's losses, float32 [] with a gradient, over `count` predictions; `metrics` are sums, too."""

    sum: Tensor
    count: int
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """Curves for the report: `lines` are places and values by the name of each.

    `across` says what the places are; `log` which axes are logarithmic in a picture: "", "x", "y" or "xy".
    """

    title: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    across: str = ""
    log: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What a task measures by itself. A sample has a `prompt`, and a `text` or an `image` (a data: address)."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: Sequence[Mapping[str, str]] = ()
    plots: Sequence[Plot] = ()


class AnyTask:
    """What every entry of the registry has: a name, the stages it belongs to, and its own keys of [objective]."""

    name: ClassVar[str] = ""
    stages: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type[Table]] = Table
    is_usual: ClassVar[bool] = False
    """Whether a recipe of its stage means it that names neither objective nor model."""
    has_model: ClassVar[bool] = True
    """Whether [model] names what is trained."""
    has_data: ClassVar[bool] = True
    """Whether [data] names what is learned from; a task without makes it."""

    def __init__(self, options: Table | None = None) -> None:
        self.options = options or self.Options()

    @classmethod
    def fits(cls, family: Family) -> bool:
        """Whether networks of this family learn it."""
        return cls.name in family.objectives


class Procedure(AnyTask, ABC):
    """A job without steps, such as learning a tokenizer."""

    has_model = False

    @abstractmethod
    def run(self, open: Opener) -> None:
        """Write the checkpoint into the run's folder, and into its facts what the report says."""


class Task(AnyTask, ABC, Generic[Net]):
    """A job of steps. Its state is what `networks` and `feed` made; all chance comes from the generator it is given."""

    rows: ClassVar[tuple[type, ...]] = ()
    """The kinds of row that it reads."""
    unit: ClassVar[str] = "items"
    """What `items` counts: tokens, pairs, pictures."""
    batch: ClassVar[int] = 64
    """Items of a step where the recipe does not say, of a task that counts no tokens."""
    keeps: ClassVar[Literal["last", "best"]] = "last"
    """Which weights the checkpoint gets of a training that is evaluated, where the recipe does not say."""
    evaluates_start: ClassVar[bool] = False
    """Whether what is held out is evaluated before the first step, too, as a start that may be the best."""
    is_even: ClassVar[bool] = False
    """Whether all batches have one shape, so that compiling pays."""
    is_pipelined: ClassVar[bool] = False
    """Whether its loss is the cross-entropy of `head(states)` and the batch's labels, which a pipeline computes."""
    counts_peak: ClassVar[bool] = True
    """Whether every item goes through all of the network, so that its operations tell a share of the peak."""

    @abstractmethod
    def networks(self, open: Opener) -> Networks[Net]:
        """What is trained, and what helps, on the device and in the precision that the job asks for."""

    @abstractmethod
    def feed(self, open: Opener, networks: Networks[Net]) -> Feed[Net]:
        """Where the batches come from."""

    @abstractmethod
    def loss(self, networks: Networks[Net], batch: Batch) -> Loss:
        """How far the networks are from what they are to do on a prepared batch."""

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """The batch as the networks will see it; what is drawn at random is drawn here."""
        return batch

    def count(self, batch: Batch) -> int:
        """How many predictions a prepared batch asks for: the loss of a step is the mean over all of them."""
        return len(next(iter(batch.values())))

    def items(self, batch: Batch) -> int:
        """How many items, in its `unit`, a prepared batch holds."""
        return len(next(iter(batch.values())))

    def measure(self, networks: Networks[Net], batch: Batch) -> dict[str, float]:
        """Sums over a prepared batch of the held-out data, by name; `loss` is one of them."""
        with torch.no_grad():
            made = self.loss(networks, batch)
        return {"loss": float(made.sum), **{name: float(value) for name, value in made.metrics.items()}}

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        """What evaluation reports, of the sums of `measure` over all batches and their number of predictions."""
        return {name: value / max(1, count) for name, value in sums.items()}

    def evaluate(self, networks: Networks[Net]) -> Evaluation:
        """What else is measured and shown at an evaluation."""
        return Evaluation()

    def samples(self, networks: Networks[Net]) -> Sequence[Mapping[str, str]]:
        """What the networks make now, for `train.sample_every`."""
        return ()

    def is_sound(self, means: Mapping[str, float]) -> bool:
        """Whether weights of which an evaluation says this may be kept as the best."""
        return True

    def verdict(self, metrics: Mapping[str, float]) -> str:
        """Why the training is to end after this step; "" where it goes on."""
        return ""

    def facts(self, open: Opener, networks: Networks[Net], feed: Feed[Net]) -> dict[str, object]:
        """What the report says of model and data before the first step."""
        read: dict[str, object] = {**asdict(feed.data.counts), "source": open.job.data.train}
        return {"data": read | {"documents": len(feed.data)}}

    def flops(self, networks: Networks[Net]) -> float:
        """Floating-point operations of one item's forward and backward pass; 0 where that is not known."""
        return 0.0

    @abstractmethod
    def saved(self, networks: Networks[Net]) -> Write:
        """What becomes the checkpoint: how these networks are written."""


class DirectTask(Task[Net]):
    """A task whose own code changes the weights, as compiled steps do over tables of which a batch touches a few rows.

    The loop gives it each batch and the rate, in the place of gradients and an optimizer. It runs on one process.
    """

    @abstractmethod
    def learn(self, networks: Networks[Net], batch: Batch, rate: float) -> Loss:
        """Change the weights by a prepared batch; the losses that were met on the way, without gradients."""

    def memory(self, networks: Networks[Net]) -> dict[str, Tensor]:
        """What else is remembered from step to step, by name: it is in snapshots, and is filled again from them."""
        return {}

"""Looking at networks while they train: held-out data, what a task measures by itself, samples."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Generic

import numpy as np
import torch

from kun.training.feed import Batch, Feed
from kun.training.job import Job
from kun.training.layout import ParallelLayout
from kun.training.memory import A_SAMPLE, AN_EVALUATION, enough_memory
from kun.training.networks import Net
from kun.training.optimizers import Optimizer
from kun.training.run import RunFolder
from kun.training.snapshot import write_snapshot
from kun.training.state import TrainerState
from kun.training.task import Task


@dataclass
class Look(Generic[Net]):
    """Evaluates and samples the networks of a layout, with their averaged weights where there are such."""

    job: Job
    task: Task[Net]
    layout: ParallelLayout[Net]
    feed: Feed[Net]
    folder: RunFolder
    optimizer: Optimizer
    device: torch.device

    def on_device(self, batch: Batch) -> Batch:
        """The batch where the network is."""
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

    @contextmanager
    def _still(self, reason: tuple[str, str]) -> Iterator[None]:
        """Within it the network learns nothing; what is compiled for training would be compiled again for this."""
        self.layout.net.eval()
        with torch.compiler.set_stance("force_eager"), self.optimizer.averaged(), enough_memory(*reason):
            yield

    def evaluate(self, state: TrainerState) -> dict[str, float]:
        """Means over the held-out data and the task's own metrics, as `eval_loss` and so on.

        Notes in `state` whether the loss is better than ever.
        """
        with self._still(AN_EVALUATION):
            means = self._measured()
            own = self.task.evaluate(self.layout.networks)
            self._show(state.step, own.samples)
            for plot in own.plots:
                self.folder.record_plot({"step": state.step, **asdict(plot)})
            if "loss" in means:
                self._compare(state, means["loss"] if self.task.is_sound(means) else math.inf)
        return {f"eval_{name}": value for name, value in {**means, **own.metrics}.items()}

    def _show(self, step: int, samples: Sequence[Mapping[str, str]]) -> None:
        for sample in samples:
            self.folder.record_sample({"step": step, **sample})

    def _compare(self, state: TrainerState, loss: float) -> None:
        if loss >= state.best:
            state.worse += 1
            return
        state.best, state.worse = loss, 0
        if self.job.train.keep == "best":
            weights = {slot.name: slot.master.detach() for slot in self.optimizer.slots}
            facts, processes = {"eval_loss": loss}, self.layout.processes
            write_snapshot(self.folder.path / "best", state.step, weights, facts, keep=1, processes=processes)

    def _measured(self) -> dict[str, float]:
        """Means over the held-out data of all processes."""
        sums: dict[str, float] = {}
        count = 0
        processes = self.layout.processes
        mine = list(self.feed.evaluation())
        # the processes take part in each other's batches: those with fewer repeat some, without counting them
        most = processes.most(len(mine))
        for number in range(most):
            counts = number < len(mine)
            rng = np.random.default_rng((self.job.seed, number))
            batch = mine[number] if counts else (mine or self._spare)[0]
            ready = self.on_device(self.task.prepare(batch, rng))
            measured = self.layout.measure(self.task, ready)
            count += self.task.count(ready) * counts
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + value * counts
        whole = processes.total(count, *sums.values())
        return self.task.summary(dict(zip(sums, whole[1:], strict=True)), int(whole[0])) if sums else {}

    @cached_property
    def _spare(self) -> list[Batch]:
        return self.feed.spare()

    def sample(self, step: int) -> None:
        """Record what the networks make now."""
        if self.layout.processes.is_first:
            with self._still(A_SAMPLE):
                self._show(step, self.task.samples(self.layout.networks))

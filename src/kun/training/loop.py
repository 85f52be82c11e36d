"""The loop: batches, gradients, updates, evaluation, samples, snapshots, and knowing when to stop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Generic

import numpy as np
import torch

from kun.training.compiling import compile_network, is_compilers, reason, undo
from kun.training.feed import Batch, Feed, digests
from kun.training.flops import peak_memory
from kun.training.interruptions import Interruptions
from kun.training.job import Job, threads
from kun.training.layout import ParallelLayout, filled
from kun.training.looking import Look
from kun.training.memory import A_STEP, enough_memory
from kun.training.networks import Net
from kun.training.optimizers import Optimizer
from kun.training.progress import TrainingProgress, silent
from kun.training.run import RunFolder
from kun.training.schedules import make_schedule
from kun.training.snapshot import Snapshot, newest, write_snapshot
from kun.training.state import TrainerState
from kun.training.task import DirectTask, Loss, Task

Metrics = dict[str, float]
Watcher = Callable[[Mapping[str, float]], None]
"""Is given the metrics of each step."""
_REMEMBERS_NOTHING = {"name": "sgd", "momentum": 0.0}
"""The optimizer of a task that changes the weights by itself."""


class Loop(Generic[Net]):
    """Trains the networks of a layout at a task, on what `feed` gives, and writes the run.

    A step is a function of the weights, the feed's state, the seed and its number alone, so that a run goes on from a
    snapshot as if it had never stopped (on the same number of threads and processes, and where its end is not set in
    minutes).
    """

    def __init__(
        self,
        job: Job,
        task: Task[Net],
        layout: ParallelLayout[Net],
        feed: Feed[Net],
        folder: RunFolder,
        *,
        device: torch.device,
        flops: float = 0.0,
        peak_flops: float | None = None,
        progress: TrainingProgress = silent,
    ) -> None:
        layout.check(task)
        self.job, self.task, self.feed, self.folder, self.device = job, task, feed, folder, device
        self.layout, self.net, self.processes = layout, layout.net, layout.processes
        self.flops, self.peak_flops, self.progress = flops, peak_flops, progress
        is_direct = isinstance(task, DirectTask)
        table = job.optimizer.model_copy(update=_REMEMBERS_NOTHING) if is_direct else job.optimizer
        self.optimizer = Optimizer(self.net, table, ema=job.train.ema)
        self.optimizer.kept = task.memory(layout.networks) if isinstance(task, DirectTask) else {}
        self.schedule = make_schedule(job.optimizer)
        self.look = Look(job, task, layout, feed, folder, self.optimizer, device)
        self.state = TrainerState()
        self.watchers: list[Watcher] = []
        self.notes: list[str] = []
        """What is to be known of how it went, in sentences."""
        self.compiled, self.not_compiled = False, ""
        """Whether the network is compiled, and why it could not be where that was tried."""
        self._snapped = -1

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot. Raises `DamagedFile` where it is another network's."""
        facts = snapshot.facts
        self.optimizer.load(snapshot, facts["updates"], partly=self.layout.is_part)
        self.state = TrainerState.of(snapshot)
        self.feed.load(facts.get("feed", facts))  # before, the place in the data was among the others
        self.notes = list(facts.get("notes", []))
        self.not_compiled = facts.get("not_compiled", "")
        self._snapped = snapshot.step

    def say(self, what: str, detail: str) -> None:
        """Report what people ought to know of this training, and note it."""
        self.progress(what, 0, None, detail)
        note = f"{what.capitalize()}: {detail}."
        if note not in self.notes:
            self.notes.append(note)

    def conditions(self) -> dict[str, object]:
        """What the last bits of the results depend on, next to recipe, data and machine."""
        return {**self.job.conditions(self.processes.world), "compiled": self.compiled}

    def compile(self) -> None:
        """Compile the network for the batches of a step; where that fails, or did before, say so."""
        if self.not_compiled:  # in a run that goes on, whose bits would differ
            self._go_uncompiled(self.not_compiled)
            return
        before = self.feed.state()
        self.feed.begin(self.state.step, self.layout.networks)
        batches = self.feed.spare()
        self.feed.load(before)
        self.progress("compiling", 0, None, "")

        def probe() -> None:
            self.net.train()
            batch = self.look.on_device(self.task.prepare(batches[0], np.random.default_rng(0)))
            self.task.loss(self.layout.networks, batch).sum.backward()

        why = compile_network(self.net, probe)
        self.optimizer.forget()
        self.compiled = not why
        if why:
            self._go_uncompiled(why)

    def _go_uncompiled(self, why: str) -> None:
        self.compiled, self.not_compiled = False, why
        self.say("not compiled", why)

    def run(self) -> TrainerState:
        """Train until the job's end, and on to the feed's next border.

        Raises `Diverged`, `NoMemory`, `NoSpace`; KeyboardInterrupt, after a last snapshot.
        """
        self.folder.begin_at(self.state.step)
        every, due = self.job.train.snapshot_every, False
        with Interruptions() as interruptions, self.processes.naming():
            while not self._is_over() or not self.feed.at_border:
                self._step()
                due |= bool(every) and self.state.step % (every or 1) == 0
                if not self.feed.at_border:
                    continue
                if self._interrupted(interruptions):
                    self._snapshot()
                    raise KeyboardInterrupt
                if due:
                    self._snapshot()
                    due = False
            self._snapshot()
        return self.state

    @contextmanager
    def final_weights(self) -> Iterator[Net]:
        """Within it a whole network has the weights that the job wants kept: the last, the averaged or the best.

        The first process alone has it, where the network lies on several.
        """
        is_best = self.job.train.keep == "best"
        best = newest(self.folder.path / "best") if is_best else None
        shell = self.layout.shell()
        if shell is not None:
            last = best or newest(self.folder.snapshots)
            assert last is not None
            prefix = "" if best else "average." if self.job.train.ema is not None else "master."
            weights = {k.removeprefix(prefix): t for k, t in last.tensors().items() if k.startswith(prefix)}
            yield filled(shell, weights)
            return
        with self.optimizer.averaged():
            if best is not None:
                self.optimizer.put(best.tensors())
            yield self.net

    def summary(self) -> dict[str, float]:
        """What the lineage says of how it went."""
        now = self.state
        made: dict[str, float] = {
            "steps": now.step,
            self._counted: now.items,
            "seconds": round(now.seconds, 1),
        }
        made |= {"loss": now.losses[-1]} if now.losses else {}
        return made | ({"best_eval_loss": now.best} if math.isfinite(now.best) else {})

    @property
    def _counted(self) -> str:
        return "tokens" if self.task.unit == "tokens" else "items"

    def known(self) -> dict[str, object]:
        """What is known of the training as a whole, next to its metrics."""
        now = self.state
        return {
            "parameters": self.layout.parameters,
            "trained": self.layout.trained,
            "unit": self.task.unit,
            "flops_per_token": self.flops,
            "peak_flops": self.peak_flops,
            "overhead": now.idle / (now.busy + now.idle) if now.busy else None,
            "bytes": peak_memory(self.device),
            "threads": threads(),
            "processes": self.processes.world,
            "note": " ".join(self.notes) or None,
            **self.summary(),
        }

    def _done(self) -> float:
        """How much of the training is done, by whichever limit is nearest: from 0 to 1, when it ends."""
        train, now = self.job.train, self.state
        shares = [
            now.step / train.steps if train.steps else 0.0,
            now.items / train.tokens if train.tokens else 0.0,
            self.feed.epochs() / train.epochs if train.epochs else 0.0,
            now.seconds / (60 * train.minutes) if train.minutes else 0.0,
        ]
        return max(shares)

    def _is_over(self) -> bool:
        return self._done() >= 1 or self._patience_exhausted() or bool(self.state.ended)

    def _patience_exhausted(self) -> bool:
        patience = self.job.train.patience
        return patience is not None and self.state.worse >= patience

    def _interrupted(self, interruptions: Interruptions) -> bool:
        """Whether to stop after this step: all processes agree on that."""
        return bool(self.processes.most(interruptions.came))

    def _pass(self, seconds: float) -> None:
        """Add to the time that the training took, which is that of the first process on all."""
        (self.state.seconds,) = self.processes.first_says(self.state.seconds + seconds)

    def _step(self) -> None:
        began = time.perf_counter()
        now = self.state
        rate, place = self.schedule(now.step, self._done()), self.feed.where()
        self.feed.begin(now.step, self.layout.networks)
        if not now.step and self.task.evaluates_start and self.job.data.eval is not None:
            self.look.evaluate(now)
        batches = self.feed.step()
        with enough_memory(*A_STEP):
            prepared = self._prepared(batches)
            mine = (sum(map(self.task.items, prepared)), sum(map(self.task.count, prepared)))
            counted = self.processes.total(*mine)
            items, count = int(counted[0]), max(1.0, counted[1])
            # of fewer rows than processes this one has none: it goes along with the others, with weight zero
            if not prepared:
                prepared, count = self._prepared(self._spare), math.inf
            started = time.perf_counter()
            loss, metrics = self._learn(prepared, count, rate, place)
        computed = time.perf_counter()
        now.step, now.items = now.step + 1, now.items + items
        now.losses.append(loss)
        ended = time.perf_counter()
        seconds = ended - began
        now.busy, now.idle = now.busy + computed - started, now.idle + seconds - (computed - started)
        line: Metrics = {"step": now.step, "loss": loss, **metrics, **self.feed.metrics()}
        line |= {"lr": self.job.optimizer.lr * rate}
        line |= {"items": now.items, "items_per_s": round(items / seconds, 1)}
        if self.task.unit == "tokens":
            line |= {"tokens": line["items"], "tokens_per_s": line["items_per_s"]}
        if self.peak_flops:
            share = self.flops * items / seconds / self.peak_flops / self.processes.world
            line["peak_share"] = round(share, 4)
        self._pass(seconds)
        self._look(line)
        line["seconds"] = round(now.seconds, 3)
        self._judge(line)
        self.folder.record(line)
        for watch in self.watchers:
            watch(line)
        self._tell(line)

    def _look(self, line: Metrics) -> None:
        """Sample and evaluate where that is due; their time belongs to the training, and can bring its end."""
        train = self.job.train
        samples = self._is_due(train.sample_every)
        if samples:
            self._timed(self._sample)
        # after a sample, whose time could bring the end, at which all that is held out is evaluated
        if self._is_due(train.eval_every) or (self.job.data.eval is not None and self._is_last()):
            line |= self._timed(lambda: self.look.evaluate(self.state))
        if (
            train.sample_every and not samples and self._is_over() and self.feed.at_border
        ):  # which that brought
            self._timed(self._sample)

    def _is_due(self, every: int | None) -> bool:
        """Whether something that is done every so many steps, and after the last one, is to be done now."""
        return every is not None and (self.state.step % every == 0 or self._is_last())

    def _is_last(self) -> bool:
        return self._done() >= 1 and self.feed.at_border

    def _timed(self, look: Callable[[], Metrics]) -> Metrics:
        began = time.perf_counter()
        seen = look()
        self._pass(time.perf_counter() - began)
        return seen

    def _sample(self) -> Metrics:
        self.look.sample(self.state.step)
        return {}

    def _judge(self, line: Metrics) -> None:
        """Ask the task whether to go on; the first process decides for all."""
        why = self.task.verdict(line)
        (ends,) = self.processes.first_says(float(bool(why)))
        if ends and not self.state.ended:  # up to the feed's border the same is so
            self.state.ended = why or "the first process ended it"
            self.say("ended by the task's own verdict", self.state.ended)

    def _prepared(self, batches: list[Batch]) -> list[Batch]:
        """The batches as the network will see them."""
        seed, step, rank = self.job.seed, self.state.step, self.processes.rows.rank
        rngs = (np.random.default_rng((seed, step, rank, number)) for number in range(len(batches)))
        return [
            self.look.on_device(self.task.prepare(batch, rng))
            for batch, rng in zip(batches, rngs, strict=True)
        ]

    def _learn(self, prepared: list[Batch], count: float, rate: float, place: str) -> tuple[float, Metrics]:
        """Change the weights by a step's batches, at `rate` of the peak; the mean loss, and metrics."""
        if isinstance(self.task, DirectTask):
            lr = self.job.optimizer.lr * rate
            made = [self.task.learn(self.layout.networks, batch, lr) for batch in prepared]
            loss = float(sum(one.sum for one in made)) / max(1, sum(one.count for one in made))
            self.state.check(loss, 0.0, place)
            return loss, {}
        loss, metrics = self._gradients(prepared, count)
        self.layout.reduce(self.optimizer.slots)
        norm = self.layout.norm(self.optimizer.slots)
        self.state.check(loss, float(norm), place)
        self.optimizer.step(rate, norm)
        return loss, {**metrics, "grad_norm": float(norm)}

    def _gradients(self, prepared: list[Batch], count: float) -> tuple[float, Metrics]:
        """Put the gradient of the mean loss of a step into the optimizer; that loss, and the means of metrics."""
        try:
            mine = self._computed(prepared, count)
        except Exception as error:
            if not is_compilers(error):
                raise
            # a batch of another form, such as one without padding, is compiled when it comes
            undo(self.net)
            self._go_uncompiled(reason(error))
            self.optimizer.forget()
            mine = self._computed(prepared, count)
        parts = [float(value) / count for value in mine.metrics.values()]
        loss, uncompiled, *means = self.processes.total(
            float(mine.sum), float(bool(self.not_compiled)), *parts
        )
        if uncompiled and not self.not_compiled:  # all compute alike, so that a snapshot can tell how
            undo(self.net)
            self._go_uncompiled("another process could not compile it")
        return loss, dict(zip(mine.metrics, means, strict=True))

    def _computed(self, prepared: list[Batch], count: float) -> Loss:
        """This process's part of it."""
        torch.manual_seed(_number(self.job.seed, self.state.step, self.processes.rows.rank))
        self.net.train()
        return self.layout.gradients(self.task, prepared, count)

    @cached_property
    def _spare(self) -> list[Batch]:
        """Batches for this process where it has none, and the others wait for it in their layers."""
        return self.feed.spare()

    def _snapshot(self) -> None:
        if self._snapped == self.state.step:
            return
        facts = {
            **digests(self.feed),
            **self.state.facts(),
            "feed": self.feed.state(),
            "updates": self.optimizer.updates,
            "conditions": self.conditions(),
            "notes": self.notes,
            "not_compiled": self.not_compiled,
        }
        keep, tensors = self.job.train.keep_snapshots, self.optimizer.state()
        write_snapshot(
            self.folder.snapshots, self.state.step, tensors, facts, keep=keep, processes=self.processes
        )
        self._snapped = self.state.step

    def _tell(self, line: Metrics) -> None:
        train, now = self.job.train, self.state
        done = self._done()
        total = train.steps if train.steps else max(now.step, round(now.step / done)) if done else None
        parts = [f"loss {line['loss']:.3f}"]
        if "eval_loss" in line:
            parts.append(f"eval {line['eval_loss']:.3f}")
        parts.append(f"{line['items_per_s']:,.0f} {self.task.unit}/s")
        if "peak_share" in line:
            parts.append(f"{line['peak_share']:.0%} of peak")
        self.progress("training", now.step, total, ", ".join(parts))


def _number(*parts: int) -> int:
    """One seed made of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)

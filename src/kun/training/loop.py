"""The loop: batches, gradients, updates; and beside them evaluation, samples, snapshots, and knowing when to stop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from kun.training.compiling import compile_network, is_compilers, reason, undo
from kun.training.feed import Batch, Feed, Place
from kun.training.flops import peak_memory
from kun.training.interruptions import Interruptions
from kun.training.layout import Layout, filled
from kun.training.memory import A_SAMPLE, A_STEP, AN_EVALUATION, enough_memory
from kun.training.objectives import Objective
from kun.training.optimizers import Optimizer
from kun.training.progress import Progress
from kun.training.recipe import Recipe
from kun.training.run import RunFolder, conditions, threads
from kun.training.schedules import make_schedule
from kun.training.snapshot import Snapshot, newest, write_snapshot

Report = Callable[[str, int, int | None, str], None]
"""(stage, done, total, detail) of work that people wait for."""


def silent(stage: str, done: int, total: int | None, detail: str) -> None:
    """A `Report` that tells nobody."""


Sampler = Callable[[nn.Module], list[dict[str, str]]]
"""Texts that the network writes now: a `prompt` and its `text` each."""
Watcher = Callable[[Mapping[str, Any]], None]
"""Is told the metrics of each step."""


class Loop:
    """Trains a network towards `objective` on what `feed` gives, and writes the run.

    A step is a function of the weights, the seed and its number alone, so that a run goes on from a snapshot as if it
    had never stopped (on the same number of threads and processes, and where its end is not set in minutes).
    """

    def __init__(
        self,
        recipe: Recipe,
        layout: Layout,
        objective: Objective,
        feed: Feed,
        folder: RunFolder,
        *,
        device: torch.device,
        facts: Mapping[str, Any] | None = None,
        flops_per_token: float = 0.0,
        peak_flops: float | None = None,
        sampler: Sampler | None = None,
        report: Report | None = None,
    ) -> None:
        self.recipe, self.objective, self.feed, self.folder = recipe, objective, feed, folder
        layout.check(objective)
        self.layout, self.net, self.processes = layout, layout.net, layout.processes
        self.device, self.sampler, self.share = device, sampler, layout.processes.share
        self.facts = dict(facts or {})
        self.flops_per_token, self.peak_flops = flops_per_token, peak_flops
        self.report: Report = report or silent
        self.optimizer = Optimizer(self.net, recipe.optimizer, ema=recipe.train.ema)
        self.schedule = make_schedule(recipe.optimizer)
        self.progress = Progress()
        self.watchers: list[Watcher] = []
        self.notes: list[str] = []
        """What is to be known of how it went, in sentences."""
        self.compiled, self.not_compiled = False, ""
        """Whether the network is compiled, and why it could not be where that was tried."""
        self._snapped = -1

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot. Raises `DamagedFile` where it is another network's."""
        self.optimizer.load(snapshot, snapshot.facts["updates"], partly=self.layout.is_part)
        self.progress = Progress.of(snapshot)
        self.notes = list(snapshot.facts.get("notes", []))
        self.not_compiled = snapshot.facts.get("not_compiled", "")
        self._snapped = snapshot.step

    def say(self, what: str, detail: str) -> None:
        """Report what people ought to know of this training, and note it."""
        self.report(what, 0, None, detail)
        note = f"{what.capitalize()}: {detail}."
        if note not in self.notes:
            self.notes.append(note)

    def conditions(self) -> dict[str, Any]:
        """What the last bits of the results depend on beside recipe, data and machine."""
        return {**conditions(self.recipe, self.processes.world), "compiled": self.compiled}

    def compile(self) -> None:
        """Compile the network for the batches of the first step; where that fails, or did before, say so."""
        if self.not_compiled:  # in a run that goes on, whose bits would differ
            self._go_uncompiled(self.not_compiled)
            return
        batches, _ = self.feed.step(Place())
        self.report("compiling", 0, None, "")

        def probe() -> None:
            self.net.train()
            batch = self._on_device(self.objective.prepare(batches[0], np.random.default_rng(0)))
            self.objective.loss(self.net, batch).backward()

        why = compile_network(self.net, probe)
        self.optimizer.forget()
        self.compiled = not why
        if why:
            self._go_uncompiled(why)

    def _go_uncompiled(self, why: str) -> None:
        self.compiled, self.not_compiled = False, why
        self.say("not compiled", why)

    def run(self) -> Progress:
        """Train until the recipe's end.

        Raises `Diverged`, `NoMemory`, `NoSpace`; KeyboardInterrupt, after a last snapshot.
        """
        self.folder.begin_at(self.progress.step)
        with Interruptions() as interruptions, self.processes.naming():
            while self._done() < 1 and not self._tired():
                self._step()
                if self._interrupted(interruptions):
                    self._snapshot()
                    raise KeyboardInterrupt
                every = self.recipe.train.snapshot_every
                if every and self.progress.step % every == 0:
                    self._snapshot()
            self._snapshot()
        return self.progress

    @contextmanager
    def final_weights(self) -> Iterator[nn.Module]:
        """Within it a whole network has the weights that the recipe wants kept: the last, the averaged or the best.

        The first process alone has it, where the network lies on several.
        """
        is_best = self.recipe.train.keep == "best"
        best = newest(self.folder.path / "best") if is_best else None
        shell = self.layout.shell()
        if shell is not None:
            last = best or newest(self.folder.snapshots)
            assert last is not None
            prefix = "" if best else "average." if self.recipe.train.ema is not None else "master."
            weights = {k.removeprefix(prefix): t for k, t in last.tensors().items() if k.startswith(prefix)}
            yield filled(shell, weights)
            return
        with self.optimizer.averaged():
            if best is not None:
                self.optimizer.put(best.tensors())
            yield self.net

    def summary(self) -> dict[str, Any]:
        """What the lineage says of how it went."""
        now = self.progress
        told: dict[str, Any] = {"steps": now.step, "tokens": now.tokens, "seconds": round(now.seconds, 1)}
        told |= {"loss": now.losses[-1]} if now.losses else {}
        return told | ({"best_eval_loss": now.best} if math.isfinite(now.best) else {})

    def known(self) -> dict[str, Any]:
        """What is known of the training as a whole, beside its metrics."""
        now = self.progress
        return {
            "parameters": self.layout.parameters,
            "trained": self.layout.trained,
            "flops_per_token": self.flops_per_token,
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
        train, now = self.recipe.train, self.progress
        shares = [
            now.step / train.steps if train.steps else 0.0,
            now.tokens / train.tokens if train.tokens else 0.0,
            self.feed.epochs(now.place) / train.epochs if train.epochs else 0.0,
            now.seconds / (60 * train.minutes) if train.minutes else 0.0,
        ]
        return max(shares)

    def _interrupted(self, interruptions: Interruptions) -> bool:
        """Whether to stop after this step: all processes agree on that."""
        return bool(self.processes.most(interruptions.came))

    def _pass(self, seconds: float) -> None:
        """Add to the time that the training took, which is that of the first process on all."""
        (self.progress.seconds,) = self.processes.first_says(self.progress.seconds + seconds)

    def _tired(self) -> bool:
        patience = self.recipe.train.patience
        return patience is not None and self.progress.worse >= patience

    def _step(self) -> None:
        began = time.perf_counter()
        now, train = self.progress, self.recipe.train
        rate = self.schedule(now.step, self._done())
        batches, place = self.feed.step(now.place)
        with enough_memory(*A_STEP):
            prepared, mine = self._prepared(batches)
            told = self.processes.total(mine, sum(self.objective.targets(batch) for batch in prepared))
            tokens, targets = int(told[0]), max(1.0, told[1])
            # of fewer rows than processes this one has none: it goes along with the others, and counts for naught
            if not prepared:
                prepared, targets = self._prepared(self._spare)[0], math.inf
            started = time.perf_counter()
            loss = self._gradients(prepared, targets)
            self.layout.reduce(self.optimizer.slots)
            norm = self.layout.norm(self.optimizer.slots)
            now.check(loss, float(norm))
            self.optimizer.step(rate, norm)
        computed = time.perf_counter()
        now.step, now.tokens, now.place = now.step + 1, now.tokens + tokens, place
        now.losses.append(loss)
        ended = time.perf_counter()
        seconds = ended - began
        now.busy, now.idle = now.busy + computed - started, now.idle + seconds - (computed - started)
        line: dict[str, Any] = {
            "step": now.step,
            "loss": loss,
            "lr": self.recipe.optimizer.lr * rate,
            "grad_norm": float(norm),
            "tokens": now.tokens,
            "tokens_per_s": round(tokens / seconds, 1),
        }
        if self.peak_flops:
            line["peak_share"] = round(self._share_of_peak(tokens / seconds), 4)
        self._pass(seconds)
        samples = self._is_due(train.sample_every)
        if samples:
            self._timed(self._sample)
        if self._is_due(train.eval_every):  # after a sample, whose time could bring the end
            line |= self._timed(self._evaluate)
        if train.sample_every and not samples and (self._done() >= 1 or self._tired()):  # which that brought
            self._timed(self._sample)
        line["seconds"] = round(now.seconds, 3)
        self.folder.record(line)
        for watch in self.watchers:
            watch(line)
        self._tell(line)

    def _is_due(self, every: int | None) -> bool:
        """Whether something that is done every so many steps, and after the last one, is to be done now."""
        return every is not None and (self.progress.step % every == 0 or self._done() >= 1)

    def _timed(self, look: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What an evaluation or the like tells; its time belongs to the training."""
        began = time.perf_counter()
        told = look()
        self._pass(time.perf_counter() - began)
        return told

    def _share_of_peak(self, tokens_per_s: float) -> float:
        return self.flops_per_token * tokens_per_s / (self.peak_flops or 1.0) / self.processes.world

    def _prepared(self, batches: list[Batch]) -> tuple[list[Batch], int]:
        """The batches as the network will see them, and how many tokens these are."""
        seed, step = self.recipe.seed, self.progress.step
        prepared = []
        for number, batch in enumerate(batches):
            chance = np.random.default_rng((seed, step, self.share.rank, number))
            prepared.append(self._on_device(self.objective.prepare(batch, chance)))
        return prepared, sum(_tokens(batch) for batch in prepared)

    def _gradients(self, prepared: list[Batch], targets: float) -> float:
        """Put the gradient of the mean loss of a step into the optimizer; that loss."""
        try:
            mine = self._computed(prepared, targets)
        except Exception as error:
            if not is_compilers(error):
                raise
            # a batch of another form, such as one without padding, is compiled when it comes
            undo(self.net)
            self._go_uncompiled(reason(error))
            self.optimizer.forget()
            mine = self._computed(prepared, targets)
        loss, uncompiled = self.processes.total(mine, float(bool(self.not_compiled)))
        if uncompiled and not self.not_compiled:  # all compute alike, so that a snapshot can tell how
            undo(self.net)
            self._go_uncompiled("another process could not compile it")
        return loss

    def _computed(self, prepared: list[Batch], targets: float) -> float:
        """This process's part of it."""
        torch.manual_seed(_number(self.recipe.seed, self.progress.step, self.share.rank))
        self.net.train()
        return float(self.layout.gradients(self.objective, prepared, targets))

    @cached_property
    def _spare(self) -> list[Batch]:
        """Batches for this process where it has none, and the others wait for it in their layers.

        Made once: for others of another epoch the feed would lay out all of that.
        """
        return self.feed.step(Place())[0]

    def _on_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

    def _evaluate(self) -> dict[str, float]:
        """Means over the held-out data, as `eval_loss` and so on; and whether it went better than ever."""
        self.net.eval()
        # what is compiled for training would be compiled again for this
        with (
            torch.compiler.set_stance("force_eager"),
            self.optimizer.averaged(),
            enough_memory(*AN_EVALUATION),
        ):
            means = self._measured()
            if not means:
                return means
            if means["eval_loss"] < self.progress.best:
                self.progress.best, self.progress.worse = means["eval_loss"], 0
                if self.recipe.train.keep == "best":
                    self._keep_best()
            else:
                self.progress.worse += 1
        return means

    def _measured(self) -> dict[str, float]:
        """Means over the held-out data of all processes."""
        sums: dict[str, float] = {}
        targets = 0
        mine = list(self.feed.evaluation())
        # the processes take part in each other's batches: those with fewer repeat some, without counting them
        spare = mine or self._spare
        most = self.processes.most(len(mine))
        for number in range(most):
            counts = number < len(mine)
            chance = np.random.default_rng((self.recipe.seed, number))
            batch = self.objective.prepare(mine[number] if counts else spare[0], chance)
            ready = self._on_device(batch)
            measured = self.layout.measure(self.objective, ready)
            targets += self.objective.targets(ready) * counts
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + value * counts
        whole = self.processes.total(targets, *sums.values())
        if not sums:
            return {}
        told = self.objective.summary(dict(zip(sums, whole[1:], strict=True)), int(whole[0]))
        return {f"eval_{name}": value for name, value in told.items()}

    def _keep_best(self) -> None:
        weights = {slot.name: slot.master.detach() for slot in self.optimizer.slots}
        facts = {"eval_loss": self.progress.best}
        write_snapshot(
            self.folder.path / "best", self.progress.step, weights, facts, keep=1, processes=self.processes
        )

    def _sample(self) -> dict[str, float]:
        """Record what the network writes now; there is nothing of it to tell."""
        if self.sampler is None or not self.processes.is_first:
            return {}
        self.net.eval()
        with (
            torch.compiler.set_stance("force_eager"),
            self.optimizer.averaged(),
            enough_memory(*A_SAMPLE),
        ):
            for sample in self.sampler(self.net):
                self.folder.record_sample({"step": self.progress.step, **sample})
        return {}

    def _snapshot(self) -> None:
        if self._snapped == self.progress.step:
            return
        facts = {
            **self.facts,
            **self.progress.facts(),
            "updates": self.optimizer.updates,
            "conditions": self.conditions(),
            "notes": self.notes,
            "not_compiled": self.not_compiled,
        }
        write_snapshot(
            self.folder.snapshots,
            self.progress.step,
            self.optimizer.state(),
            facts,
            keep=self.recipe.train.keep_snapshots,
            processes=self.processes,
        )
        self._snapped = self.progress.step

    def _tell(self, line: dict[str, Any]) -> None:
        train, now = self.recipe.train, self.progress
        done = self._done()
        total = train.steps if train.steps else max(now.step, round(now.step / done)) if done else None
        parts = [f"loss {line['loss']:.3f}"]
        if "eval_loss" in line:
            parts.append(f"eval {line['eval_loss']:.3f}")
        parts.append(f"{line['tokens_per_s']:,.0f} tokens/s")
        if "peak_share" in line:
            parts.append(f"{line['peak_share']:.0%} of peak")
        self.report("training", now.step, total, ", ".join(parts))


def _number(*parts: int) -> int:
    """One seed made of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _tokens(batch: Batch) -> int:
    """Tokens of a batch that are no padding."""
    mask = batch.get("attention_mask")
    read = batch["input_ids"].numel() if mask is None else int((mask != 0).sum())
    written, real = batch.get("decoder_input_ids"), batch.get("decoder_attention_mask")
    if written is None:
        return read
    return read + (written.numel() if real is None else int(real.sum()))

"""From a recipe to its run: what its task trains goes through the loop and is saved."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from kun.adaptation.checkpointing import checkpoint_layers
from kun.errors import DamagedFile
from kun.settings import settings
from kun.training.compiling import in_order, is_worth
from kun.training.feed import Feed, digests
from kun.training.flops import peak_flops
from kun.training.job import Job
from kun.training.loop import Loop
from kun.training.memory import A_CHECKPOINT, A_NETWORK, DATA, enough_memory
from kun.training.networks import Net, Networks
from kun.training.opening import Opener
from kun.training.processes import Processes, joined
from kun.training.progress import TrainingProgress, silent
from kun.training.recipe import Recipe
from kun.training.report.reporting import Reporter, reported
from kun.training.resolving import check_same, resolve
from kun.training.run import Run, RunFolder
from kun.training.snapshot import Snapshot, newest_step, opened
from kun.training.spreading import lay_out
from kun.training.task import AnyTask, DirectTask, Procedure, Task
from kun.training.tensorboard import check_installed, event_files

_MINUTE = 3e13
"""Operations that a processor does in a minute of training, roughly."""


def train(
    recipe: Recipe, name: str, *, resume: bool = False, progress: TrainingProgress | None = None
) -> Run:
    """Do what a recipe asks for. `name` is that of a run's folder where the recipe names none.

    Raises what `kun.train` raises.
    """
    if settings().threads:
        torch.set_num_threads(settings().threads)
    job, task = resolve(recipe)
    if "tensorboard" in job.train.log:
        check_installed()
    with _without_denormals(), joined(job.parallel) as (processes, device), ExitStack() as whole:
        whole.enter_context(in_order(device))
        path = processes.broadcast_from_rank0(
            lambda: _folder(job, task, name, resume).path, read=Path, write=str
        )
        folder = RunFolder(path, writes=processes.is_first)
        whole.enter_context(processes.on_rank0(folder.held(job.toml)))
        whole.enter_context(reported(folder, job.stage))
        tell = (progress or silent) if processes.is_first else silent
        # the compiled steps of such a task are the processor's
        open = Opener(job, torch.device("cpu") if isinstance(task, DirectTask) else device, folder, tell)
        if isinstance(task, Procedure):
            processes.broadcast_from_rank0(lambda: task.run(open))
        elif isinstance(task, Task):
            step = processes.broadcast_from_rank0(lambda: newest_step(folder.snapshots) if resume else None)
            snapshot = None if step is None else opened(folder.snapshots, step)
            folder.goes_on = snapshot is not None
            _train(task, open, processes, snapshot, resume=resume)
    return Run(folder.path, folder.checkpoint)


def _folder(job: Job, task: AnyTask, name: str, resume: bool) -> RunFolder:
    return RunFolder.choose(job.out, name, resume=resume, check=lambda begun: check_same(job, task, begun))


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Within it numbers too small for full precision, which processors are slow at, are zero.

    Threads that were made before keep computing with them: each has a setting of its own, which OpenMP's workers take
    over from the thread that makes them, once.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _prepare(task: Task[Net], open: Opener) -> tuple[Networks[Net], Feed[Net]]:
    with enough_memory(*DATA):
        networks = task.networks(open)
        return networks, task.feed(open, networks)


def _train(
    task: Task[Net], open: Opener, processes: Processes, snapshot: Snapshot | None, *, resume: bool
) -> None:
    job, folder, device = open.job, open.folder, open.device
    # the first process reads the data and writes its tokens, which the others then find
    networks, feed = processes.first(lambda: _prepare(task, open))
    feed.divide(processes.rows)
    if snapshot:
        _check_data(folder, snapshot, feed)
    if job.train.activation_checkpointing:
        checkpoint_layers(networks.trained)
    flops, dtype = task.flops(networks), next(networks.trained.parameters()).dtype
    with enough_memory(*A_NETWORK):
        layout = lay_out(networks, job, processes)
        peak = peak_flops(dtype, device) if flops and task.counts_peak else None
        loop = Loop(
            job,
            task,
            layout,
            feed,
            folder,
            device=device,
            flops=flops,
            peak_flops=peak,
            progress=open.progress,
        )
        if snapshot:
            loop.resume(snapshot)
    amount = _operations(job, task, feed, flops)
    if layout.is_whole and is_worth(job.train.compile, amount, device, even=task.is_even):
        loop.compile()
    if resume:
        _say_how_it_goes_on(loop, snapshot)
    processes.broadcast_from_rank0(lambda: folder.record_facts(task.facts(open, networks, feed)))
    loop.watchers.append(Reporter(folder, loop.known))
    with ExitStack() as logs:
        if "tensorboard" in job.train.log and processes.is_first:
            events = event_files(folder.path / "tensorboard", loop.state.step)
            loop.watchers.append(logs.enter_context(events))
        logs.callback(lambda: folder.record_facts(loop.known()))
        loop.run()
    processes.broadcast_from_rank0(lambda: _save(job, task, networks, loop))


def _say_how_it_goes_on(loop: Loop[Net], snapshot: Snapshot | None) -> None:
    """Say where a run that is to be resumed begins anew, or may not go on bit for bit."""
    if snapshot is None:
        loop.say("starting from the beginning", f"there is no snapshot in {loop.folder.path}")
        return
    now, before = loop.conditions(), snapshot.facts.get("conditions", {})
    others = [f"{key} = {old} before, {now[key]} now" for key, old in before.items() if now.get(key) != old]
    if others:
        loop.say("going on, but bits may differ", "; ".join(others))


def _check_data(folder: RunFolder, snapshot: Snapshot, feed: Feed[Net]) -> None:
    """Raise `DamagedFile` where the data are not those of the snapshot, whose losses those of others do not go on."""
    for key, digest in digests(feed).items():
        if snapshot.facts.get(key, digest) != digest:
            what = "trained" if key == "data" else "evaluated"
            raise DamagedFile(
                f"The data of {folder.path} is not what its snapshot was {what} on: start another run."
            )


def _operations(job: Job, task: Task[Net], feed: Feed[Net], of_item: float) -> float:
    """Floating-point operations of the whole training, as far as the job tells before it begins."""
    train = job.train
    of_step = train.batch_tokens if task.unit == "tokens" else job.batch
    limits = [
        train.steps * of_step * of_item if train.steps else None,
        train.tokens * of_item if train.tokens else None,
        train.epochs * feed.size * of_item if train.epochs else None,
        train.minutes * _MINUTE if train.minutes else None,
    ]
    return min((limit for limit in limits if limit), default=0.0)


def _save(job: Job, task: Task[Net], networks: Networks[Net], loop: Loop[Net]) -> None:
    data: dict[str, object] = {"train": job.data.train, "digest": loop.feed.data.digest}
    if task.unit == "tokens":
        data["tokens"] = loop.feed.size
    lineage = {"recipe": job.values, "data": data, "metrics": loop.summary()}
    with enough_memory(*A_CHECKPOINT), loop.final_weights() as net:
        task.saved(replace(networks, trained=net))(loop.folder.checkpoint, lineage)

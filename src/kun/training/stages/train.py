"""From a recipe to its run: what a stage prepared goes through the loop and is saved."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kun.adaptation.checkpointing import checkpoint_layers
from kun.data.overlap import overlap
from kun.errors import DamagedFile
from kun.hub.adapter_saving import save_adapter
from kun.hub.saving import save_checkpoint
from kun.settings import settings
from kun.training.compiling import in_order, is_worth
from kun.training.flops import flops_per_token, peak_flops
from kun.training.layout import lay_out
from kun.training.loop import Loop, Report, silent
from kun.training.memory import A_CHECKPOINT, A_NETWORK, DATA, OVERLAP, enough_memory
from kun.training.model import family_named
from kun.training.processes import Processes, joined
from kun.training.recipe import Recipe
from kun.training.report import Reporter, reported
from kun.training.run import Run, RunFolder
from kun.training.snapshot import Snapshot, newest_step, opened
from kun.training.stages import padded, text
from kun.training.stages.choice import objective_of
from kun.training.stages.prepared import Prepared
from kun.training.tensorboard import check_installed, event_files
from kun.training.tokenizers import learn_tokenizer

_MINUTE = 3e13
"""Operations that a processor does in a minute of training, roughly."""

_PREPARE: dict[str, Callable[[Recipe, RunFolder, torch.device, Report], Prepared]] = {
    "next_token": text.next_token,
    "masked": text.masked,
    "span": text.span,
    "permutation": text.permutation,
    "seq2seq": padded.seq2seq,
    "classify": padded.classify,
    "regress": padded.regress,
    "answer_span": padded.answer_span,
}
"""How what an objective learns from is put together."""


def train(recipe: Recipe, name: str, *, resume: bool = False, report: Report | None = None) -> Run:
    """Do what a recipe asks for. `name` is that of a run's folder where the recipe names none.

    Raises what `kun.train` raises.
    """
    if settings().threads:
        torch.set_num_threads(settings().threads)
    tell: Report = report or silent
    objective = "" if recipe.stage == "tokenizer" else objective_of(recipe, family_named(recipe))
    if "tensorboard" in recipe.train.log:
        check_installed()
    with _without_denormals(), joined(recipe.parallel) as (processes, device), ExitStack() as whole:
        whole.enter_context(in_order(device))
        path = processes.by_first(
            lambda: RunFolder.choose(recipe, name, resume=resume).path, read=Path, write=str
        )
        folder = RunFolder(path, writes=processes.is_first)
        whole.enter_context(processes.leading(folder.held(recipe)))
        whole.enter_context(reported(folder, recipe.stage))
        if recipe.stage == "tokenizer":
            processes.by_first(lambda: learn_tokenizer(recipe, folder, tell))
        else:
            step = processes.by_first(lambda: newest_step(folder.snapshots) if resume else None)
            snapshot = None if step is None else opened(folder.snapshots, step)
            folder.goes_on = snapshot is not None
            mine: Report = tell if processes.is_first else silent
            _train(recipe, objective, folder, snapshot, processes, device, mine, resume=resume)
    return Run(folder.path, folder.checkpoint)


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


def _say_how_it_goes_on(loop: Loop, snapshot: Snapshot | None) -> None:
    """Say where a run that is to be resumed begins anew, or may not go on bit for bit."""
    if snapshot is None:
        loop.say("starting from the beginning", f"there is no snapshot in {loop.folder.path}")
        return
    now, before = loop.conditions(), snapshot.facts.get("conditions", {})
    told = [f"{key} = {old} before, {now[key]} now" for key, old in before.items() if now.get(key) != old]
    if told:
        loop.say("going on, but bits may differ", "; ".join(told))


def _train(
    recipe: Recipe,
    objective: str,
    folder: RunFolder,
    snapshot: Snapshot | None,
    processes: Processes,
    device: torch.device,
    report: Report,
    *,
    resume: bool,
) -> None:
    # the first process reads the data and writes its tokens, which the others then find
    made = processes.first(lambda: _prepared(recipe, objective, folder, device, report))
    made.feed.divide(processes.share)
    if snapshot:
        _check_data(folder, snapshot, made)
    if made.subject.fresh:
        report("new weights", 0, None, f"{', '.join(made.subject.fresh)}: the checkpoint has none")
    with enough_memory(*A_NETWORK):
        loop = _loop(recipe, made, folder, processes, device, report)
        if snapshot:
            loop.resume(snapshot)
    amount = _operations(recipe, made, loop.flops_per_token)
    if loop.layout.is_whole and is_worth(recipe.train.compile, amount, device, even=made.even):
        loop.compile()
    if resume:
        _say_how_it_goes_on(loop, snapshot)
    processes.by_first(lambda: folder.record_facts(_facts(recipe, made, folder)))
    loop.watchers.append(Reporter(folder, loop.known))
    with ExitStack() as logs:
        if "tensorboard" in recipe.train.log and processes.is_first:
            events = event_files(folder.path / "tensorboard", loop.progress.step)
            loop.watchers.append(logs.enter_context(events))
        logs.callback(lambda: folder.record_facts(loop.known()))
        loop.run()
    processes.by_first(lambda: _save(recipe, folder, made, loop))


def _prepared(
    recipe: Recipe, objective: str, folder: RunFolder, device: torch.device, report: Report
) -> Prepared:
    with enough_memory(*DATA):
        return _PREPARE[objective](recipe, folder, device, report)


def _loop(
    recipe: Recipe,
    made: Prepared,
    folder: RunFolder,
    processes: Processes,
    device: torch.device,
    report: Report,
) -> Loop:
    """The loop over what was prepared, with the network laid out on the processes."""
    net = made.subject.net
    if recipe.train.activation_checkpointing:
        checkpoint_layers(net)
    dtype, operations = next(net.parameters()).dtype, flops_per_token(net, made.subject.context)
    return Loop(
        recipe,
        lay_out(net, recipe, processes),
        made.objective,
        made.feed,
        folder,
        device=device,
        facts=_digests(made),
        flops_per_token=operations,
        # of an encoder-decoder each token goes through one half only, and which is not counted
        peak_flops=None if made.subject.family.kind == "encoder-decoder" else peak_flops(dtype, device),
        sampler=made.sampler,
        report=report,
    )


def _facts(recipe: Recipe, made: Prepared, folder: RunFolder) -> dict[str, Any]:
    """What is known of a run before it begins, and was not known when it was begun that goes on."""
    learned, held_out = made.store, made.held_out
    data = {**asdict(learned.counts), "source": recipe.data.train}
    data |= {"documents": len(learned), "tokens": learned.n_tokens}
    told: dict[str, Any] = {"config": made.subject.net.config.to_hf(), "waste": made.waste, "data": data}
    if held_out is not None:
        data |= {"eval_documents": len(held_out), "eval_tokens": held_out.n_tokens}
    if held_out is not None and not (folder.goes_on and "overlap" in folder.known()):
        with enough_memory(*OVERLAP):
            met = overlap(learned, held_out)
        told["overlap"] = {
            "documents": met.documents,
            "identical": met.identical,
            "touched": met.touched,
            "grams": met.grams,
        }
    return told


def _digests(made: Prepared) -> dict[str, str | None]:
    """Those of the tokens to learn from and of the held-out ones."""
    return {"data": made.store.digest, "eval_data": made.held_out.digest if made.held_out else None}


def _check_data(folder: RunFolder, snapshot: Snapshot, made: Prepared) -> None:
    """Raise `DamagedFile` where the data are not those of the snapshot, whose losses those of others do not go on."""
    for key, digest in _digests(made).items():
        if snapshot.facts.get(key, digest) != digest:
            what = "trained" if key == "data" else "evaluated"
            raise DamagedFile(
                f"The data of {folder.path} is not what its snapshot was {what} on: start another run."
            )


def _operations(recipe: Recipe, made: Prepared, of_token: float) -> float:
    """Floating-point operations of the whole training, as far as the recipe tells before it begins."""
    train, each = recipe.train, of_token
    limits = [
        train.steps * train.batch_tokens * each if train.steps else None,
        train.tokens * each if train.tokens else None,
        train.epochs * made.store.n_tokens * each if train.epochs else None,
        train.minutes * _MINUTE if train.minutes else None,
    ]
    return min((limit for limit in limits if limit), default=0.0)


def _save(recipe: Recipe, folder: RunFolder, made: Prepared, loop: Loop) -> None:
    subject, store = made.subject, made.store
    lineage: dict[str, Any] = {
        "recipe": recipe.model_dump(by_alias=True, exclude_none=True, mode="json"),
        "data": {"train": recipe.data.train, "digest": store.digest, "tokens": store.n_tokens},
        "metrics": loop.summary(),
    }
    if subject.fresh:
        lineage["fresh"] = list(subject.fresh)
    with enough_memory(*A_CHECKPOINT), loop.final_weights() as net:
        if recipe.lora:
            assert subject.origin is not None
            save_adapter(
                folder.checkpoint,
                net,
                origin=subject.origin,
                tokenizer=subject.tokenizer,
                chat_template=subject.template,
                lineage=lineage,
            )
            return
        save_checkpoint(
            folder.checkpoint,
            net,
            tokenizer=subject.tokenizer,
            chat_template=subject.template,
            generation_config=None if subject.origin else subject.generation_config,
            lineage=lineage,
            origin=subject.origin,
        )

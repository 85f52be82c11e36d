"""From a recipe to its run: what each stage puts together for the loop, and what it leaves."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import torch

from kun.adaptation.checkpointing import checkpoint_layers
from kun.data.overlap import overlap
from kun.data.packing import PackedRows
from kun.data.sources import Rows
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import DamagedFile
from kun.hub.adapter import save_adapter
from kun.hub.saving import save_checkpoint
from kun.settings import settings
from kun.training.compiling import is_worth
from kun.training.feed import PackedFeed
from kun.training.flops import flops_per_token, peak_flops
from kun.training.loop import Loop, Report
from kun.training.model import Subject, open_subject
from kun.training.objectives import NextToken
from kun.training.recipe import Recipe
from kun.training.report import Reporter, reported
from kun.training.run import Run, RunFolder
from kun.training.samples import sampler
from kun.training.snapshot import Snapshot, newest
from kun.training.tensorboard import check_installed, event_files
from kun.training.tokenizers import learn_tokenizer

_MINUTE = 3e13
"""Operations that a processor does in a minute of training, roughly."""


def train(recipe: Recipe, name: str, *, resume: bool = False, report: Report | None = None) -> Run:
    """Do what a recipe asks for. `name` is that of a run's folder where the recipe names none.

    Raises what `kun.train` raises.
    """
    if settings().threads:
        torch.set_num_threads(settings().threads)
    folder = RunFolder.choose(recipe, name, resume=resume)
    if "tensorboard" in recipe.train.log:
        check_installed()
    tell: Report = report or (lambda stage, done, total, detail: None)
    with _without_denormals(), folder.held(recipe), reported(folder, recipe.stage):
        if recipe.stage == "tokenizer":
            learn_tokenizer(recipe, folder, tell)
        else:
            _train(recipe, folder, newest(folder.snapshots) if resume else None, tell)
    return Run(folder.path, folder.checkpoint)


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Within it numbers too small for full precision, which processors are slow at, are zero."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _train(recipe: Recipe, folder: RunFolder, snapshot: Snapshot | None, report: Report) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    subject = open_subject(recipe, device)
    if recipe.train.activation_checkpointing:
        checkpoint_layers(subject.net)
    stores = _stores(recipe, subject, folder, report)
    if snapshot and snapshot.facts["data"] != stores[0].digest:
        raise DamagedFile(
            f"The data of {folder.path} is not what its snapshot was trained on: start another run."
        )
    feed = _feed(recipe, subject, *stores)
    dtype = next(subject.net.parameters()).dtype
    loop = Loop(
        recipe,
        subject.net,
        NextToken(),
        feed,
        folder,
        device=device,
        facts={"data": stores[0].digest},
        flops_per_token=flops_per_token(subject.net, subject.context),
        peak_flops=peak_flops(dtype, device),
        sampler=sampler(subject, recipe, stores[1] or stores[0]),
        report=report,
    )
    if snapshot:
        loop.resume(snapshot)
    if is_worth(recipe.train.compile, _operations(recipe, subject, stores[0]), device, even=True):
        loop.compile()
    folder.record_facts(_facts(recipe, subject, feed, *stores))
    loop.watchers.append(Reporter(folder, loop.known))
    with ExitStack() as logs:
        if "tensorboard" in recipe.train.log:
            events = event_files(folder.path / "tensorboard", loop.progress.step)
            loop.watchers.append(logs.enter_context(events))
        logs.callback(lambda: folder.record_facts(loop.known()))
        loop.run()
    with loop.final_weights():
        _save(recipe, folder, subject, stores[0], loop)


def _stores(
    recipe: Recipe, subject: Subject, folder: RunFolder, report: Report
) -> tuple[TokenStore, TokenStore | None]:
    """The tokens to learn from and the held-out ones, which lie in the run and are made once."""
    turn = RowTokenizer(
        subject.tokenizer,
        begin=subject.begin,
        end=subject.end,
        template=subject.template,
        longest=subject.context + 1,
        long=recipe.data.too_long,
    )

    def store(source: Any, name: str) -> TokenStore:
        rows = Rows(source, recipe.data.format, recipe.data.skip_bad)
        return TokenStore.build(
            folder.path / "data" / name,
            rows,
            turn,
            bad=rows.bad,
            fingerprint=rows.fingerprint(),
            progress=lambda stage, done, total: report(stage, done, total, ""),
        )

    whole = store(recipe.data.train, "train")
    if recipe.data.eval is None:
        return whole, None
    if isinstance(recipe.data.eval, float):
        return whole.split(recipe.data.eval)
    return whole, store(recipe.data.eval, "eval")


def _feed(recipe: Recipe, subject: Subject, learned: TokenStore, held_out: TokenStore | None) -> PackedFeed:
    return PackedFeed(
        PackedRows(learned, subject.context, recipe.seed),
        PackedRows(held_out, subject.context) if held_out else None,
        seed=recipe.seed,
        step_tokens=recipe.train.batch_tokens,
        micro_tokens=recipe.train.micro_batch_tokens,
        eval_tokens=recipe.train.eval_tokens,
    )


def _facts(
    recipe: Recipe, subject: Subject, feed: PackedFeed, learned: TokenStore, held_out: TokenStore | None
) -> dict[str, Any]:
    """What is known of a run before it begins."""
    data = {**asdict(learned.counts), "source": recipe.data.train}
    data |= {"documents": len(learned), "tokens": learned.n_tokens}
    told: dict[str, Any] = {
        "config": subject.net.config.to_hf(),
        "waste": feed.train.plan(0).waste,
        "data": data,
    }
    if held_out is not None:
        data |= {"eval_documents": len(held_out), "eval_tokens": held_out.n_tokens}
        met = overlap(learned, held_out)
        told["overlap"] = {
            "documents": met.documents,
            "identical": met.identical,
            "touched": met.touched,
            "grams": met.grams,
        }
    return told


def _operations(recipe: Recipe, subject: Subject, store: TokenStore) -> float:
    """Floating-point operations of the whole training, as far as the recipe tells before it begins."""
    train = recipe.train
    tokens = [
        train.steps * train.batch_tokens if train.steps else None,
        train.tokens,
        train.epochs * store.n_tokens if train.epochs else None,
    ]
    least = min((count for count in tokens if count), default=None)
    if least is None:
        return _MINUTE * (train.minutes or 0.0)
    return least * flops_per_token(subject.net, subject.context)


def _save(recipe: Recipe, folder: RunFolder, subject: Subject, store: TokenStore, loop: Loop) -> None:
    lineage = {
        "recipe": recipe.model_dump(by_alias=True, exclude_none=True, mode="json"),
        "data": {"train": recipe.data.train, "digest": store.digest, "tokens": store.n_tokens},
        "metrics": loop.summary(),
    }
    if recipe.lora:
        assert subject.origin is not None
        save_adapter(folder.checkpoint, subject.net, origin=subject.origin, lineage=lineage)
        return
    save_checkpoint(
        folder.checkpoint,
        subject.net,
        tokenizer=subject.tokenizer,
        chat_template=subject.template,
        generation_config=None if subject.origin else subject.generation_config,
        lineage=lineage,
        origin=subject.origin,
    )

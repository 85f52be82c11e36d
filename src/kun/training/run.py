"""A run: the folder that one training writes, and what it holds."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kun.atomic_files import new_file, writing_to
from kun.errors import BadInput, BadRecipe, Busy, DamagedFile
from kun.hub.layout import read_json, write_json
from kun.settings import settings
from kun.training.recipe import Recipe, parse_recipe
from kun.training.snapshot import lines_until, remove_after, remove_unfinished

_CHANGES_BITS = (
    "train.micro_batch_tokens",
    "train.activation_checkpointing",
    "parallel.data",
    "parallel.tensor",
    "parallel.pipeline",
    "parallel.expert",
    "parallel.shard",
)
"""What of a recipe changes the order of sums, or what dropout draws."""

_MAY_CHANGE = {
    "out",
    "train.steps",
    "train.tokens",
    "train.epochs",
    "train.minutes",
    "train.snapshot_every",
    "train.keep_snapshots",
    "train.eval_every",
    "train.sample_every",
    "train.prompts",
    "train.patience",
    "train.log",
    *_CHANGES_BITS,
}
"""What of a recipe a resumed run may have otherwise: how long, on what, with how much memory, and what is looked at."""


@dataclass(frozen=True)
class Run:
    """What a training left: `metrics` (an object a step), and the `checkpoint` that it made."""

    path: Path
    checkpoint: Path

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return read_lines(self.path / "metrics.jsonl")

    @property
    def report(self) -> Path:
        return self.path / "report.html"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none where it is not there."""
    return lines_until(path, 2**62)


class RunFolder:
    """The folder while it is written; one process at a time.

    Of several processes of one training the first writes; for the others `writes` is false and recording does nothing.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.goes_on = False
        """Whether a run goes on in it, on the tokens that it began with."""
        self.snapshots, self.checkpoint = path / "snapshots", path / "checkpoint"
        self.metrics, self.samples = path / "metrics.jsonl", path / "samples.jsonl"
        self.facts = path / "facts.json"

    @classmethod
    def choose(cls, recipe: Recipe, name: str, *, resume: bool) -> "RunFolder":
        """The folder that a recipe names, or a fresh one under KUN_HOME/runs.

        Raises `BadInput` for a folder that holds a run already unless it is to be resumed, or that holds other things;
        `BadRecipe` where that run was begun with another recipe.
        """
        if recipe.out is None:
            if resume:
                raise BadInput("Nothing says which run to resume: name its folder with -o out=FOLDER.")
            return cls(_fresh(settings().runs, name))
        folder = cls(Path(recipe.out).expanduser().absolute())
        if folder.path.is_file():
            raise BadInput(f"{folder.path} is a file: name a folder for the run.")
        begun = folder.path / "recipe.toml"
        if begun.is_file():
            if not resume and folder.holds_work():
                raise BadInput(
                    f"{folder.path} holds a run already: --resume goes on with it, -o out=… names another."
                )
            if resume:
                _check_same(recipe, begun)
        elif folder.path.is_dir() and any(folder.path.iterdir()):
            raise BadInput(f"{folder.path} holds other things: name a new or empty folder for the run.")
        return folder

    def holds_work(self) -> bool:
        """Whether a step was taken or a checkpoint written: what is not to be written over."""
        taken = self.metrics.is_file() and self.metrics.stat().st_size > 0
        return taken or self.checkpoint.exists() or self.snapshots.exists()

    @contextmanager
    def held(self, recipe: Recipe) -> Iterator[None]:
        """Within it the folder is this training's. Raises `Busy` where another process trains in it."""
        if not self.writes:
            yield
            return
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(timeout=0):
                with new_file(self.path / "recipe.toml") as fresh:
                    fresh.write_text(recipe.to_toml(), encoding="utf-8")
                remove_unfinished(self.snapshots)
                yield
        except Timeout as error:
            raise Busy(
                f"Another process is training in {self.path}: wait for it, or name another folder."
            ) from error

    def begin_at(self, step: int) -> None:
        """Forget what a stopped process wrote beyond `step`: lines, and snapshots, of which none was whole."""
        if not self.writes:
            return
        for folder in (self.snapshots, self.path / "best"):
            remove_unfinished(folder)
            remove_after(folder, step)
        for path in (self.metrics, self.samples):
            kept = lines_until(path, step)
            with new_file(path) as fresh:
                fresh.write_text("".join(_line(value) for value in kept), encoding="utf-8")

    def record(self, values: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        self._append(self.metrics, values)

    def record_sample(self, values: Mapping[str, Any]) -> None:
        """Add a line to samples.jsonl."""
        self._append(self.samples, values)

    def record_facts(self, values: Mapping[str, Any]) -> None:
        """Add to facts.json what is known of the run as a whole, as its report tells it."""
        if not self.writes:
            return
        known = self.known()
        with new_file(self.facts) as fresh:
            write_json(fresh, {**known, **values})

    def known(self) -> dict[str, Any]:
        """What facts.json says so far."""
        try:
            return read_json(self.facts)
        except DamagedFile:  # or none yet
            return {}

    def _append(self, path: Path, values: Mapping[str, Any]) -> None:
        if not self.writes:
            return
        with writing_to(path.parent), path.open("a", encoding="utf-8") as file:
            file.write(_line(values))


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _fresh(runs: Path, name: str) -> Path:
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, number = runs / stem, 1
    while path.exists():
        number += 1
        path = runs / f"{stem}-{number}"
    return path


def _check_same(recipe: Recipe, begun: Path) -> None:
    before = parse_recipe(tomllib.loads(begun.read_text(encoding="utf-8")), str(begun))
    for key, (old, new) in _differences(_flat(before), _flat(recipe)).items():
        if key not in _MAY_CHANGE:
            raise BadRecipe(
                f"{begun.parent} was begun with {key} = {old!r}, and the recipe says {new!r}: resume with the "
                f"recipe as it was, or start another run."
            )


def _flat(recipe: Recipe) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in recipe.model_dump(by_alias=True, mode="json").items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def _differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = [*old, *(key for key in new if key not in old)]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def conditions(recipe: Recipe, processes: int) -> dict[str, Any]:
    """What the last bits of a run depend on, of all that may be otherwise when it goes on."""
    flat = _flat(recipe)
    return {"processes": processes, "threads": threads(), **{key: flat[key] for key in _CHANGES_BITS}}


def threads() -> int:
    """Threads that tensors are computed with, which a bit-exact resumption needs to be the same."""
    import torch

    return torch.get_num_threads() or os.cpu_count() or 1

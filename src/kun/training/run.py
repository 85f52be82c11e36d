"""A run: the folder that one training writes, and what it holds."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kun.atomic_files import new_file, writing_to
from kun.errors import BadInput, Busy, DamagedFile
from kun.hub.layout import read_json, write_json
from kun.settings import settings
from kun.training.snapshot import lines_until, remove_after, remove_unfinished


@dataclass(frozen=True)
class Run:
    """What a training left: `metrics` (an object a step), and the `checkpoint` that it made."""

    path: Path
    checkpoint: Path

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return read_lines(self.path / "metrics.jsonl")

    @property
    def facts(self) -> dict[str, object]:
        """What facts.json says of the run as a whole; nothing where it is missing or damaged."""
        return _facts(self.path / "facts.json")

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
        self.plots = path / "plots.jsonl"
        self.facts = path / "facts.json"

    @classmethod
    def choose(
        cls, out: str | None, name: str, *, resume: bool, check: Callable[[Path], None]
    ) -> "RunFolder":
        """The folder `out`, or a fresh one under KUN_HOME/runs.

        `check` is shown the recipe of a run that is resumed. Raises `BadInput` for a folder that holds a run already
        unless it is to be resumed, or that holds other things; and what `check` raises.
        """
        if out is None:
            if resume:
                raise BadInput("Nothing says which run to resume: name its folder with -o out=FOLDER.")
            return cls(_fresh(settings().runs, name))
        folder = cls(Path(out).expanduser().absolute())
        if folder.path.is_file():
            raise BadInput(f"{folder.path} is a file: name a folder for the run.")
        begun = folder.path / "recipe.toml"
        if begun.is_file():
            if not resume and folder.holds_work():
                raise BadInput(
                    f"{folder.path} holds a run already: --resume goes on with it, -o out=… names another."
                )
            if resume:
                check(begun)
        elif folder.path.is_dir() and any(folder.path.iterdir()):
            raise BadInput(f"{folder.path} holds other things: name a new or empty folder for the run.")
        return folder

    def holds_work(self) -> bool:
        """Whether a step was taken or a checkpoint written: what is not to be written over."""
        taken = self.metrics.is_file() and self.metrics.stat().st_size > 0
        return taken or self.checkpoint.exists() or self.snapshots.exists()

    @contextmanager
    def held(self, recipe: str) -> Iterator[None]:
        """Within it the folder is this training's, with its recipe. Raises `Busy` where another trains there."""
        if not self.writes:
            yield
            return
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(timeout=0):
                with new_file(self.path / "recipe.toml") as fresh:
                    fresh.write_text(recipe, encoding="utf-8")
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
        for path in (self.metrics, self.samples, *([self.plots] if self.plots.is_file() else [])):
            kept = lines_until(path, step)
            with new_file(path) as fresh:
                fresh.write_text("".join(_line(value) for value in kept), encoding="utf-8")

    def record(self, values: Mapping[str, object]) -> None:
        """Add a line to metrics.jsonl."""
        self._append(self.metrics, values)

    def record_sample(self, values: Mapping[str, object]) -> None:
        """Add a line to samples.jsonl."""
        self._append(self.samples, values)

    def record_plot(self, values: Mapping[str, object]) -> None:
        """Add a line to plots.jsonl."""
        self._append(self.plots, values)

    def record_facts(self, values: Mapping[str, object]) -> None:
        """Add to facts.json what is known of the run as a whole, as its report tells it."""
        if not self.writes:
            return
        known = self.known()
        with new_file(self.facts) as fresh:
            write_json(fresh, {**known, **values})

    def known(self) -> dict[str, object]:
        """What facts.json says so far."""
        return _facts(self.facts)

    def _append(self, path: Path, values: Mapping[str, object]) -> None:
        if not self.writes:
            return
        with writing_to(path.parent), path.open("a", encoding="utf-8") as file:
            file.write(_line(values))


def _facts(path: Path) -> dict[str, object]:
    try:
        return read_json(path)
    except DamagedFile:  # or none yet
        return {}


def _line(values: Mapping[str, object]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _fresh(runs: Path, name: str) -> Path:
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, number = runs / stem, 1
    while path.exists():
        number += 1
        path = runs / f"{stem}-{number}"
    return path

"""Output of the commands: JSON, tables, progress. Bars on a terminal, plain lines elsewhere."""

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import typer

from kun.atomic_files import DetailedProgress, new_file, writing_to
from kun.errors import KunError, NotFound

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from rich.progress import Progress, TaskID

    from kun.inspection.picture import PictureFormat
    from kun.knowledge.passage import Passage

T = TypeVar("T")

Quantize = Literal["int4", "int8", "none"]
QUANTIZE_OPTION = typer.Option("int4", help="How the weights are held.")
JSON_OPTION = typer.Option(False, "--json", help="Print one JSON document instead of text.")


def print_json(value: object) -> None:
    """One JSON document on standard output, in characters as they are (no \\u escapes)."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table that fits the terminal; cells that are too long are folded, never cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)


def draw(path: Path, make: "Callable[[PictureFormat], bytes]", *, quiet: bool = False) -> None:
    """Write a picture into a file, in the format of its name, and tell unless `quiet`.

    Raises `BadInput` for a name of another format.
    """
    from kun.inspection.picture import format_of

    format = format_of(path)
    with warnings.catch_warnings(record=True) as said, writing_to(path):
        content = make(format)
        with new_file(path.absolute()) as fresh:
            fresh.write_bytes(content)
    if quiet:
        return
    typer.echo(f"Drew {path}.", err=True)
    if format == "png" and any("missing from font" in str(one.message) for one in said):
        typer.echo(
            "Characters that no font here has are drawn as boxes: in an .svg they stay text.", err=True
        )


def each(names: Sequence[str], do: Callable[[str], T]) -> tuple[dict[str, T], dict[str, str]]:
    """The result of `do` for each name, and the reason where it failed; one name alone fails as it is."""
    if len(names) == 1:
        return {names[0]: do(names[0])}, {}
    done: dict[str, T] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            done[name] = do(name)
        except KunError as error:
            failed[name] = str(error)
    return done, failed


def check_paths(paths: Sequence[Path]) -> None:
    """Raise `NotFound` for a path that does not exist, before anything is done."""
    for path in paths:
        if not path.expanduser().exists():
            raise NotFound(f"{path} does not exist: give the path of a file or a folder.")


def leave_if_failed(failed: Mapping[str, str], quiet: bool) -> None:
    """List the failures, unless `quiet`, and leave with 1 where there are some."""
    if not failed:
        return
    if not quiet:
        for name, why in failed.items():
            # most sentences begin with the name already
            typer.echo(f"failed: {why}" if why.startswith(name) else f"failed: {name}: {why}", err=True)
    raise typer.Exit(1)


def title(passage: "Passage") -> str:
    """The place of a passage: document, headings, page."""
    parts = [passage.source, passage.heading, f"p. {passage.page}" if passage.page else ""]
    return " · ".join(part for part in parts if part)


def print_sources(passages: "Sequence[Passage]") -> None:
    """The passages that an answer cites as [1], [2] …, a line each."""
    for place, passage in enumerate(passages, 1):
        typer.echo(f"[{place}] {title(passage)}")


def size(n_bytes: int | None) -> str:
    """A size that people read: 491.4 MB."""
    if n_bytes is None:
        return "?"
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(quiet: bool = False, in_bytes: bool = False) -> Iterator[DetailedProgress]:
    """A progress report on standard error; `quiet` gives one that says nothing."""
    if quiet:
        yield lambda stage, done, total, detail="": None
    elif sys.stderr.isatty():
        with _bar(in_bytes) as bar:
            yield _Bars(bar)
    else:
        yield _Lines(in_bytes)


def _bar(in_bytes: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    columns += [TimeRemainingColumn(), TextColumn("[dim]{task.fields[detail]}", markup=True)]
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _is_notice(done: int, total: int | None, detail: str) -> bool:
    """True where nothing advances: then the text is news for people, to be printed whole."""
    return total is None and not done and bool(detail)


class _Bars:
    def __init__(self, bar: "Progress") -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None, detail: str = "") -> None:
        from rich.markup import escape

        if _is_notice(done, total, detail):
            self._bar.console.print(f"{stage}: {detail}", markup=False, highlight=False, soft_wrap=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(escape(stage), detail="")
        self._bar.update(self._tasks[stage], completed=done, total=total, detail=escape(detail[:60]))


class _Lines:
    """At most one line every five seconds, one at the end of each stage, and one for work of unknown size."""

    def __init__(self, in_bytes: bool) -> None:
        self._in_bytes = in_bytes
        self._began: dict[str, tuple[float, int]] = {}
        self._finished: set[str] = set()
        self._said = time.monotonic()

    def __call__(self, stage: str, done: int, total: int | None, detail: str = "") -> None:
        if _is_notice(done, total, detail):
            typer.echo(f"{stage}: {detail}", err=True)
            return
        now = time.monotonic()
        is_new = stage not in self._began
        began, before = self._began.setdefault(stage, (now, done))
        finished = total is not None and done >= total
        is_due = now - self._said >= _SECONDS_BETWEEN_LINES or (is_new and total is None)
        if stage in self._finished or not (is_due or finished):
            return
        self._said = now
        if finished:
            self._finished.add(stage)
        # two reports are needed for a rate
        rate = (done - before) / (now - began) if now > began else 0.0
        typer.echo(f"{stage}{self._figures(done, total, rate)} {detail}".rstrip(), err=True)

    def _figures(self, done: int, total: int | None, rate: float) -> str:
        if total is None:
            return f": {self._amount(done)}" if done else " …"
        speed = [f"{size(int(rate)) if self._in_bytes else f'{rate:.1f}'}/s"] if rate else []
        left = [f"{(total - done) / rate:.0f} s left"] if rate and done < total else []
        figures = f" ({', '.join(speed + left)})" if rate else ""
        return f": {self._amount(done)} of {self._amount(total)}{figures}"

    def _amount(self, count: int) -> str:
        return size(count) if self._in_bytes else str(count)


def as_dict(value: "DataclassInstance") -> dict[str, object]:
    """A dataclass as a plain dictionary, for JSON."""
    from dataclasses import asdict

    return asdict(value)

"""What the commands print: JSON, tables, progress. Bars on a terminal, plain lines elsewhere."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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


class Report(Protocol):
    """How long work tells where it is: (stage, done, total), and a word on what it is at."""

    def __call__(self, stage: str, done: int, total: int | None, detail: str = "") -> None: ...


@contextmanager
def progress(quiet: bool = False, in_bytes: bool = False) -> Iterator[Report]:
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


class _Bars:
    def __init__(self, bar: "Progress") -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None, detail: str = "") -> None:
        from rich.markup import escape

        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(escape(stage), detail="")
        self._bar.update(self._tasks[stage], completed=done, total=total, detail=escape(detail[:60]))


class _Lines:
    """At most one line every five seconds, and one at the end of each stage."""

    def __init__(self, in_bytes: bool) -> None:
        self._in_bytes = in_bytes
        self._started: dict[str, float] = {}
        self._said = time.monotonic()

    def __call__(self, stage: str, done: int, total: int | None, detail: str = "") -> None:
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        finished = total is not None and done >= total
        if now - self._said < 5 and not finished:
            return
        self._said = now
        rate = done / max(now - started, 1e-3)
        amount, whole, speed = (
            (size(done), size(total), f"{size(int(rate))}/s")
            if self._in_bytes
            else (str(done), str(total if total is not None else "?"), f"{rate:.1f}/s")
        )
        left = f", {(total - done) / rate:.0f} s left" if total and rate > 0 and not finished else ""
        typer.echo(f"{stage}: {amount} of {whole} ({speed}{left}) {detail}".rstrip(), err=True)


def as_dict(value: Any) -> Any:
    """Dataclasses to plain dictionaries, for JSON."""
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value

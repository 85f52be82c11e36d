"""One row for each figure: what was measured, what came out, and what it should be."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure. `figure` and `peer` are as printed, with their units; `holds` is None where nothing was asked."""

    what: str
    figure: str
    at_least: str = ""
    aim: str = ""
    peer: str = ""
    holds: bool | None = None
    note: str = ""


def skipped(what: str, why: str) -> Row:
    """A figure that could not be measured here, and why."""
    return Row(what=what, figure="not measured", note=why)


@dataclass(frozen=True)
class Options:
    """What every benchmark is told: where the data is (None: nowhere), and whether to be quick."""

    data: Path | None
    peers: Path | None
    quick: bool


def main(measure: Callable[[Options], Iterable[Row]], description: str | None) -> None:
    """Run one benchmark: rows as they come, as JSON lines with `--json`."""
    parser = argparse.ArgumentParser(description=description)
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    for row in measure(Options(data=given.data, peers=given.peers, quick=given.quick)):
        print(json.dumps(asdict(row), ensure_ascii=False) if given.json else as_text(row), flush=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="the folder with xquad/, instructions/ …")
    parser.add_argument(
        "--peers", type=Path, help="the Python of an environment with llama-cpp-python, or trl"
    )
    parser.add_argument("--quick", action="store_true", help="fewer questions and repeats")


def as_text(row: Row) -> str:
    verdict = {True: "holds", False: "FALLS SHORT", None: ""}[row.holds]
    parts = [
        row.what,
        row.figure,
        row.peer,
        f"at least {row.at_least}" if row.at_least else "",
        verdict,
        row.note,
    ]
    return " | ".join(part for part in parts if part)


def print_table(rows: list[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header in ("what", "figure", "peer", "at least", "aim", "", "note"):
        table.add_column(header, overflow="fold")
    for row in rows:
        verdict = {True: "holds", False: "[bold red]short", None: ""}[row.holds]
        table.add_row(row.what, row.figure, row.peer, row.at_least, row.aim, verdict, row.note)
    Console(width=None if sys.stdout.isatty() else 200).print(table)

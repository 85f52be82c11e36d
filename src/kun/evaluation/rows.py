"""The rows of a task's data: JSON Lines, CSV or TSV, each with the place that it came from."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kun.data.records import allow_long_cells
from kun.errors import BadInput, DamagedFile, NotFound, UnsupportedFormat

TABLES = {".csv": ",", ".tsv": "\t"}
"""The separator between the cells of a table, by the ending of its name."""


@dataclass(frozen=True)
class TaskRow:
    """The values of one row by column, and `where` it stands: "questions.jsonl:12"."""

    values: Mapping[str, object]
    where: str


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[TaskRow]:
    """All rows of a `.jsonl`, `.csv` or `.tsv` file, in order; `columns` are those of a table without a header.

    Cells of a TSV file are as they stand: quotes mean nothing there. Raises `NotFound`, `UnsupportedFormat`,
    `DamagedFile` that names the line, and `BadInput` for a file without rows.
    """
    text = read_text(path)
    if path.suffix == ".jsonl":
        rows = list(_json_lines(path.name, text))
    elif path.suffix in TABLES:
        rows = list(_table(path.name, text, TABLES[path.suffix], columns))
    else:
        raise UnsupportedFormat(f"{path} is no table of rows: a task's data is .jsonl, .csv or .tsv.")
    if not rows:
        raise BadInput(f"{path} has no rows, so there is nothing to measure.")
    return rows


def read_text(path: Path) -> str:
    """The text of a file. Raises `NotFound`, `BadInput`, and `DamagedFile` that names the line which is not UTF-8."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name a file in it.")
    if not path.is_file():
        raise NotFound(f"{path} does not exist (what a task names lies in the task's own folder).")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DamagedFile(f"{path.name}:{line} is not UTF-8: save the file in that encoding.") from error


def _json_lines(name: str, text: str) -> Iterator[TaskRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DamagedFile(f"{where} is no JSON ({error}): fix that line.") from error
        if not isinstance(values, dict):
            raise DamagedFile(f"{where} is {line.strip()[:40]!r}; each line must be one JSON object.")
        yield TaskRow(values, where)


def _table(name: str, text: str, delimiter: str, columns: Sequence[str] | None) -> Iterator[TaskRow]:
    allow_long_cells()
    lines = io.StringIO(text, newline="")
    if delimiter == ",":
        reader = csv.reader(lines, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    header = list(columns) if columns else None
    line = 1
    try:
        for cells in reader:
            where, line = f"{name}:{line}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                continue
            if len(cells) != len(header):
                raise DamagedFile(f"{where} has {len(cells)} cells; there are {len(header)} columns.")
            yield TaskRow(dict(zip(header, cells, strict=True)), where)
    except csv.Error as error:
        raise DamagedFile(f"{name}:{line} cannot be read ({error}): fix that line.") from error

"""Rows and records as text that can be searched: every row carries the names of its columns."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence

from kun.data.records import allow_long_cells
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.grid import Source, table_lines

_SNIFFED = 16_384
_MAX_DEPTH = 64


def from_separated(text: str, separator: str | None = None) -> Extracted:
    """CSV or TSV: one line a row, `name: value; name: value`."""
    allow_long_cells()
    if declared := re.match(r"sep=(.)\r?\n", text):  # Excel's own way to name it
        separator, text = declared[1], text[declared.end() :]
    rows = csv.reader(io.StringIO(text), delimiter=separator or _separator(text))
    try:
        lines = list(table_lines(rows, Source(level=2)))
    except csv.Error:  # no table after all: the text as it stands
        return Extracted(text, "rows")
    return Extracted("".join(lines), "rows")


def _separator(text: str) -> str:
    """The likeliest of the common ones, by how evenly it parts the first lines."""
    lines = [line for line in text[:_SNIFFED].splitlines() if line.strip()][:20]
    counts = {mark: [line.count(mark) for line in lines] for mark in ",;\t|"}
    return max(counts, key=lambda mark: (min(counts[mark], default=0), sum(counts[mark])))


def from_json(text: str) -> Extracted:
    """JSON: one line a record of a list, or a line for each value of an object; as it stands if it is none.

    A notebook gives its cells, code between fences.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Extracted(text, "code")
    if isinstance(value, dict) and isinstance(value.get("cells"), list) and "nbformat" in value:
        return Extracted(_notebook(value["cells"]), "markdown")
    if isinstance(value, list):
        return Extracted("".join(map(_record, value)), "rows")
    return Extracted("".join(f"{line}\n" for line in _flat(value)), "rows")


def from_json_lines(text: str) -> Extracted:
    """JSON Lines: one line a record; a line that is no JSON stays as it is."""
    return Extracted("".join(map(_json_line, text.split("\n"))), "rows")


def _json_line(line: str) -> str:
    if not line.strip():
        return ""
    try:
        return _record(json.loads(line))
    except (ValueError, RecursionError):
        return line + "\n"


def _record(value: object) -> str:
    return "; ".join(_flat(value)) + "\n"


def _flat(value: object, path: str = "", depth: int = 0) -> Iterator[str]:
    """`path.to.key: value` for every value inside."""
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list) and depth < _MAX_DEPTH and any(isinstance(v, dict | list) for v in value):
        for inner in value:
            yield from _flat(inner, path, depth + 1)
    else:
        shown = ", ".join(map(_value, value)) if isinstance(value, list) else _value(value)
        if shown:
            yield f"{path}: {shown}" if path else shown


def _value(value: object) -> str:
    """A string on one line, anything else as JSON."""
    if value is None:
        return ""
    return " ".join(value.split()) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _notebook(cells: Sequence[object]) -> str:
    parts = []
    for cell in cells:
        source = cell.get("source", "") if isinstance(cell, dict) else ""
        body = "".join(map(str, source)) if isinstance(source, list) else str(source)
        is_code = isinstance(cell, dict) and cell.get("cell_type") == "code"
        parts.append(f"```\n{body}\n```\n\n" if is_code else f"{body}\n\n")
    return "".join(parts)

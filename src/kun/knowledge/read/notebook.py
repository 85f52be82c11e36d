"""Notebooks (`.ipynb`): text, code, and what the code printed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kun.knowledge.read.encoding import decode
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.html import fragment_text
from kun.knowledge.read.records import from_json

_MOST_OUTPUT = 20_000  # characters of one output


def read_notebook(file: Path, name: str) -> Extracted:
    """The cells as Markdown, code and outputs between fences, tables among the outputs as rows; pictures dropped."""
    text = decode(file.read_bytes(), name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Extracted(text, "code")
    cells = _cells(value)
    if cells is None:
        return from_json(text)
    return Extracted("".join(part for cell in cells for part in _cell(cell, name)), "markdown")


def _cells(value: object) -> "list[Mapping[str, object]] | None":
    """The cells of version 4, or of the sheets before it; None for other JSON."""
    if not isinstance(value, dict) or "nbformat" not in value:
        return None
    cells = value.get("cells")
    if cells is None and isinstance(value.get("worksheets"), list):
        cells = [
            cell
            for sheet in value["worksheets"]
            if isinstance(sheet, dict)
            for cell in sheet.get("cells", [])
        ]
    if not isinstance(cells, list):
        return None
    return [cell for cell in cells if isinstance(cell, dict)]


def _cell(cell: Mapping[str, object], name: str) -> Iterator[str]:
    body = _joined(cell.get("source", cell.get("input", "")))
    if cell.get("cell_type") != "code":
        yield f"{body}\n\n"
        return
    if body.strip():
        yield _fenced(body)
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict):
            yield from _output(output, name)


def _output(output: Mapping[str, object], name: str) -> Iterator[str]:
    data = output.get("data", output)
    if not isinstance(data, dict):
        return
    page = _joined(data.get("text/html", data.get("html", "")))
    markdown = _joined(data.get("text/markdown", ""))
    shown = _joined(data.get("text/plain", data.get("text", "")))
    if "<table" in page:
        yield f"{fragment_text(page, name)}\n\n"
    elif markdown:
        yield f"{markdown}\n\n"
    elif output.get("output_type") in {"error", "pyerr"}:
        yield _fenced(f"{output.get('ename', '')}: {output.get('evalue', '')}")
    elif shown.strip():
        yield _fenced(shown[:_MOST_OUTPUT])


def _fenced(body: str) -> str:
    return f"```\n{body.strip(chr(10))}\n```\n\n"


def _joined(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "".join(map(str, value))
    return str(value or "")

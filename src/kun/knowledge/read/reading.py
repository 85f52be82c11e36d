"""Files to text: whatever a file is, by its content and not only by its name.

Text, tables and source code are read here. PDF, Office and HTML go to a process of their own (`worker.py`)
with limits on time and memory, so that a hostile file can neither hang nor kill the program. Nothing that a
file names is ever fetched.
"""

from pathlib import Path

from kun.errors import BadInput, TooLarge
from kun.knowledge.folder import printable
from kun.knowledge.read.archive import check_archive
from kun.knowledge.read.encoding import decode
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.kinds import CODE, sniff
from kun.knowledge.read.process import convert
from kun.knowledge.read.records import from_json, from_json_lines, from_separated
from kun.settings import settings

_TEXT_SHARE = 8  # a file may hold this much less text than bytes
_SEPARATORS = {".csv": None, ".tsv": "\t", ".tab": "\t"}


def read(file: Path) -> Extracted:
    """The text of a file, with its kind and the places where its pages begin.

    Raises `BadInput` for an empty file, `TooLarge`, `UnsupportedFormat` for what is no text (pictures, programs,
    scanned pages, encrypted files), `DamagedFile` for what is truncated or takes too long to read.
    """
    name, size = printable(file.name), file.stat().st_size
    if size == 0:
        raise BadInput(f"{name} is empty.")
    _check_size(name, size, settings().max_file_bytes)
    with file.open("rb") as content:
        head = content.read(65_536)
    format = sniff(file, head)
    if format in {"docx", "pptx", "xlsx"}:
        check_archive(file, settings().max_file_bytes)
    if format in {"pdf", "docx", "pptx", "xlsx", "html"}:
        if format == "html":
            _check_size(name, size, max_text())
        extracted = convert(file, format)
    else:
        _check_size(name, size, max_text())
        extracted = _read_text(file, name)
    return _checked(name, extracted)


def max_text() -> int:
    """The most text one file may hold, in bytes: some hundred books at the default."""
    return settings().max_file_bytes // _TEXT_SHARE


def _read_text(file: Path, name: str) -> Extracted:
    text, suffix = decode(file.read_bytes(), name), file.suffix.lower()
    if suffix in _SEPARATORS:
        return from_separated(text, _SEPARATORS[suffix])
    if suffix in {".json", ".geojson", ".ipynb"}:
        return from_json(text)
    if suffix in {".jsonl", ".ndjson"}:
        return from_json_lines(text)
    if suffix in {".md", ".markdown", ".mdx", ".rmd", ".qmd"}:
        return Extracted(text, "markdown")
    return Extracted(text, "code" if suffix in CODE else "text")


def _checked(name: str, extracted: Extracted) -> Extracted:
    _check_size(name, len(extracted.text), max_text())
    if not extracted.text.strip():
        raise BadInput(f"{name} holds no text.")
    return extracted


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise TooLarge(
            f"{name} holds {size / 1e6:,.0f} MB, more than the {most / 1e6:,.0f} MB that are read:"
            " split it, or raise KUN_MAX_FILE_BYTES."
        )

"""Text, tables and source code as files: decoded, and read as their names say."""

import re
from dataclasses import replace
from pathlib import Path

from kun.errors import HoldsNoText, TooLarge
from kun.knowledge.read.encoding import decode
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.junk import without_junk
from kun.knowledge.read.kinds import CODE
from kun.knowledge.read.records import from_json, from_json_lines, from_separated
from kun.settings import settings

_TEXT_SHARE = 8  # a file may hold this much less text than bytes
_SEPARATORS = {".csv": None, ".tsv": "\t", ".tab": "\t"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def max_text() -> int:
    """The most text one file may hold, in bytes: some hundred books at the default."""
    return settings().max_file_bytes // _TEXT_SHARE


def read_text(file: Path, name: str) -> Extracted:
    """A file of text, a table or source code. Raises `UnsupportedFormat` when the bytes are no text."""
    check_size(name, file.stat().st_size, max_text())
    text, suffix = decode(file.read_bytes(), name), file.suffix.lower()
    if suffix in _SEPARATORS:
        return from_separated(text, _SEPARATORS[suffix])
    if suffix in {".json", ".geojson"}:
        return from_json(text)
    if suffix in {".jsonl", ".ndjson"}:
        return from_json_lines(text)
    if suffix in {".md", ".markdown", ".mdx", ".rmd", ".qmd"}:
        return Extracted(text, "markdown")
    return Extracted(text, "code" if suffix in CODE else "text")


def checked(name: str, extracted: Extracted) -> Extracted:
    """The same, fit to be stored: no encoded data, lone surrogates as U+FFFD. Raises `HoldsNoText`, `TooLarge`."""
    check_size(name, len(extracted.text), max_text())
    if not extracted.text.strip():
        raise HoldsNoText(f"{name} holds no text.")
    return without_junk(replace(extracted, text=_SURROGATE.sub("\ufffd", extracted.text)), name)


def check_size(name: str, size: int, most: int) -> None:
    """Raises `TooLarge` above `most` bytes."""
    if size > most:
        raise TooLarge(
            f"{name} holds {size / 1e6:,.0f} MB, more than the {most / 1e6:,.0f} MB that are read:"
            " split it, or raise KUN_MAX_FILE_BYTES."
        )

"""Records out of one file, one after the other: never more of the file in memory than the record needs.

A record is a text (of a text file), an object (of JSON, Parquet, or a table with a row of names) or a list of cells (of
a table without). `where` is the file's name and the line or, in Parquet, the row.
"""

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from kun.data.rows import BadRows
from kun.errors import BadRow, DamagedFile, UnsupportedFormat

TABLES = {".csv": ",", ".tsv": "\t"}
#: a text file is one document; a longer one becomes several, cut where a paragraph ends
LONGEST_DOCUMENT = 2**15
_CHUNK = 2**20
_LONGEST_LINE = 2**28
_LONGEST_CELL = 2**24
_KNOWN_NAMES = frozenset(
    """
    text content sentence sentence1 sentence2 sentence_a sentence_b premise hypothesis review comment document article
    summary highlights label labels class category sentiment score rating source target src tgt input output
    instruction response question answer prompt completion query title body en zh de fr ja chosen rejected
    messages conversations system id idx index
    """.split()
)


class Record(NamedTuple):
    """What stands at one place of a file."""

    where: str
    value: str | dict[str, object] | list[str]


def read_records(path: Path, bad: BadRows) -> Iterator[Record]:
    """The records of a file, by the end of its name (`.gz` may follow); a file of any other kind is text.

    Raises `BadRow` (or counts it in `bad`) for a record that cannot be read, `UnsupportedFormat` for text that is not
    UTF-8, `DamagedFile`.
    """
    reader = _READERS.get(kind_of(path), _text)
    try:
        yield from reader(path, bad)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedFile(f"{path} is damaged ({error}): compress or copy it again.") from error


def kind_of(path: Path) -> str:
    """The end of a file's name that says how it is read: ".jsonl" for `rows.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path)  # type: ignore[return-value]  # it reads bytes like any file
    return path.open("rb")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, its end included; a very long line of text comes in parts.

    Raises `UnsupportedFormat`, which names the byte that is no UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    number, read = 1, 0
    with _open(path) as file:
        while raw := file.readline(_CHUNK):
            if read == 0:
                _check_mark(path, raw)
                raw_text = raw.removeprefix(codecs.BOM_UTF8)
            else:
                raw_text = raw
            read += len(raw)
            try:
                line = decoder.decode(raw_text)
            except UnicodeDecodeError as error:
                at = read - len(error.object) + error.start
                raise _no_utf8(path, at, number, error.object[error.start :]) from error
            if "\0" in line:
                at = read - len(raw) + raw.index(b"\0")
                raise UnsupportedFormat(
                    f"{path} is no text: byte {at:,} (line {number}) is zero. Remove it, or if the file is in UTF-16:"
                    f" {_mend(path, 'UTF-16')}"
                )
            yield number, line
            number += raw.endswith(b"\n")
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise _no_utf8(path, read - len(error.object), number, error.object) from error


def _check_mark(path: Path, start: bytes) -> None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnsupportedFormat(f"{path} is in UTF-16, not in UTF-8. {_mend(path, 'UTF-16')}")


def _no_utf8(path: Path, at: int, line: int, rest: bytes) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{path} is not in UTF-8: byte {at:,} (line {line}) is 0x{rest[0]:02X}. {_mend(path, _guess(rest))}"
    )


def _mend(path: Path, encoding: str) -> str:
    return f"Convert it, perhaps with: iconv -f {encoding} -t UTF-8 {path.name}"


def _guess(rest: bytes) -> str:
    """GB18030 where the bytes read as Chinese, else Western Europe's."""
    try:
        text = rest[: len(rest) // 2 * 2].decode("gb18030", "strict")
    except UnicodeDecodeError:
        return "WINDOWS-1252"
    return "GB18030" if any("\u4e00" <= letter <= "\u9fff" for letter in text[:100]) else "WINDOWS-1252"


def _text(path: Path, bad: BadRows) -> Iterator[Record]:
    """The file as one document, or as several where it is longer than `LONGEST_DOCUMENT` characters."""
    parts: list[str] = []
    size, start = 0, 1
    for number, line in _lines(path):
        if size and size + len(line) > 2 * LONGEST_DOCUMENT:
            yield Record(f"{path}:{start}", "".join(parts))
            parts, size, start = [], 0, number
        parts.append(_unix(line))
        size += len(line)
        if size >= LONGEST_DOCUMENT and not line.strip():
            yield Record(f"{path}:{start}", "".join(parts))
            parts, size, start = [], 0, number + 1
    if any(part.strip() for part in parts):
        yield Record(f"{path}:{start}", "".join(parts))


def _unix(line: str) -> str:
    return line[:-2] + "\n" if line.endswith("\r\n") else line


def _json_lines(path: Path, bad: BadRows) -> Iterator[Record]:
    for number, line in _whole_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            bad.meet(
                BadRow(f"{path}:{number} is no JSON ({why}): mend or remove the line, or skip bad rows.")
            )
            continue
        if isinstance(value, dict | str):
            yield Record(f"{path}:{number}", value)
        else:
            bad.meet(BadRow(f"{path}:{number} holds {_kind(value)}, but a row is an object: mend the line."))


def _whole_lines(path: Path) -> Iterator[tuple[int, str]]:
    parts: list[str] = []
    size = 0
    for number, part in _lines(path):
        parts.append(part)
        size += len(part)
        if part.endswith("\n"):
            yield number, "".join(parts)
            parts, size = [], 0
        elif size > _LONGEST_LINE:
            raise DamagedFile(
                f"{path}:{number} is longer than {_LONGEST_LINE:,} characters: is it JSON Lines, one object a line?"
            )
    if parts:
        yield number, "".join(parts)


def _json(path: Path, bad: BadRows) -> Iterator[Record]:
    """A list of objects, each parsed by itself, or objects one after the other."""
    line = 0
    for place, (number, value) in enumerate(_JsonList(path).values(), 1):
        # an export is one long line: the line alone would find nothing
        where = f"{path}:{number}" if number != line else f"{path}:{number} (value {place})"
        line = number
        if isinstance(value, dict | str):
            yield Record(where, value)
        else:
            bad.meet(BadRow(f"{where} holds {_kind(value)}, but a row is an object: mend the file."))


class _JsonList:
    """The values of a JSON list (or of several values one after the other), with the line where each begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = (line for _, line in _lines(path))
        self._text = ""
        self._at = 0
        self._line = 1
        self._decoder = json.JSONDecoder()

    def values(self) -> Iterator[tuple[int, object]]:
        is_list = self._skip() == "["
        if is_list:
            self._at += 1
        while mark := self._skip():
            if is_list and mark in ",]":
                self._at += 1
                if mark == "]":
                    if rest := self._skip():
                        raise self._broken(f"{rest!r} follows the end of the list")
                    return
                continue
            yield self._line, self._value()
        if is_list:
            raise self._broken("the list does not end")

    def _skip(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                letter = self._text[self._at]
                if letter not in " \t\r\n":
                    return letter
                self._line += letter == "\n"
                self._at += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read at least as much again as waits to be parsed, so that a long value is not tried line by line."""
        waiting = self._text[self._at :]
        parts, size = [waiting], 0
        while size <= len(waiting):
            part = next(self._parts, "")
            if not part:
                break
            parts.append(part)
            size += len(part)
        self._text, self._at = "".join(parts), 0
        if len(self._text) > _LONGEST_LINE:
            raise self._broken(f"a value is longer than {_LONGEST_LINE:,} characters")
        return size > 0

    def _value(self) -> object:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                self._line += self._text.count("\n", self._at, error.pos)
                raise self._broken(error.msg) from error
            except RecursionError as error:
                raise self._broken("a value is nested too deeply") from error
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _broken(self, why: str) -> DamagedFile:
        return DamagedFile(f"{self._path}:{self._line} is no JSON ({why}): mend the file.")


def _kind(value: object) -> str:
    return {list: "a list", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def allow_long_cells() -> None:
    """Let tables have cells of up to 16 MB: the limit is the process's, so that all readers set the same one."""
    csv.field_size_limit(_LONGEST_CELL)


def _table(path: Path, bad: BadRows) -> Iterator[Record]:
    """CSV as RFC 4180 has it; TSV without quoting, as GLUE's and Tatoeba's files are."""
    allow_long_cells()
    tabs = kind_of(path) == ".tsv"
    lines = (line for _, line in _whole_lines(path))
    rows = csv.reader(
        lines,
        delimiter=TABLES[kind_of(path)],
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    names: list[str] | None = None
    first = True
    while True:
        number = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            bad.meet(BadRow(f"{path}:{number} is no row of a table ({error}): mend it, or skip bad rows."))
            continue
        if cells is None:
            return
        if not cells:
            continue
        if first and _are_names(cells):
            names = [cell.strip() for cell in cells]
        elif names is None:
            yield Record(f"{path}:{number}", cells)
        elif len(cells) == len(names):
            yield Record(f"{path}:{number}", dict(zip(names, cells, strict=True)))
        else:
            bad.meet(
                BadRow(
                    f"{path}:{number} has {len(cells)} cells where the first line names {len(names)} columns:"
                    " mend the row, or skip bad rows."
                )
            )
        first = False


def _are_names(cells: list[str]) -> bool:
    """Whether a first row names its columns: it holds a usual name, and no cell twice."""
    names = [cell.strip().lower() for cell in cells]
    return len(set(names)) == len(names) and any(name in _KNOWN_NAMES for name in names)


def _parquet(path: Path, bad: BadRows) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(f"{path}:{number}", row)
    except (pa.ArrowException, OSError) as error:
        why = str(error).splitlines()[0]
        raise DamagedFile(f"{path} is no readable Parquet file ({why}): copy it again.") from error


_READERS: dict[str, Callable[[Path, BadRows], Iterator[Record]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
    **dict.fromkeys(TABLES, _table),
}

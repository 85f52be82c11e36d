"""Excel's sheets as records, each sheet under its name. Runs in the worker's process only.

A sheet is read row by row, whatever size its file declares. Merged cells are filled. Hidden rows, columns and sheets
are data: they are kept, with a note that they are hidden. Comments stand at the end of their row.
"""

import posixpath
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from kun.knowledge.read.cells import cell_text
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.formulas import Formulas
from kun.knowledge.read.grid import table_lines

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

_CHUNK = 2**20
_OVERLAP = 4096
_MERGE = re.compile(rb'<(?:\w+:)?mergeCell\b[^>]*\bref="([A-Z]+)(\d+):([A-Z]+)(\d+)"')
_HIDDEN_ROW = re.compile(rb'<(?:\w+:)?row\b(?=[^>]*\bhidden="(?:1|true)")[^>]*\br="(\d+)"')
_HIDDEN_COLUMN = re.compile(
    rb'<(?:\w+:)?col\b(?=[^>]*\bhidden="(?:1|true)")(?=[^>]*\bmin="(\d+)")(?=[^>]*\bmax="(\d+)")'
)
_NO_VALUE = re.compile(
    rb"(?:</(?:\w+:)?f>|<(?:\w+:)?f\b[^>]*/>)\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</"
)
_WIDEST_MERGE = 256  # columns over which a merged cell is repeated
_HIDDEN_SHEET = {False: " (hidden sheet)", True: "（隐藏的工作表）"}
_HIDDEN_ROWS = {
    False: "Hidden rows of this sheet, read as the others: {}.",
    True: "本表隐藏的行（照样读入）：{}。",
}
_HIDDEN_COLUMNS = {
    False: "Hidden columns of this sheet, read as the others: {}.",
    True: "本表隐藏的列（照样读入）：{}。",
}
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass
class _Part:
    """The things in a sheet's file that openpyxl, reading row by row, does not give."""

    merges: dict[int, list[tuple[int, int, int]]] = field(
        default_factory=dict
    )  # first row → last row, columns
    hidden_rows: list[int] = field(default_factory=list)
    hidden_columns: list[tuple[int, int]] = field(default_factory=list)
    misses_values: bool = False
    comments: dict[tuple[int, int], str] = field(default_factory=dict)  # by row and column


def read_sheets(file: Path, name: str) -> Extracted:
    """The sheets, each under its name as a heading, a line a row: `column: value; column: value`."""
    from openpyxl import load_workbook

    lines: list[str] = []
    book = load_workbook(file, read_only=True, data_only=True)
    formulas = Formulas(file)
    try:
        with zipfile.ZipFile(file) as archive:
            for sheet in book.worksheets:
                part = _scan(archive, str(getattr(sheet, "_worksheet_path", "")))
                lines += _sheet_lines(sheet, part, formulas)
    finally:
        book.close()
        formulas.close()
    return Extracted("".join(lines), "rows")


def _sheet_lines(sheet: "Worksheet", part: _Part, formulas: Formulas) -> Iterator[str]:
    sheet.reset_dimensions()  # some programs write a wrong one, and most of the rows would be lost
    remarks: list[str] = []
    body = table_lines(_rows(sheet, part, formulas, remarks))
    first = next(body, None)
    if first is None:
        return
    is_chinese = bool(_CHINESE.search(sheet.title + first))
    hidden = sheet.sheet_state != "visible"
    yield f"## {sheet.title}{_HIDDEN_SHEET[is_chinese] if hidden else ''}\n"
    yield first
    yield from body
    if remarks or part.hidden_rows or part.hidden_columns:
        yield "\n"
    yield from remarks
    if part.hidden_rows:
        yield _HIDDEN_ROWS[is_chinese].format(_ranges(part.hidden_rows)) + "\n"
    if part.hidden_columns:
        yield _HIDDEN_COLUMNS[is_chinese].format(_columns(part.hidden_columns)) + "\n"
    yield "\n"


def _rows(sheet: "Worksheet", part: _Part, formulas: Formulas, remarks: list[str]) -> Iterator[Sequence[str]]:
    """The rows as text, merged cells filled, formulas without a stored value computed or shown."""
    merges: list[
        tuple[int, int, int, str]
    ] = []  # those that reach down to this row: last row, columns, value
    for number, row in enumerate(sheet.iter_rows(), 1):
        cells = [cell_text(cell.value, getattr(cell, "number_format", "General")) for cell in row]
        if part.misses_values:
            for place, cell in enumerate(cells):
                cells[place] = cell or formulas.text(sheet.title, number, place + 1)
        merges = [merge for merge in merges if merge[0] >= number]
        for last, left, right in part.merges.get(number, ()):
            if left <= len(cells) and cells[left - 1]:
                merges.append((last, left, min(right, left + _WIDEST_MERGE), cells[left - 1]))
        if any(cells):
            _fill(cells, merges)
        for place, cell in enumerate(cells, 1):
            comment = part.comments.get((number, place)) if part.comments else None
            if comment:
                remarks.append(
                    f"Comment: {comment} ({_letters(place)}{number}{': ' + cell if cell else ''})\n"
                )
        yield cells


def _fill(cells: list[str], merges: Sequence[tuple[int, int, int, str]]) -> None:
    for _, left, right, value in merges:
        cells.extend([""] * (right - len(cells)))
        for place in range(left - 1, right):
            cells[place] = cells[place] or value


def _scan(archive: zipfile.ZipFile, path: str) -> _Part:
    """Merged and hidden cells, comments, and whether a formula has no stored value."""
    part = _Part()
    path = path.lstrip("/")
    if path not in archive.namelist():
        return part
    with archive.open(path) as content:
        before = b""
        while chunk := content.read(_CHUNK):
            text = before + chunk
            ends = len(text) - text.rfind(b"<") if len(chunk) == _CHUNK else 0
            whole = text[: len(text) - min(ends, _OVERLAP)]
            for left, top, right, bottom in _MERGE.findall(whole):
                merge = (int(bottom), _number(left), _number(right))
                part.merges.setdefault(int(top), []).append(merge)
            part.hidden_rows += map(int, _HIDDEN_ROW.findall(whole))
            part.hidden_columns += [(int(low), int(high)) for low, high in _HIDDEN_COLUMN.findall(whole)]
            part.misses_values = part.misses_values or _NO_VALUE.search(text) is not None
            before = text[len(whole) :]
    part.comments = _comments(archive, path)
    return part


def _comments(archive: zipfile.ZipFile, path: str) -> dict[tuple[int, int], str]:
    """The comments of a sheet by their cells' rows and columns."""
    folder, _, name = path.rpartition("/")
    relations = f"{folder}/_rels/{name}.rels"
    found: dict[tuple[int, int], str] = {}
    if relations not in archive.namelist():
        return found
    for relation in ElementTree.fromstring(archive.read(relations)):
        target = posixpath.normpath(posixpath.join("/" + folder, relation.get("Target", ""))).lstrip("/")
        is_comments = relation.get("Type", "").endswith("/comments")
        if not is_comments or target not in archive.namelist():
            continue
        for element in ElementTree.fromstring(archive.read(target)).iter():
            match = re.fullmatch(r"([A-Z]+)(\d+)", element.get("ref", ""))
            if element.tag.endswith("}comment") and match:
                words = "".join(
                    text for part in element.iter() if part.tag.endswith("}t") for text in part.itertext()
                )
                found[int(match[2]), _number(match[1].encode())] = " ".join(words.split())
    return found


def _number(letters: bytes) -> int:
    """The number of a column, from 1."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - 64
    return number


def _letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _ranges(numbers: Sequence[int]) -> str:
    """`3, 5–9`: at most ten of them."""
    shown: list[list[int]] = []
    for number in numbers:
        if shown and number == shown[-1][1] + 1:
            shown[-1][1] = number
        else:
            shown.append([number, number])
    return ", ".join(f"{a}–{b}" if a < b else str(a) for a, b in shown[:10]) + (
        " …" if len(shown) > 10 else ""
    )


def _columns(ranges: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{_letters(a)}–{_letters(b)}" if a < b else _letters(a) for a, b in ranges[:10])

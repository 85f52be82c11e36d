"""OpenDocument (`.odt`, `.ods`, `.odp`): text with headings, lists, tables and notes; sheets; slides."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kun.errors import DamagedFile, UnsupportedFormat
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.grids import Cell, grid_lines
from kun.knowledge.read.whole import whole

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_PRESENTATION = "{urn:oasis:names:tc:opendocument:xmlns:presentation:1.0}"
_UNSEEN = frozenset(
    {
        f"{_TEXT}tracked-changes",
        f"{_TEXT}table-of-content-source",
        f"{_TEXT}hidden-text",
        f"{_TEXT}hidden-paragraph",
        f"{_TEXT}sequence-decls",
        f"{_OFFICE}forms",
        f"{_OFFICE}annotation",
        f"{_TABLE}calculation-settings",
    }
)
_BODIES = ("text", "spreadsheet", "presentation", "drawing")
_MOST_SPACES = 100
_MOST_ROWS = 1_000_000


def read_opendocument(file: Path, name: str) -> Extracted:
    """The document's text; sheets as rows that carry their columns' names, slides as pages.

    Raises `UnsupportedFormat` for an encrypted one and for other archives, `DamagedFile`.
    """
    from lxml import etree

    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        if "META-INF/manifest.xml" in names and b"encryption-data" in archive.read("META-INF/manifest.xml"):
            raise UnsupportedFormat(f"{name} is encrypted: save it without a password.")
        content = archive.read("content.xml")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise DamagedFile(f"{name} is damaged: save or download it again.") from error
    for kind in _BODIES:
        body = root.find(f"{_OFFICE}body/{_OFFICE}{kind}")
        if body is None:
            continue
        if kind == "spreadsheet":
            return Extracted("".join(_sheets(body)), "rows")
        if kind == "text":
            return Extracted("\n\n".join(_blocks(body)) + "\n", "markdown")
        return _slides(body)
    raise UnsupportedFormat(f"{name} is an archive, but no document that Kun reads: unpack it first.")


def _slides(body: "Element") -> Extracted:
    text, pages = "", []
    for page in body.iterfind(f"{_DRAW}page"):
        pages.append(len(text))
        text += "\n\n".join(_blocks(page)) + "\n\n"
    return Extracted(text, "markdown", pages)


def _sheets(body: "Element") -> Iterator[str]:
    for table in body.iterfind(f"{_TABLE}table"):
        lines = list(_table_lines(table))
        if lines:
            yield f"## {table.get(f'{_TABLE}name') or ''}\n"
            yield from (f"{line}\n" for line in lines)
            yield "\n"


def _blocks(element: "Element", indent: str = "") -> Iterator[str]:
    """Paragraphs, headings, lists and tables below an element, in order."""
    for child in element:
        if not isinstance(child.tag, str) or child.tag in _UNSEEN:
            continue
        if child.tag == f"{_TEXT}h":
            words = _inline(child).strip()
            level = child.get(f"{_TEXT}outline-level") or "1"
            if words:
                yield f"{'#' * max(1, min(6, whole(level, 1)))} {' '.join(words.split())}"
        elif child.tag == f"{_TEXT}p":
            words = _inline(child).strip()
            if words:
                yield words
            yield from (block for frame in child.iter(f"{_DRAW}text-box") for block in _blocks(frame))
        elif child.tag == f"{_TEXT}list":
            lines = list(_items(child, indent))
            if lines:
                yield "\n".join(lines)
        elif child.tag == f"{_TABLE}table":
            lines = list(_table_lines(child))
            if lines:
                yield "\n".join(lines)
        elif child.tag == f"{_PRESENTATION}notes":
            notes = list(_blocks(child))
            if notes:
                yield "Notes: " + "\n\n".join(notes)
        else:
            yield from _blocks(child, indent)


def _items(element: "Element", indent: str) -> Iterator[str]:
    for item in element:
        if item.tag not in {f"{_TEXT}list-item", f"{_TEXT}list-header"}:
            continue
        first = True
        for child in item:
            if child.tag == f"{_TEXT}list":
                yield from _items(child, indent + "  ")
            elif child.tag in {f"{_TEXT}p", f"{_TEXT}h"} and (words := " ".join(_inline(child).split())):
                yield f"{indent}{'- ' if first else '  '}{words}"
                first = False


def _table_lines(table: "Element") -> Iterator[str]:
    rows: list[list[Cell]] = []
    heads = 0
    for row in table.iter(f"{_TABLE}table-row"):
        if next(row.iterancestors(f"{_TABLE}table"), None) is not table:
            continue
        if row.get(f"{_TABLE}visibility") in {"collapse", "filter"}:
            continue
        cells = list(_cells(row))
        if not any(cell.text for cell in cells):
            continue
        parent = row.getparent()
        heads += parent is not None and parent.tag == f"{_TABLE}table-header-rows"
        rows.append(cells)
        if len(rows) >= _MOST_ROWS:
            break
    yield from grid_lines(rows, heads)


def _cells(row: "Element") -> Iterator[Cell]:
    """The cells of a row; what merging covers is left to the cell that covers it, and empty ends are cut off."""
    cells: list[Cell] = []
    for cell in row:
        if cell.tag != f"{_TABLE}table-cell":
            continue
        words = " ".join(" ".join(_inline(part) for part in cell.iter(f"{_TEXT}p", f"{_TEXT}h")).split())
        words = words or cell.get(f"{_OFFICE}date-value") or cell.get(f"{_OFFICE}value") or ""
        across = _count(cell.get(f"{_TABLE}number-columns-spanned"))
        down = _count(cell.get(f"{_TABLE}number-rows-spanned"))
        times = _count(cell.get(f"{_TABLE}number-columns-repeated"))
        cells += [Cell(words, across=across, down=down)] * (times if words else min(times, 1_000))
    while cells and not cells[-1].text:
        cells.pop()
    return iter(cells)


def _count(value: str | None) -> int:
    return max(1, min(whole(value, 1), 10_000))


def _inline(element: "Element") -> str:
    """The text of a paragraph, with its spaces, tabs and line breaks, footnotes in brackets behind their mark."""
    parts = [element.text or ""]
    for child in element:
        tag = child.tag
        if not isinstance(tag, str) or tag in _UNSEEN or tag == f"{_DRAW}frame":
            pass
        elif tag == f"{_TEXT}s":
            parts.append(" " * min(_MOST_SPACES, _count(child.get(f"{_TEXT}c"))))
        elif tag == f"{_TEXT}tab":
            parts.append("\t")
        elif tag == f"{_TEXT}line-break":
            parts.append("\n")
        elif tag == f"{_TEXT}note":
            body = child.find(f"{_TEXT}note-body")
            words = " ".join(_blocks(body)) if body is not None else ""
            parts.append(f" ({words})" if words else "")
        else:
            parts.append(_inline(child))
        parts.append(child.tail or "")
    return "".join(parts)

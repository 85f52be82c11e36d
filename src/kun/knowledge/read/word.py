"""Word files as Markdown, with what a person sees on their pages. Runs in the worker's process only.

Headings, numbered and plain lists, tables as records, text boxes, footnotes after their paragraph, comments, page
headers and footers, and documents embedded whole (altChunk). Deleted and hidden text is left out: struck changes, white
letters on white, hidden runs, the table of contents.
"""

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from kun.knowledge.read.encoding import decode
from kun.knowledge.read.extracted import Extracted, unmarked
from kun.knowledge.read.grid import Source, table_lines
from kun.knowledge.read.html import fragment_text
from kun.knowledge.read.whole import whole
from kun.knowledge.read.word_parts import (
    MOST_LEVELS,
    Numbering,
    Styles,
    child,
    is_on,
    local,
    parsed,
    relations,
    value,
)

_BODY = "word/document.xml"
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_SKIPPED = frozenset(["del", "moveFrom", "rPr", "pPr", "instrText", "delText", "rt", "Fallback", "sdtPr"])
_PAGE_NUMBER = re.compile(r"(?:page|seite|第|共|of|页|[\W\d_])*", re.IGNORECASE)
_MAX_TITLE = 80  # characters of a bold line that is taken for a heading
_BIG, _BIGGER = 28, 36  # half points
_TINY = 4  # half points below which nobody reads
_MOST_SPANNED = 500
_DEEPEST = 40  # tables in tables, documents in documents
_SYMBOLS = {"FC": "✓", "FB": "✗", "FE": "☒", "52": "☑", "A8": "☐", "6F": "☐", "B7": "•"}  # of Wingdings
_LABELS = {
    False: {"header": "Page header", "footer": "Page footer", "footnote": "Footnote", "comment": "Comment"},
    True: {"header": "页眉", "footer": "页脚", "footnote": "脚注", "comment": "批注"},
}


def read_word(file: Path, name: str) -> Extracted:
    """The text of a Word file as Markdown."""
    with zipfile.ZipFile(file) as archive:
        return Extracted(_Document(archive).text(), "markdown")


class _Document:
    def __init__(self, archive: zipfile.ZipFile, depth: int = 0) -> None:
        self._archive, self._depth = archive, depth
        self._relations = relations(archive, _BODY)
        self._styles = Styles(parsed(archive, self._part("styles") or ""))
        self._numbering = Numbering(parsed(archive, self._part("numbering") or ""))
        self._notes = {kind: self._read_notes(kind) for kind in ("footnote", "endnote", "comment")}
        self._used: set[tuple[str, str | None]] = set()
        self._labels = _LABELS[False]
        self._below_title = 0  # 1 once the document's title has come: all other headings are below it

    def _part(self, kind: str) -> str | None:
        return next((path for found, path in self._relations.values() if found == kind), None)

    def _read_notes(self, kind: str) -> dict[str | None, Element]:
        root = parsed(self._archive, self._part(f"{kind}s") or f"word/{kind}s.xml")
        found = [one for one in root if local(one) == kind] if root is not None else []
        return {value(one, "id"): one for one in found if value(one, "type") in (None, "normal")}

    def text(self) -> str:
        root = parsed(self._archive, _BODY)
        if root is None:
            self._archive.read(_BODY)
            raise ValueError("its main part is no XML")
        body = child(root, "body")
        words = "".join(part.text or "" for part in root.iter() if local(part) == "t")
        self._labels = _LABELS[bool(_CHINESE.search(words[:2000]))]
        around = [*self._around("header"), *self._around("footer")]
        blocks = list(self._blocks(body)) if body is not None else []
        left = [line for kind in self._notes for line in self._left(kind)]
        return _joined([*around, *blocks, *left]).strip("\n")

    def _around(self, kind: str) -> Iterator[str]:
        """The page headers or footers, each once, without those that only count pages."""
        seen: set[str] = set()
        for found, path in self._relations.values():
            root = parsed(self._archive, path) if found == kind else None
            shown = " ".join(_joined(self._blocks(root)).split()) if root is not None else ""
            if shown and shown not in seen and not _PAGE_NUMBER.fullmatch(shown):
                seen.add(shown)
                yield f"{self._labels[kind]}: {shown}"

    def _left(self, kind: str) -> Iterator[str]:
        """Notes to which nothing in the body refers."""
        for identity in self._notes[kind]:
            if (kind, identity) not in self._used:
                yield from self._note(kind, identity)

    def _note(self, kind: str, identity: str | None) -> Iterator[str]:
        element = self._notes[kind].get(identity)
        if element is None or (kind, identity) in self._used:
            return
        self._used.add((kind, identity))
        shown = " ".join(_joined(self._blocks(element)).split())
        if shown:
            label = self._labels["comment" if kind == "comment" else "footnote"]
            number = f" {identity}" if kind != "comment" and identity else ""
            yield f"{label}{number}: {shown}"

    def _blocks(self, parent: Element, shaded: bool = False, depth: int = 0) -> Iterator[str]:
        """Paragraphs and tables in order, those of text boxes after the paragraph that holds them."""
        if depth > _DEEPEST:
            return
        for element in parent:
            name = local(element)
            if name == "p":
                yield from self._paragraph(element, shaded, depth)
            elif name == "tbl":
                yield from self._table(element, depth)
            elif name == "altChunk":
                yield from self._embedded(element)
            elif name == "sdt" and _is_contents(element):
                continue
            elif name not in _SKIPPED:
                yield from self._blocks(element, shaded, depth + 1)

    def _paragraph(self, element: Element, shaded: bool, depth: int) -> Iterator[str]:
        properties = child(element, "pPr")
        style = self._styles.of(value(child(properties, "pStyle")))
        numbered = child(properties, "numPr")
        identity = value(child(numbered, "numId")) or style.list_id
        level = min(whole(value(child(numbered, "ilvl")), style.list_level), MOST_LEVELS - 1)
        shaded = shaded or _is_shaded(child(properties, "shd"))
        inside = _Inside(self._styles, shaded)
        text = inside.text(element).strip()
        label = self._numbering.label(identity, level) if identity else None
        if text and not style.is_contents:
            outline = whole(value(child(properties, "outlineLvl")), MOST_LEVELS)
            heading = outline + 1 if outline < MOST_LEVELS else style.level
            heading = heading + self._below_title if heading and not style.is_title else heading
            heading = heading or (0 if label or depth else inside.title_level(text))
            self._below_title = self._below_title or int(style.is_title)
            yield _marked(text, label, heading, level)
        for box in inside.boxes:
            yield from self._blocks(box, depth=depth + 1)
        for kind, identity in inside.references:
            yield from self._note(kind, identity)

    def _table(self, table: Element, depth: int) -> Iterator[str]:
        rows = [row for row in _inner(table, "tr") if not is_on(child(row, "trPr", "del"))]
        styled = (value(child(table, "tblPr", "tblStyle")) or "TableGrid") not in (
            "TableGrid",
            "TableNormal",
            "a3",
        )
        cells = [_inner(row, "tc") for row in rows]
        if len(rows) == 1 or all(len(row) == 1 for row in cells):  # a frame around text
            for row in cells:
                for cell in row:
                    yield from self._blocks(cell, styled or _is_shaded(child(cell, "tcPr", "shd")), depth + 1)
            return
        grid = self._grid(rows, styled, depth)
        heads = 0
        while heads < len(rows) and is_on(child(rows[heads], "trPr", "tblHeader")):
            heads += 1
        if not heads and _is_bold(rows[0]) and not all(map(_is_bold, rows)):
            heads = 1
        known = heads if 0 < heads < len(rows) else None
        lines = "".join(table_lines(grid, Source(heads=known, assumes_names=False)))
        if lines.strip():
            yield lines.strip("\n")

    def _grid(self, rows: list[Element], styled: bool, depth: int) -> list[list[str]]:
        """The text of each cell, merged ones repeated."""
        grid: list[list[str]] = []
        above: dict[int, str] = {}
        for row in rows:
            before = whole(value(child(row, "trPr", "gridBefore")), 0)
            cells: list[str] = [""] * min(before, _MOST_SPANNED)
            for cell in _inner(row, "tc"):
                merge = child(cell, "tcPr", "vMerge")
                shaded = styled or _is_shaded(child(cell, "tcPr", "shd"))
                span = whole(value(child(cell, "tcPr", "gridSpan")), 1)
                words = self._blocks(cell, shaded, depth + 1)
                joined = merge is not None or span != 1  # of cells with the same text, perhaps
                text = " ".join(_joined(dict.fromkeys(words) if joined else words).split())
                if merge is not None and value(merge) != "restart":
                    text = above.get(len(cells), text)
                for _ in range(min(span, _MOST_SPANNED)):
                    if merge is not None:
                        above[len(cells)] = text
                    cells.append(text)
            grid.append(cells)
        return grid

    def _embedded(self, element: Element) -> Iterator[str]:
        """A document that was put into this one whole: HTML, text or Word."""
        _, path = self._relations.get(value(element, "id") or "", ("", ""))
        if path not in self._archive.namelist():
            return
        content = self._archive.read(path)
        if content.startswith(b"PK") and self._depth < 3:
            with zipfile.ZipFile(io.BytesIO(content)) as inner:
                yield _Document(inner, self._depth + 1).text()
            return
        text = decode(content, path)
        yield fragment_text(text, path) if "<" in text[:1000] else text


class _Inside:
    """The text of a paragraph, and the boxes and notes that hang on it."""

    def __init__(self, styles: Styles, shaded: bool) -> None:
        self._styles, self._shaded = styles, shaded
        self.boxes: list[Element] = []
        self.references: list[tuple[str, str | None]] = []
        self._bold: set[bool] = set()
        self._sizes: set[int] = set()

    def text(self, element: Element) -> str:
        parts: list[str] = []
        for inner in element:
            name = local(inner)
            if name in _SKIPPED:
                continue
            if name == "r":
                parts.append(self._run(inner))
            elif name == "t":
                parts.append(inner.text or "")
            elif name in ("tab", "ptab"):
                parts.append("\t")
            elif name in ("br", "cr"):
                parts.append("\n" if value(inner, "type") is None else "")
            elif name == "sym":
                parts.append(_SYMBOLS.get((value(inner, "char") or "").upper()[-2:], ""))
            elif name == "noBreakHyphen":
                parts.append("-")
            elif name == "txbxContent":
                self.boxes.append(inner)
            elif name in ("footnoteReference", "endnoteReference", "commentReference"):
                self.references.append((name.removesuffix("Reference"), value(inner, "id")))
            elif name == "AlternateContent":
                choice = child(inner, "Choice")
                parts.append(self.text(choice if choice is not None else inner))
            else:
                parts.append(self.text(inner))
        return "".join(parts)

    def _run(self, run: Element) -> str:
        properties = child(run, "rPr")
        text = self.text(run)
        if not text.strip():
            return text
        if self._is_hidden(properties):
            return ""
        self._bold.add(is_on(child(properties, "b")))
        self._sizes.add(whole(value(child(properties, "sz")), 0))
        return text

    def _is_hidden(self, properties: Element | None) -> bool:
        vanish = child(properties, "vanish")
        if is_on(vanish) or (vanish is None and self._styles.of(value(child(properties, "rStyle"))).hidden):
            return True
        if whole(value(child(properties, "sz")), _TINY + 1) <= _TINY:
            return True
        white = (value(child(properties, "color")) or "").upper() in ("FFFFFF", "FEFEFE")
        marked = _is_shaded(child(properties, "shd")) or is_on(child(properties, "highlight"))
        return white and not marked and not self._shaded

    def title_level(self, text: str) -> int:
        """The heading level of a short line set in bold or large, 0 for any other."""
        if (
            len(text) > _MAX_TITLE
            or "\n" in text
            or text.endswith((".", "。", ",", "，", ";", "；", ":", "："))
        ):
            return 0
        smallest = min(self._sizes, default=0)
        if smallest >= _BIGGER:
            return 1
        if self._bold != {True}:
            return 0
        return 2 if smallest >= _BIG else 3


def _inner(parent: Element, name: str) -> list[Element]:
    """Rows of a table or cells of a row, those inside content controls too."""
    found: list[Element] = []
    for element in parent:
        if local(element) == name:
            found.append(element)
        elif local(element) in ("sdt", "sdtContent", "customXml", "ins"):
            found += _inner(element, name)
    return found


def _is_contents(control: Element) -> bool:
    gallery = value(child(control, "sdtPr", "docPartObj", "docPartGallery"))
    return gallery == "Table of Contents"


def _is_shaded(shading: Element | None) -> bool:
    return (value(shading, "fill") or "auto").lower() not in ("auto", "ffffff", "none")


def _is_bold(row: Element) -> bool:
    """True if all the words of a row are bold."""
    runs = [run for run in row.iter() if local(run) == "r" and any(local(one) == "t" for one in run)]
    return bool(runs) and all(is_on(child(run, "rPr", "b")) for run in runs)


class _Item(str):
    """A paragraph of a list."""

    __slots__ = ()


def _marked(text: str, label: str | None, heading: int, level: int) -> str:
    """A paragraph as Markdown: a heading, an item of a list, or as it is."""
    if heading:
        line = " ".join(text.split())
        return f"{'#' * min(heading, 6)} {f'{label} ' if label and label != '-' else ''}{line}"
    return _Item(f"{'  ' * level}{label} {text}") if label else unmarked(text)


def _joined(blocks: Iterable[str]) -> str:
    """Blocks with an empty line between them, none between the items of a list."""
    parts: list[str] = []
    before = ""
    for block in blocks:
        if parts:
            parts.append("\n" if isinstance(before, _Item) and isinstance(block, _Item) else "\n\n")
        parts.append(block)
        before = block
    return "".join(parts)

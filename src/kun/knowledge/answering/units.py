"""The units that an answer is held against: sentences, list items and rows of tables, with what is above them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from kun.knowledge.answering.terms import terms
from kun.knowledge.passage import Passage
from kun.text.sentences import sentences

_HEADING = re.compile(r"\s*#{1,6}\s+(.*)")
_ITEM = re.compile(r"\s*(?:[-*•+]\s|\d{1,2}[.)、]\s?|[（(]\d{1,2}[)）]|\*\*)")
_PICTURE = re.compile(r"\s*!\[[^\]]*\]\([^)]*\)\s*")
_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*\n?")
_RULE = re.compile(r"[ \t]*\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*\n?")
_MYTH = re.compile(
    r"(?:\b(?:wrong|false|myth|misconception|mistaken(?:ly)?|incorrect)\b[^“\"\n]{0,40}"
    r"|误解[^“\n]{0,12}|误以为|有人说|常说)"
    r"(?P<said>“[^”\n]*”|\"[^\"\n]*\")"
    r"|(?P<before>“[^”\n]*”|\"[^\"\n]*\")(?=[，,：:—– ]{0,3}(?:这不对|不对|是错的|并不"
    r"|is wrong|is false|is not true|no\b))",
    re.IGNORECASE,
)
_LONGEST_ITEM = 400


@dataclass(frozen=True)
class Unit:
    """`[start, end)` of the text of passage number `place` (from 0); `head` is the text above that leads it.

    `cells` are column and value where it is the row of a table.
    """

    place: int
    start: int
    end: int
    text: str
    head: str = ""
    cells: tuple[tuple[str, str], ...] = ()
    is_item: bool = False

    @cached_property
    def claimed(self) -> str:
        """Its text without the words of a misconception, which it quotes to correct them."""
        return _MYTH.sub(" ", self.text)

    @cached_property
    def terms(self) -> frozenset[str]:
        return terms(self.claimed)

    @cached_property
    def known(self) -> frozenset[str]:
        """Its terms and those above it."""
        return self.terms | terms(self.head)


def units_of(passages: Sequence[Passage]) -> list[Unit]:
    """The units of `passages` in order."""
    found = [unit for place, passage in enumerate(passages) for unit in _of_passage(place, passage)]
    followers = [*found[1:], None]
    return [unit for unit, after in zip(found, followers, strict=False) if not _names_columns(unit, after)]


def _names_columns(unit: Unit, after: Unit | None) -> bool:
    """True for the line of names above the records of a table: it says nothing by itself."""
    if after is None or not after.cells or unit.cells:
        return False
    return {name for name, _ in after.cells} <= set(unit.text.split("; "))


def _of_passage(place: int, passage: Passage) -> Iterator[Unit]:
    title = f"{passage.source.rpartition('/')[2].rpartition('.')[0]} {passage.heading}".strip()
    heading = lead = ""
    for start, end, is_table in _regions(passage.text):
        if is_table:
            yield from _rows(place, passage.text, start, end, f"{title} {heading} {lead}")
            continue
        for first, last in _joined(passage.text, start, end):
            text = passage.text[first:last].strip()
            if found := _HEADING.fullmatch(text):
                heading, lead = found[1], ""
            elif text and not _PICTURE.fullmatch(text):
                is_item = bool(_ITEM.match(text))
                if not is_item:
                    lead = text if text.endswith((":", "：")) else ""
                yield Unit(place, first, last, text, f"{title} {heading} {lead}", _record(text), is_item)


def as_records(text: str) -> str:
    """`text` with the rows of its tables as records, `Name: filter; Price: 12`, and without lines that are pictures."""
    parts: list[str] = []
    for start, end, is_table in _regions(text):
        if is_table:
            parts += [f"- {unit.text}\n" for unit in _rows(0, text, start, end, "")]
        else:
            lines = text[start:end].splitlines(keepends=True)
            parts += [line for line in lines if not _PICTURE.fullmatch(line)]
    return "".join(parts)


def _regions(text: str) -> Iterator[tuple[int, int, bool]]:
    """Stretches that are tables with pipes, and those between them."""
    begin, is_table, place = 0, False, 0
    for line in text.splitlines(keepends=True):
        is_row = bool(_ROW.fullmatch(line))
        if is_row != is_table:
            if place > begin:
                yield begin, place, is_table
            begin, is_table = place, is_row
        place += len(line)
    if place > begin:
        yield begin, place, is_table


def _rows(place: int, text: str, start: int, end: int, head: str) -> Iterator[Unit]:
    lines: list[tuple[int, int, list[str]]] = []
    at = start
    for line in text[start:end].splitlines(keepends=True):
        if not _RULE.fullmatch(line):
            lines.append((at, at + len(line), [cell.strip() for cell in line.strip().strip("|").split("|")]))
        at += len(line)
    named = [row for row in lines if any(row[2])]
    if not named:
        return
    columns = named[0][2]
    for first, last, cells in named[1:] or named:
        pairs = tuple(zip(columns, cells, strict=False))
        written = "; ".join(f"{column}: {cell}" if column else cell for column, cell in pairs if cell)
        yield Unit(place, first, last, written, head, pairs)


def _record(text: str) -> tuple[tuple[str, str], ...]:
    """Column and value of a line like `Name: filter; Price: 12`; nothing for any other."""
    parts = [part.partition(": ") for part in text.split("; ")]
    is_record = (
        "\n" not in text and len(parts) > 1 and all(mark and len(name) <= 60 for name, mark, _ in parts)
    )
    return tuple((name.strip(), value.strip()) for name, _, value in parts) if is_record else ()


def _joined(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The spans of the sentences of a stretch, lines of records apart; those of a short list item are one."""
    spans: list[tuple[int, int]] = []
    for first, last in _sentences(text, start, end):
        line_start = text.rfind("\n", 0, first) + 1
        line = text[line_start:last]
        goes_on = bool(spans) and spans[-1][1] == first and "\n" not in text[spans[-1][0] : first].strip("\n")
        goes_on = goes_on and "\n" not in text[spans[-1][0] : first]
        if goes_on and _ITEM.match(line) and len(line) <= _LONGEST_ITEM:
            spans[-1] = spans[-1][0], last
        else:
            spans.append((first, last))
    return spans


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for first, last in sentences(text[start:end]):
        at = start + first
        whole = text[at : start + last]
        lines = whole.splitlines(keepends=True)
        if len(lines) > 1 and any(
            _record(line.strip()) or _HEADING.fullmatch(line.strip()) for line in lines
        ):
            for line in lines:
                if line.strip():
                    yield at, at + len(line)
                at += len(line)
        else:
            yield at, start + last

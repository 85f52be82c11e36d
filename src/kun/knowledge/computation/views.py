"""Tables as look-ups read them: as they are, and turned where each column is a thing and each row says one of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from kun.knowledge.computation.ranges import Range, range_of
from kun.knowledge.computation.said import Cover, Said
from kun.knowledge.computation.sheets import Sheet
from kun.tools.columns import Column, TypedTable, typed
from kun.tools.periods import Period, periods_in

MOST_ROWS = 20_000
_MOST_VALUES = 3_000
"""Distinct cells of a column that are each held against a question; of more only those that are words of it."""
_MOST_WORDS = 6
_MOST_TURNED = 60
_LONGEST_CELL = 400
_RANGES = 0.6
"""The share of a column's cells that are ranges in a column of ranges."""
_UNNAMED = re.compile(
    r"第\d+列|column \d+|项目|参数|规格|指标|内容|items?|features?|spec(?:ification)?s?|propert(?:y|ies)"
    r"|parameters?|characteristics?|attribute",
    re.IGNORECASE,
)
_LIST = re.compile(r"[、，；;]|, | / |\band\b|和")
_LONGEST_LIST = 120
_UNIT = re.compile(r"\s*[(（][^()（）]{1,12}[)）]\s*$")


@dataclass(frozen=True)
class Found:
    """A cell's text that a question has in full or in part, and the rows that have it."""

    column: int
    cell: str
    cover: Cover
    rows: frozenset[int]


@dataclass(frozen=True, eq=False)
class View:
    """A table of `n` rows read one way; `is_turned` where its rows are the columns of the document's table."""

    table: TypedTable
    is_turned: bool = False
    source: TypedTable | None = field(default=None, repr=False)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.table.columns

    @property
    def n(self) -> int:
        return self.table.n

    @property
    def is_matrix(self) -> bool:
        """True where the first column names properties: its things are the columns."""
        return _UNNAMED.fullmatch((self.source or self.table).columns[0].name.strip()) is not None

    def span(self, row: int, column: int) -> tuple[int, int]:
        """The place of a cell's row in the document."""
        spans = (self.source or self.table).spans
        place = column - 1 if self.is_turned else row
        return spans[place] if 0 <= place < len(spans) else (0, 0)

    @cached_property
    def _rows(self) -> list[dict[str, list[int]]]:
        """For each column its distinct cells and the rows that have them."""
        found = []
        for column in self.columns:
            rows: dict[str, list[int]] = {}
            for row, cell in enumerate(column.cells):
                if cell.strip():
                    rows.setdefault(cell.strip(), []).append(row)
            found.append(rows)
        return found

    @cached_property
    def _by_word(self) -> list[dict[str, list[str]]]:
        """For each column of many values its cells by their text in small letters."""
        found = []
        for rows in self._rows:
            words: dict[str, list[str]] = {}
            for cell in rows if len(rows) > _MOST_VALUES else ():
                words.setdefault(cell.lower(), []).append(cell)
            found.append(words)
        return found

    def found(self, said: Said) -> Iterator[Found]:
        """The cells of text that the question has, in full or in part."""
        for place, (column, rows) in enumerate(zip(self.columns, self._rows, strict=True)):
            if column.kind == "number" and len(rows) < self.n:
                continue
            cells = rows if len(rows) <= _MOST_VALUES else self._few(place, said)
            for cell in cells:
                if len(cell) > _LONGEST_CELL:
                    continue
                covers = [said.cover(part) for part in _parts(cell)]
                best = max(covers, key=lambda one: (one.is_full, len(one.places)))
                if best.places:
                    yield Found(place, cell, best, frozenset(rows[cell]))

    def _few(self, place: int, said: Said) -> list[str]:
        """The cells of a column of many values that are words of the question, one after the other."""
        known = self._by_word[place]
        runs = {
            said.plain[one.start : other.end]
            for number, one in enumerate(said.words)
            for other in said.words[number : number + _MOST_WORDS]
        }
        return [cell for run in runs for cell in known.get(run, ())]

    @cached_property
    def ranges(self) -> dict[int, list[Range | None]]:
        """The columns whose cells are ranges, each with the range of every row."""
        return {
            place: [range_of(cell) for cell in column.cells]
            for place, column in enumerate(self.columns)
            if column.kind in ("text", "number") and _are_ranges(list(self._rows[place]))
        }

    @cached_property
    def named_ranges(self) -> dict[int, Range]:
        """The columns whose names are ranges ("满 8 年"), where there are two or more."""
        found = {place: one for place, column in enumerate(self.columns) if (one := range_of(column.label))}
        return found if len(found) > 1 else {}

    @cached_property
    def periods(self) -> dict[int, list[Period | None]]:
        """The columns whose cells are stretches of time from one date to another."""
        found = {}
        for place, column in enumerate(self.columns):
            cells = list(self._rows[place])[:50]
            if column.kind == "text" and cells and len(cells[0]) < 60:
                read = [periods_in(cell) for cell in cells]
                if sum(len(one) == 1 for one in read) >= _RANGES * len(cells):
                    all_read = [periods_in(cell) for cell in column.cells] if self.n <= _MOST_VALUES else []
                    found[place] = [one[0] if len(one) == 1 else None for one in all_read]
        return found


@lru_cache(maxsize=65_536)
def _parts(cell: str) -> tuple[str, ...]:
    """A cell without its unit, and the names of a list of them ("新疆、西藏"): each may be meant."""
    whole = _UNIT.sub("", cell) or cell
    parts = [part.strip() for part in _LIST.split(whole)] if len(whole) <= _LONGEST_LIST else []
    return (whole, *parts) if len(parts) > 1 and all(2 <= len(part) <= 24 for part in parts) else (whole,)


def _are_ranges(cells: list[str]) -> bool:
    sample = cells[:50]
    return len(sample) > 1 and sum(range_of(cell) is not None for cell in sample) >= _RANGES * len(sample)


@lru_cache(maxsize=16)
def views_of(sheet: Sheet) -> tuple[View, ...]:
    """The tables of a document, each as it is and, where it can be, turned."""
    found = []
    for table in sheet.tables:
        if table.n <= MOST_ROWS:
            found.append(View(table))
            if (turned := _turned(table)) is not None:
                found.append(View(turned, is_turned=True, source=table))
    return tuple(found)


def _turned(table: TypedTable) -> TypedTable | None:
    """The table with columns for rows, where its first column has a name of its own for each row."""
    first = table.columns[0]
    if table.n > _MOST_TURNED or len(table.columns) < 3 or len(first.distinct) < table.n or table.n < 2:
        return None
    names = (
        "" if _UNNAMED.fullmatch(first.name.strip()) else first.name,
        *(cell.strip() for cell in first.cells),
    )
    others = table.columns[1:]
    rows = [(column.label, *column.cells) for column in others]
    return typed(table.name, table.source, names, rows, ())

"""A grid of cells, as a sheet, a page or a CSV file has it, to records: titles, names and rows are distinguished.

Cells come as text, merged ones filled. The decisions are made on the first rows, so that a table of any length can be
written as it is read.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from kun.knowledge.read.header import Shape, is_data, shape_of
from kun.knowledge.tables import column_names, names_line, record_line

Cells = list[str]

_LOOKED_AT = 400  # rows by which a table is judged
_MAX_HEADING = 120  # characters of a title row that becomes a heading; a longer one is a line of text
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Source:
    """Facts that a reader knows of its tables: rows of names at their top (None: to be found out), whether a table
    without sure signs has such a row, and the level of the headings that titles become."""

    heads: int | None = None
    assumes_names: bool = True
    level: int = 3


def table_lines(rows: Iterable[Sequence[str]], source: Source | None = None) -> Iterator[str]:
    """The lines of all tables of a grid, each with its line end; empty rows part one table from the next."""
    source = source or Source()
    before: _Writer | None = None
    title = ""
    for block in _blocks(rows):
        head = list(islice(block, _LOOKED_AT))
        if len(head) < _LOOKED_AT:
            head = _from_first_column(head)
            halves = _halves(head)
            if halves:
                yield from chain.from_iterable(table_lines(half, source) for half in halves)
                yield "\n"
                before = None
                continue
        if title:
            yield from _title(title, source.level)
            before = None
        title = _only_text(head)
        if title:
            continue
        shape = shape_of(head, source.heads, source.assumes_names)
        if before and before.goes_on(head, shape):
            yield from before.rows(chain(head, block))
            continue
        if before:
            yield "\n"
        before = _Writer(head, shape, source)
        yield from before.top()
        yield from before.rows(chain(head[shape.titles + shape.heads :], block))
    if title:
        yield title + "\n"


def _from_first_column(rows: list[Cells]) -> list[Cells]:
    """The rows without the columns at their left in which nothing is."""
    first = min(next(place for place, cell in enumerate(row) if cell) for row in rows)
    return [row[first:] for row in rows]


def _halves(rows: list[Cells]) -> list[list[Cells]]:
    """Two tables next to one another with an empty column between them, none where there is a single one.

    A gap inside one table looks the same; two have names in common, or rows that end before the other's.
    """
    width = max(map(len, rows))
    full = [row + [""] * (width - len(row)) for row in rows]
    for place in range(2, width - 2):
        if any(row[place] for row in full):
            continue
        left = [row[:place] for row in full]
        right = [row[place + 1 :] for row in full]
        lengths = [sum(any(row) for row in half) for half in (left, right)]
        wide = all(any(sum(map(bool, row)) > 1 for row in half) for half in (left, right))
        common = {cell for cell in left[0] if cell} & {cell for cell in right[0] if cell}
        if wide and min(lengths) > 1 and (common or lengths[0] != lengths[1]):
            return [[row for row in half if any(row)] for half in (left, right)]
    return []


def _only_text(head: Sequence[Cells]) -> str:
    """The text of a stretch that is one row with one text, as a title or a note is."""
    shown = list(dict.fromkeys(filter(None, head[0]))) if len(head) == 1 else []
    return shown[0] if len(shown) == 1 else ""


def _title(text: str, level: int) -> Iterator[str]:
    """A short title as a heading of `level`, a longer text as it is, and all of them at level 0."""
    is_short = level and len(text) <= _MAX_HEADING and not text.endswith(("。", ".", "；", ";"))
    yield f"{'#' * level} {text.lstrip('#')}\n\n" if is_short else f"{text}\n\n"


def _blocks(rows: Iterable[Sequence[str]]) -> Iterator[Iterator[Cells]]:
    """Stretches without an empty row, each to be read to its end before the next."""
    every = ([" ".join(cell.split()) for cell in row] for row in rows)
    for first in every:
        if any(first):
            block = _until_empty(first, every)
            yield block
            for _ in block:
                pass


def _until_empty(first: Cells, rows: Iterator[Cells]) -> Iterator[Cells]:
    yield first
    for row in rows:
        if not any(row):
            return
        yield row


class _Writer:
    """One table: its names, and its rows as records."""

    def __init__(self, head: list[Cells], shape: Shape, source: Source) -> None:
        self._source, self._shape = source, shape
        self._titles = head[: shape.titles]
        names = _joined(head[shape.titles : shape.titles + shape.heads], shape.width)
        body = head[shape.titles + shape.heads :]
        self._header = [
            cells + [""] * (shape.width - len(cells)) for cells in head[shape.titles :][: shape.heads]
        ]
        self._kept = [
            place
            for place in range(shape.width)
            if names[place] or any(place < len(row) and row[place] for row in body) or len(head) == _LOOKED_AT
        ]
        self._places = frozenset(self._kept)
        self._sections = (
            not shape.pairs
            and len(body) > 1
            and self._is_section(body[0])  # one farther down is a break, as lunch is in a timetable
            and not all(map(self._is_section, body))
        )
        is_chinese = any(_CHINESE.search(cell) for row in head for cell in row)
        unnamed = "第{}列" if is_chinese else "column {}"
        labels = [names[place] or unnamed.format(number) for number, place in enumerate(self._kept, 1)]
        if self._sections:
            labels.insert(0, "分组" if is_chinese else "section")
        self.columns = column_names(labels)
        self._section = ""

    def goes_on(self, head: list[Cells], shape: Shape) -> bool:
        """True if a stretch after an empty row has rows of this table, no title and no names of its own."""
        same = shape.width <= self._shape.width and not self._shape.pairs and self._shape.is_table
        return same and not shape.titles and not shape.sure and self._shape.fits(head)

    def top(self) -> Iterator[str]:
        """Title rows, as headings where they are short, and the line of names."""
        for row in self._titles:
            shown = list(dict.fromkeys(cell for cell in row if cell))
            yield from _title(" ".join(shown), self._source.level if len(shown) == 1 else 0)
        if self._shape.is_table:
            yield names_line(self.columns) + "\n"

    def rows(self, rows: Iterable[Cells]) -> Iterator[str]:
        waiting: list[Cells] = []  # a section's titles, or, with no row after them, notes below the table
        for row in rows:
            if self._header and row + [""] * (self._shape.width - len(row)) == self._header[-1]:
                continue  # the names again, as at the top of a page
            if self._shape.is_table and self._is_section(row):
                waiting.append(row)
                continue
            yield from self._titled(waiting)
            waiting = []
            yield from self._line(row)
        for row in waiting:
            yield next(cell for cell in row if cell) + "\n"

    def _titled(self, rows: list[Cells]) -> Iterator[str]:
        """A section's title is a cell of each of its rows; where no column was made for it, a row as any."""
        if rows and self._sections:
            self._section = " / ".join(next(cell for cell in row if cell) for row in rows)
        for row in rows if not self._sections else ():
            alone = next(place for place, cell in enumerate(row) if cell)
            yield from self._line([*row[: alone + 1], *[""] * (len(row) - alone - 1)])

    def _line(self, row: Cells) -> Iterator[str]:
        if self._shape.pairs:
            yield from _pairs(row)
            return
        if not self._shape.is_table:
            yield "; ".join(dict.fromkeys(cell for cell in row if cell)) + "\n"
            return
        cells = [row[place] if place < len(row) else "" for place in self._kept]
        line = record_line(self.columns, [self._section, *cells] if self._sections else cells)
        unnamed = [cell for place, cell in enumerate(row) if cell and place not in self._places]
        if line or unnamed:
            yield "; ".join(filter(None, [line, *unnamed])) + "\n"

    def _is_section(self, row: Cells) -> bool:
        """One value across the whole width, or alone in the first of three columns or more."""
        width = self._shape.width
        filled = [cell for cell in row if cell]
        alone = width >= 3 and len(filled) == 1 and bool(row[0]) and not self._shape.is_sparse
        alone = alone and not is_data(row[0])
        return alone or (width >= 3 and len(filled) == width and len(set(filled)) == 1)


def _joined(heads: Sequence[Cells], width: int) -> Cells:
    """One name a column out of several rows of names, each part once: `Tariff / Day`."""
    filled = [_forward(row, width) for row in heads[:-1]] + [
        [*row, *[""] * (width - len(row))] for row in heads[-1:]
    ]
    names = []
    for place in range(width):
        parts = dict.fromkeys(row[place] for row in filled if row[place])
        names.append(" / ".join(parts))
    return names


def _forward(row: Cells, width: int) -> Cells:
    """A name above several columns, repeated over those after it that have none."""
    shown: Cells = []
    for place in range(width):
        cell = row[place] if place < len(row) else ""
        shown.append(cell or (shown[-1] if shown else ""))
    return shown


def _pairs(row: Cells) -> Iterator[str]:
    """`label: value`, as forms have it; two of them or more in a row of four cells or more."""
    shown = []
    for place in range(0, len(row), 2):
        label, value = row[place], row[place + 1] if place + 1 < len(row) else ""
        label = label.rstrip(":： ")
        both = f"{label}: {value}" if label and value and label != value else label or value
        if both:
            shown.append(both)
    if shown:
        yield "; ".join(dict.fromkeys(shown)) + "\n"

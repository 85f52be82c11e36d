"""Counting cells instead of rows: how often something occurs in a timetable or a roster, and how long that takes."""

import re
from dataclasses import dataclass
from decimal import Decimal

from kun.knowledge.computation.concepts import unit_kind, units_asked
from kun.knowledge.computation.matching import folded, latin_words, value_hits
from kun.knowledge.computation.question import Asked
from kun.knowledge.computation.rates import Rate, rates_in
from kun.knowledge.computation.sheets import Sheet
from kun.tools.columns import TypedTable

_LEAST_COLUMNS = 3


@dataclass(frozen=True)
class CellCount:
    """The cells with `word` in `columns`; `rate` turns their number into what is asked for."""

    source: str
    word: str
    count: int
    rows: tuple[int, ...]
    columns: tuple[str, ...]
    table: TypedTable
    rate: Rate | None
    score: float

    @property
    def value(self) -> Decimal:
        return self.count * (self.rate.value if self.rate else Decimal(1))


def cell_counts(asked: Asked, sheet: Sheet) -> list[CellCount]:
    """The counts that a question may want of the document's tables."""
    if "count" not in asked.kinds and "sum" not in asked.kinds and not asked.amount:
        return []
    return [found for table in sheet.tables if (found := _count(asked, sheet, table)) is not None]


def _count(asked: Asked, sheet: Sheet, table: TypedTable) -> CellCount | None:
    columns = table.of_kind("text")
    words = {asked.text[hit.start : hit.end]: hit for hit in value_hits(asked.text, table)}
    best: CellCount | None = None
    for word in words:
        having = [column for column in columns if any(_stands(word, cell) for cell in column.distinct)]
        if len(having) < _LEAST_COLUMNS:
            continue
        named = [column for column in having if folded(column.name) in folded(asked.text)]
        chosen = named or having
        cells = [
            (row, column.name)
            for column in chosen
            for row, cell in enumerate(column.cells)
            if _stands(word, cell)
        ]
        rate = _rate(asked, sheet)
        if units_asked(asked.text) and rate is None and re.search(r"分钟|小时|minutes|hours", asked.text):
            continue
        found = CellCount(
            sheet.source,
            word,
            len(cells),
            tuple(sorted({row for row, _ in cells})),
            tuple(column.name for column in chosen),
            table,
            rate,
            1.6,
        )
        if best is None or found.count > best.count:
            best = found
    return best


def _stands(word: str, cell: str) -> bool:
    plain, wanted = folded(cell), folded(word)
    if re.search(r"[\u3400-\u9fff]", wanted):
        return wanted in plain
    stems = {one.stem for one in latin_words(plain)}
    return all(one.stem in stems for one in latin_words(wanted))


def _rate(asked: Asked, sheet: Sheet) -> Rate | None:
    """The time that one of them takes by the text, in the unit that is asked for, or in minutes for hours."""
    wanted = units_asked(asked.text)
    time = {"h", "min"} & set(wanted)
    for rate in rates_in(sheet.around):
        kind = unit_kind(rate.unit)
        if kind in wanted or (time and kind in ("h", "min")):
            factor = Decimal(1) if kind in wanted else Decimal(1) / 60 if kind == "min" else Decimal(60)
            return Rate(
                rate.value * factor,
                rate.unit if kind in wanted else next(iter(time)),
                rate.per,
                rate.text,
                rate.start,
                rate.end,
            )
    return None

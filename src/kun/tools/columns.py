"""A table's columns with their types: numbers, dates, times of day or text; cells that do not fit are remembered."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Literal

from kun.tools.values import When, clock_of, number_of, when_of

Kind = Literal["number", "date", "clock", "text"]
Value = Decimal | When | int | str

_MOST = 0.6
"""The share of a column's cells that must fit its type; the others are named where they are needed."""
_SAMPLE = 400
"""Filled cells by which a column's type is decided; all of them would take a million rows a minute."""
_UNIT = re.compile(r"^(?P<name>.*?)\s*[(（\[](?P<unit>[^()（）\[\]]{1,16})[)）\]]\s*$")
_UNIT_AFTER = re.compile(
    r"^(?P<name>.+?),?\s+(?:in\s+)?(?P<unit>EUR|USD|GBP|CNY|RMB|€|\$|£|kg|km|kWh|m²|m³|min|hours?|minutes?|litres?|%)$",
    re.I,
)
_BLANK = re.compile(r"[-–—/\s]*|n/?a|none|nan|null|无|空|没有", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """One column: `values` are typed as `kind`, None for a cell that is empty or does not fit."""

    label: str
    name: str
    unit: str
    kind: Kind
    cells: tuple[str, ...]
    values: tuple[Value | None, ...]

    @property
    def odd(self) -> list[int]:
        """The rows whose cell holds something that is no value of the column's type."""
        return [
            row
            for row, (cell, value) in enumerate(zip(self.cells, self.values, strict=True))
            if value is None and not is_blank(cell)
        ]

    @cached_property
    def distinct(self) -> list[str]:
        """The texts that occur, in order."""
        return list(dict.fromkeys(cell.strip() for cell in self.cells if cell.strip()))


@dataclass(frozen=True)
class TypedTable:
    """A table of `n` rows. `name` is its heading, `source` its document."""

    name: str
    source: str
    columns: tuple[Column, ...]
    n: int
    spans: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def column(self, label: str) -> Column:
        return next(column for column in self.columns if column.label == label)

    def of_kind(self, *kinds: Kind) -> list[Column]:
        return [column for column in self.columns if column.kind in kinds]


def is_blank(cell: str) -> bool:
    return _BLANK.fullmatch(cell.strip()) is not None


def typed(
    name: str,
    source: str,
    labels: Sequence[str],
    rows: Sequence[Sequence[str]],
    spans: Sequence[tuple[int, int]] = (),
) -> TypedTable:
    """The table of `rows`, each as long as `labels` (shorter ones are filled), with the type of each column."""
    columns = tuple(
        _column(label, tuple(row[place] if place < len(row) else "" for row in rows))
        for place, label in enumerate(labels)
    )
    return TypedTable(name, source, columns, len(rows), tuple(spans))


def _column(label: str, cells: tuple[str, ...]) -> Column:
    clean = unicodedata.normalize("NFKC", label).strip()
    found = _UNIT.match(clean) or _UNIT_AFTER.match(clean)
    name, unit = (found["name"], found["unit"]) if found else (clean, "")
    if unit and re.search(r"\d{4}", unit):
        name, unit = clean, ""
    filled = [cell for cell in cells if not is_blank(cell)]
    sample = filled[:_SAMPLE]
    values: tuple[Value | None, ...] = tuple(cells)
    kind: Kind = "text"
    least = max(1, _MOST * len(sample))
    are_years = all(re.fullmatch(r"(19|20)\d{2}", cell.strip()) for cell in sample)
    n_dates = sum((when := when_of(cell)) is not None and bool(when.month) for cell in sample)
    if sample and (n_dates >= least or (are_years and _names_a_year(name))):
        kind, values = "date", tuple(when_of(cell) for cell in cells)
    elif sample and sum(clock_of(cell) is not None for cell in sample) >= least:
        kind, values = "clock", tuple(clock_of(cell) for cell in cells)
    elif (
        sample and sum(number_of(cell) is not None for cell in sample) >= least and not _is_code(name, filled)
    ):
        numbers = [number_of(cell) for cell in cells]
        units = {one.unit for one in numbers if one and one.unit}
        same = len(units) == 1
        kind, unit = "number", unit or (next(iter(units)) if same else "")
        values = tuple(
            one.value if one and (not one.unit or same or one.unit == unit) else None for one in numbers
        )
    return Column(label, name, unit, kind, cells, values)


def _names_a_year(name: str) -> bool:
    return re.search(r"year|since|from|joined|founded|built|年|since", name, re.IGNORECASE) is not None


def _is_code(name: str, filled: Sequence[str]) -> bool:
    """True for numbers that name things: they are not added."""
    named = re.search(
        r"\b(no|nr|id|code|number|zip|postcode|phone|tel|isbn|bay|room|sku)\b\.?|序号|编号|号码|电话|邮编|学号|工号|代码|单号",
        name,
        re.IGNORECASE,
    )
    return bool(named) and len(set(filled)) == len(filled)

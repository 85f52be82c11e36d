"""A small program over one table: conditions, a measure, an operation, a group; run exactly, each step shown."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, DivisionByZero, InvalidOperation
from typing import Literal

from kun.errors import BadInput
from kun.tools.columns import Column, TypedTable, is_blank
from kun.tools.periods import Period, days_of
from kun.tools.values import When

Test = Literal[
    "is", "is not", "holds", "holds not", "<", "<=", ">", ">=", "=", "!=", "within", "empty", "filled"
]
Operation = Literal["sum", "count", "mean", "median", "least", "most", "range"]
MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Measure:
    """One number a row, or None; `formula` says how it comes from the columns, `odd` which cells are no numbers."""

    label: str
    unit: str
    values: tuple[Decimal | None, ...]
    formula: str = ""
    odd: tuple[tuple[int, str], ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """A test of each row: `column` (or `measure`) against `values`, a period, or another column (`other`)."""

    test: Test
    column: Column | None = None
    measure: Measure | None = None
    values: tuple[str, ...] = ()
    number: Decimal | None = None
    period: Period | None = None
    other: Column | None = None
    rows: frozenset[int] | None = None
    text: str = ""

    def holds(self, row: int) -> bool:
        if self.rows is not None:
            return row in self.rows
        if self.measure is not None:
            return _compare(self.test, self.measure.values[row], self.number)
        column = self.column
        if column is None:
            raise BadInput("A condition needs a column or a measure.")
        value, cell = column.values[row], column.cells[row].strip()
        if self.test in ("empty", "filled"):
            return is_blank(cell) == (self.test == "empty")
        if self.test in ("is", "is not"):
            return (cell in self.values) == (self.test == "is")
        if self.test in ("holds", "holds not"):
            return any(one in cell for one in self.values) == (self.test == "holds")
        if self.test == "within":
            return self.period is not None and value in self.period
        if self.other is not None:
            against = self.other.values[row]
            return _compare(
                self.test, *(one if isinstance(one, Decimal) else None for one in (value, against))
            )
        return _compare(self.test, value if isinstance(value, Decimal) else None, self.number)


def _compare(test: Test, left: Decimal | None, right: Decimal | None) -> bool:
    if left is None or right is None:
        return False
    return {
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
        "=": left == right,
        "!=": left != right,
    }[test]


def rows_where(table: TypedTable, conditions: Sequence[Condition]) -> list[int]:
    """The rows that meet every condition. Raises `BadInput` for a table of too many rows."""
    if table.n > MOST_ROWS:
        raise BadInput(
            f"{table.source} has a table of {table.n:,} rows; Kun calculates over {MOST_ROWS:,} at most: "
            "split the file."
        )
    return [row for row in range(table.n) if all(one.holds(row) for one in conditions)]


@dataclass(frozen=True)
class Figure:
    """A number over some rows: how many were used, and which had no value."""

    value: Decimal
    used: tuple[int, ...]
    empty: tuple[int, ...] = ()


def figure(operation: Operation, rows: Sequence[int], measure: Measure | None) -> Figure | None:
    """The operation over the measure of `rows` (their number, where there is no measure); None over nothing."""
    if operation == "count" and measure is None:
        return Figure(Decimal(len(rows)), tuple(rows))
    if measure is None:
        return None
    used = tuple(row for row in rows if measure.values[row] is not None)
    empty = tuple(row for row in rows if measure.values[row] is None)
    values = [value for row in used if (value := measure.values[row]) is not None]
    if not values:
        return None
    value = {
        "sum": lambda: sum(values, Decimal(0)),
        "count": lambda: Decimal(len(values)),
        "mean": lambda: sum(values, Decimal(0)) / len(values),
        "median": lambda: _median(sorted(values)),
        "least": lambda: min(values),
        "most": lambda: max(values),
        "range": lambda: max(values) - min(values),
    }[operation]()
    return Figure(value, used, empty)


def _median(values: list[Decimal]) -> Decimal:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def grouped(rows: Sequence[int], keys: Mapping[int, str]) -> dict[str, list[int]]:
    """The rows by their key; rows without a key are left out."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        if key := keys.get(row, ""):
            groups.setdefault(key, []).append(row)
    return groups


def ratio(part: Decimal, whole: Decimal) -> Decimal | None:
    """`part / whole`; None where the whole is nothing."""
    try:
        return part / whole if whole else None
    except (DivisionByZero, InvalidOperation):
        return None


def month_keys(column: Column) -> dict[int, str]:
    """Row -> "2026-05" (or "05" without a year) of a column of dates."""
    keys = {}
    for row, value in enumerate(column.values):
        if isinstance(value, When) and value.month:
            keys[row] = f"{value.year:04d}-{value.month:02d}" if value.year else f"{value.month:02d}"
    return keys


def number_measure(column: Column) -> Measure:
    """The numbers of a column as they are."""
    values = tuple(value if isinstance(value, Decimal) else None for value in column.values)
    odd = tuple((row, column.cells[row]) for row in column.odd)
    return Measure(column.name, column.unit, values, odd=odd, columns=(column.label,))


def product(one: Column, other: Column, label: str, unit: str) -> Measure:
    """Row by row the product of two columns."""
    values = tuple(
        a * b if isinstance(a, Decimal) and isinstance(b, Decimal) else None
        for a, b in zip(one.values, other.values, strict=True)
    )
    odd = tuple((row, column.cells[row]) for column in (one, other) for row in column.odd)
    return Measure(label, unit, values, f"{one.name} × {other.name}", odd, (one.label, other.label))


def hours_between(start: Column, end: Column, pause: Column | None, label: str) -> Measure:
    """Row by row the hours from one time of day to another, past midnight too, less a pause in minutes or hours."""
    values: list[Decimal | None] = []
    for row, (a, b) in enumerate(zip(start.values, end.values, strict=True)):
        if not isinstance(a, int) or not isinstance(b, int):
            values.append(None)
            continue
        minutes = Decimal((b - a) % (24 * 60))
        if pause is not None:
            rest = pause.values[row]
            if not isinstance(rest, Decimal):
                rest = Decimal(0) if is_blank(pause.cells[row]) else None
            if rest is None:
                values.append(None)
                continue
            minutes -= rest * (60 if pause.unit.lower() in ("h", "hours", "小时") else 1)
        values.append(minutes / 60)
    formula = f"{end.name} − {start.name}" + (f" − {pause.name}" if pause is not None else "")
    used = (start.label, end.label, *([pause.label] if pause is not None else []))
    columns = [start, end, *([pause] if pause is not None else [])]
    odd = tuple((row, column.cells[row]) for column in columns for row in column.odd)
    return Measure(label, "h", tuple(values), formula, odd, used)


def days_between(start: Column, end: Column, label: str) -> Measure:
    """Row by row the days from one date to another."""
    values = []
    for a, b in zip(start.values, end.values, strict=True):
        first = days_of(a)[0] if isinstance(a, When) and a.day else None
        last = days_of(b)[0] if isinstance(b, When) and b.day else None
        values.append(Decimal((last - first).days) if first and last else None)
    return Measure(label, "d", tuple(values), f"{end.name} − {start.name}", columns=(start.label, end.label))


def steps(column: Column, order: Sequence[int]) -> Measure:
    """The growth of a running total, from each row to the next in `order`; the last row has none."""
    values: list[Decimal | None] = [None] * len(column.values)
    for row, following in itertools.pairwise(order):
        a, b = column.values[row], column.values[following]
        if isinstance(a, Decimal) and isinstance(b, Decimal):
            values[row] = b - a
    odd = tuple((row, column.cells[row]) for row in column.odd)
    return Measure(column.name, column.unit, tuple(values), f"Δ {column.name}", odd, (column.label,))

"""The tables of a document as a calculation reads them, and the numbers that each row gives."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import PurePath
from typing import Protocol

from kun.knowledge.computation.concepts import CONCEPTS
from kun.knowledge.computation.matching import TOTALS
from kun.knowledge.passage import Passage
from kun.knowledge.rows import StoredText, TextKind
from kun.knowledge.tables import tables_of
from kun.tools.columns import Column, TypedTable, typed
from kun.tools.periods import days_of
from kun.tools.table_query import (
    MOST_ROWS,
    Measure,
    days_between,
    hours_between,
    number_measure,
    product,
    steps,
)
from kun.tools.values import When

_MOST_COLUMNS = 200
_READING = re.compile(
    r"读数|抄表|累计|电表|水表|气表|里程表|meter|reading|odometer|cumulative|counter|running total|mileage",
    re.IGNORECASE,
)
_TOTAL_OF_ROW = re.compile(
    r"金额|总价|合计|小计|总额|\b(?:amount|total|line total|sum|cost|value)\b", re.IGNORECASE
)
_AMOUNTS = (
    "金额",
    "总价",
    "营业额",
    "销售额",
    "货值",
    "amount",
    "worth",
    "value",
    "cost",
    "total",
    "revenue",
    "turnover",
)


class Computable(Protocol):
    """The part of a knowledge base that a calculation reads."""

    def search(self, query: str, k: int = 5, sources: Sequence[str] | None = None) -> list[Passage]: ...

    def text_of(self, source: str) -> StoredText: ...

    def sources(self) -> "Sequence[Named]": ...


class Named(Protocol):
    """A document of a base."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Sheet:
    """A document's tables, and its text around them."""

    source: str
    title: str
    tables: tuple[TypedTable, ...]
    around: str
    text: str = field(repr=False, default="")


def sheet_of(stored: StoredText) -> Sheet:
    """The tables of a stored document; those of the last few documents are kept."""
    return _sheet(stored.source, stored.text, stored.kind)


@lru_cache(maxsize=8)
def _sheet(source: str, text: str, kind: TextKind) -> Sheet:
    """The tables of a stored document, without rows that add up the others and without columns past a limit."""
    found = tables_of(text, kind)
    tables, kept, place = [], [], 0
    for table in found:
        kept.append(text[place : table.start])
        place = table.end
        if not table.rows or len(table.columns) < 2 or len(table.rows) > MOST_ROWS:
            continue
        rows = [row for row in table.rows if not _adds_up(row.cells)]
        cells = [row.cells[:_MOST_COLUMNS] for row in rows]
        spans = [(row.start, row.end) for row in rows]
        if rows:
            tables.append(typed(table.name, source, table.columns[:_MOST_COLUMNS], cells, spans))
    kept.append(text[place:])
    around = "\n".join(part.strip("\n") for part in kept)
    heading = re.search(r"\S.*", around)
    title = f"{PurePath(source).stem} {heading[0][:120] if heading else ''}"
    return Sheet(source, title, tuple(tables), around, text)


def _adds_up(cells: Sequence[str]) -> bool:
    first = next((cell for cell in cells if cell.strip()), "")
    return TOTALS.fullmatch(first) is not None


@dataclass(frozen=True)
class Quantity:
    """A measure of a table's rows; `dates` are those it belongs to where the rows' own are not (a meter's)."""

    measure: Measure
    names: tuple[str, ...]
    is_price: bool = False
    is_reading: bool = False
    dates: Column | None = None


def quantities(table: TypedTable, around: str) -> list[Quantity]:
    """The numbers that a table's rows give: its columns, quantity × price, hours and days between, a meter's steps."""
    numbers = [column for column in table.of_kind("number") if not _is_index(column)]
    dates, clocks = table.of_kind("date"), table.of_kind("clock")
    found: list[Quantity] = []
    for column in numbers:
        if dates and _is_reading(column, table, around):
            found.append(_reading(column, dates[0]))
        else:
            is_price = _is_price(column)
            found.append(Quantity(number_measure(column), (column.name,), is_price))
    if not any(_TOTAL_OF_ROW.search(c.name) for c in numbers if not _is_price(c)):
        found += _products(numbers)
    if len(clocks) >= 2:
        start, end = clocks[0], clocks[1]
        pause = next((c for c in numbers if CONCEPTS["pause"].search(c.name)), None)
        label = "小时" if _is_han(start.name) else "hours"
        if pause is not None:
            found.append(
                Quantity(
                    hours_between(start, end, pause, label), ("净工时", "工时", "小时", "hours", "worked")
                )
            )
        found.append(Quantity(hours_between(start, end, None, label), ("工时", "小时", "hours", "worked")))
    if len(dates) >= 2:
        found.append(
            Quantity(
                days_between(dates[0], dates[1], "天" if _is_han(dates[0].name) else "days"),
                ("天数", "几天", "几晚", "days", "nights"),
            )
        )
    return found


def _is_han(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


def _is_index(column: Column) -> bool:
    return (
        re.fullmatch(
            r"(?:序号|编号|行号|#|no\.?|nr\.?|pos\.?|line|index|id|row)", column.name.strip(), re.IGNORECASE
        )
        is not None
    )


def _is_price(column: Column) -> bool:
    return re.search(
        r"单价|每.{1,3}价|价格|售价|进价|\bprice\b|\brate\b|\bper\b|每(?:斤|公斤|件|小时)",
        column.name,
        re.IGNORECASE,
    ) is not None or ("/" in column.unit and CONCEPTS["money"].search(column.unit) is not None)


def _products(numbers: Sequence[Column]) -> list[Quantity]:
    found = []
    for price in numbers:
        if not _is_price(price):
            continue
        amount = _amount_of(
            price, [column for column in numbers if column is not price and not _is_price(column)]
        )
        if amount is None:
            continue
        label = "金额" if _is_han(price.name) else "amount"
        unit = price.unit.split("/")[0]
        found.append(Quantity(product(amount, price, label, unit), (price.name, *_AMOUNTS)))
    return found


def _amount_of(price: Column, others: Sequence[Column]) -> Column | None:
    """The column that a price is multiplied by."""
    per = price.unit.split("/")[1] if "/" in price.unit else ""
    for column in others:
        if per and column.unit == per:
            return column
    wanted = [
        r"数量|件数|份数|\b(?:quantity|qty|pieces|units|sold|copies)\b",
        r"现有|库存|存量|\b(?:on hand|stock|inventory|in stock)\b",
        r"小时|工时|天数|\b(?:hours|days|nights)\b",
        r"重量|面积|\b(?:weight|kg|area|litres?|length)\b",
    ]
    for pattern in wanted:
        for column in others:
            if re.search(pattern, f"{column.name} {column.unit}", re.IGNORECASE):
                return column
    counted = [column for column in others if not CONCEPTS["money"].search(f"{column.name} {column.unit}")]
    return counted[0] if len(counted) == 1 else None


def _is_reading(column: Column, table: TypedTable, around: str) -> bool:
    """True for a running total: it never falls with the dates, and the table or the text calls it one."""
    dates = table.of_kind("date")[0]
    rows = _in_time(dates)
    values = [column.values[row] for row in rows if column.values[row] is not None]
    if len(values) < 4 or any(a > b for a, b in itertools.pairwise(values)):  # type: ignore[operator]
        return False
    if len(set(values)) < 3:
        return False
    return bool(_READING.search(column.name) or _READING.search(table.name) or _READING.search(around[:2000]))


def _in_time(dates: Column) -> list[int]:
    known = [
        (days_of(when)[0], row)
        for row, when in enumerate(dates.values)
        if isinstance(when, When) and when.year
    ]
    return [row for day, row in sorted((day, row) for day, row in known if day)]


def _reading(column: Column, dates: Column) -> Quantity:
    order = _in_time(dates)
    middles: list[When | None] = [None] * len(column.values)
    for row, following in itertools.pairwise(order):
        a, b = dates.values[row], dates.values[following]
        first = days_of(a)[0] if isinstance(a, When) else None
        last = days_of(b)[0] if isinstance(b, When) else None
        if first and last:
            middle = first + timedelta((last - first).days // 2)
            middles[row] = When(middle.year, middle.month, middle.day)
    belongs = Column(dates.label, dates.name, dates.unit, "date", dates.cells, tuple(middles))
    return Quantity(steps(column, order), (column.name,), is_reading=True, dates=belongs)

"""Dates and lengths of time: a term after or before a day, working days, the days between two."""

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from kun.errors import BadInput
from kun.tools.values import NUMBER_WORD, quantity_of

_LENGTH = re.compile(
    rf"(?P<number>{NUMBER_WORD})\s*(?P<unit>个?工作日|个月|个?星期|周|天|日(?!期)|年(?!\d)|(?:working|business|calendar)\s+days?|days?|weeks?|months?|years?|fortnights?)(?![a-zA-Z])",
    re.IGNORECASE,
)
_UNITS = (
    (r"工作日|working|business", "working day"),
    (r"天|日|day", "day"),
    (r"周|星期|week", "week"),
    (r"月|month", "month"),
    (r"季|quarter", "quarter"),
    (r"年|year", "year"),
    (r"fortnight", "fortnight"),
)
_MOST_DAYS = 400_000
_BEFORE = 16
"""Characters before a number in which a month or a year makes it a day of the calendar."""


@dataclass(frozen=True)
class Length:
    """A length of time: `number` of `unit` ("day", "working day", "week", "month", "year"), at `[start, end)`."""

    number: int
    unit: str
    text: str = ""
    start: int = 0
    end: int = 0

    @staticmethod
    def unit_of(word: str) -> str:
        return next((name for pattern, name in _UNITS if re.search(pattern, word, re.IGNORECASE)), word)


def lengths_in(text: str) -> Iterator[Length]:
    """The lengths of time that a text names; a day of the month ("on 3 May", "5 月 3 日") is none."""
    for match in _LENGTH.finditer(text):
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        if re.search(r"月\s*$|第\s*$|年\s*$", before) or re.search(r"\d\s*[-/.]\s*$", before):
            continue
        number = quantity_of(match["number"])
        if number is None or number != int(number) or (match["unit"] == "年" and number > 200):
            continue
        if match["unit"] == "日" and number <= 31 and re.search(r"每月|逢", before[-4:]):
            continue
        unit, whole = Length.unit_of(match["unit"]), int(number)
        if unit == "fortnight":
            unit, whole = "week", 2 * whole
        yield Length(whole, unit, " ".join(match[0].split()), *match.span())


def shifted(day: date, length: Length, back: bool = False) -> date:
    """The day that a length of time after `day` is, or before it; the last of a shorter month stays in it.

    Working days are Monday to Friday. Raises `BadInput` where the calendar ends.
    """
    number = -length.number if back else length.number
    if abs(number) > _MOST_DAYS:
        raise BadInput(f"{length.text or length.number} is more than the calendar holds: use a shorter time.")
    try:
        match length.unit:
            case "working day":
                return _working(day, number)
            case "week":
                return day + timedelta(weeks=number)
            case "month" | "quarter" | "year":
                return _months(day, number * {"month": 1, "quarter": 3, "year": 12}[length.unit])
            case _:
                return day + timedelta(days=number)
    except (OverflowError, ValueError) as error:
        raise BadInput(
            f"{length.text or length.number} from {day} leaves the calendar: use a shorter time."
        ) from error


def _months(day: date, number: int) -> date:
    months = day.year * 12 + day.month - 1 + number
    year, month = divmod(months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _working(day: date, number: int) -> date:
    step = 1 if number > 0 else -1
    left = abs(number)
    weeks, left = divmod(left, 5)
    day += timedelta(weeks=step * weeks)
    while left:
        day += timedelta(days=step)
        left -= day.weekday() < 5
    return day

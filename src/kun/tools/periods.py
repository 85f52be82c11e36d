"""Stretches of time in a text: months, quarters, halves and years, before and after, from one date to another."""

import calendar
import re
from dataclasses import dataclass
from datetime import date

from kun.tools.values import FoundWhen, When, small_number, whens_in

_QUARTER = re.compile(
    r"(?:(?P<y>\d{4})\s*年?的?\s*)?第?(?P<n>[一二三四1-4])\s*(?:个)?季度"
    r"|(?P<word>first|second|third|fourth|last)\s+quarter(?:\s+(?:of\s+)?(?P<y2>\d{4}))?|\bQ(?P<q>[1-4])\b(?:\s+(?P<y3>\d{4}))?",
    re.IGNORECASE,
)
_HALF = re.compile(
    r"(?:(?P<y>\d{4})\s*年?的?\s*)?(?P<han>[上下])半年|(?P<word>first|second)\s+half(?:\s+of(?:\s+the\s+year)?(?:\s+(?P<y2>\d{4}))?)?",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?<![\d.,-])(?P<y>(?:19|20)\d{2})(?!\d|[.,-]\d)\s*年?(?!\s*级)")
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": 4}
_BEFORE = re.compile(
    r"(?:\bbefore|\bprior to|\bearlier than|\buntil|\bup to|\bby(?: the end of)?)\s*(?:the\s+)?$", re.I
)
_AFTER = re.compile(r"(?:\bafter|\blater than)\s*(?:the\s+)?$", re.I)
_SINCE = re.compile(r"(?:\bsince|\bfrom|\bstarting)\s*(?:the\s+)?$|从\s*$|自\s*$", re.I)
_HAN_BEFORE = re.compile(r"\s*(?:之前|以前|前(?!\d|[一二三四五六七八九十]))")
_HAN_AFTER = re.compile(r"\s*(?:之后|以后)")
_HAN_SINCE = re.compile(r"\s*(?:起|以来|开始|及以后)")
_TO = re.compile(r"\s*(?:到|至|—|–|-|~|～|to|until|till|through|and)\s*(?:the\s+)?", re.I)
_BETWEEN = re.compile(r"\bbetween\s*(?:the\s+)?$", re.I)


@dataclass(frozen=True)
class Period:
    """Days from `first` to `last`, both within; `months` alone where no year is known. `text` is as written."""

    text: str
    first: date | None = None
    last: date | None = None
    months: frozenset[int] = frozenset()
    start: int = 0
    end: int = 0

    def __contains__(self, when: object) -> bool:
        if not isinstance(when, When):
            return False
        if self.months and (not when.year or (self.first is None and self.last is None)):
            return when.month in self.months
        first, last = days_of(when)
        if first is None or last is None:
            return False
        return (self.first is None or first >= self.first) and (self.last is None or last <= self.last)


def days_of(when: When) -> tuple[date | None, date | None]:
    """The first and the last day that a date with unknown parts may mean; None without a year."""
    if not when.year:
        return None, None
    if not when.month:
        return date(when.year, 1, 1), date(when.year, 12, 31)
    last = calendar.monthrange(when.year, when.month)[1]
    return date(when.year, when.month, when.day or 1), date(when.year, when.month, when.day or last)


def periods_in(text: str) -> list[Period]:
    """The stretches of time that a text names, in order."""
    units = sorted(_units(text), key=lambda one: (one.start, -one.end))
    kept: list[Period] = []
    for unit in units:
        if not kept or unit.start >= kept[-1].end:
            kept.append(unit)
    return _joined(kept, text)


def _units(text: str) -> list[Period]:
    found = []
    for match in _QUARTER.finditer(text):
        number = match["n"] or match["q"]
        n = small_number(number) if number else _ORDINALS[match["word"].lower()]
        year = match["y"] or match["y2"] or match["y3"] or _year_before(text, match.start())
        found.append(_months(match, int(year or 0), 3 * (n or 1) - 2, 3 * (n or 1)))
    for match in _HALF.finditer(text):
        first = match["han"] == "上" or (match["word"] or "").lower() == "first"
        year = match["y"] or match["y2"] or _year_before(text, match.start())
        found.append(_months(match, int(year or 0), 1 if first else 7, 6 if first else 12))
    found += [_of(one, text) for one in whens_in(text)]
    for match in _YEAR.finditer(text):
        year = int(match["y"])
        found.append(Period(match[0], date(year, 1, 1), date(year, 12, 31), frozenset(), *match.span()))
    return found


def _year_before(text: str, place: int) -> str | None:
    found = re.search(r"(\d{4})\s*年\s*的?\s*$", text[:place])
    return found[1] if found else None


def _months(match: re.Match[str], year: int, first: int, last: int) -> Period:
    months = frozenset(range(first, last + 1))
    if not year:
        return Period(match[0], None, None, months, *match.span())
    end = calendar.monthrange(year, last)[1]
    return Period(match[0], date(year, first, 1), date(year, last, end), months, *match.span())


def _of(found: FoundWhen, text: str) -> Period:
    first, last = days_of(found.when)
    months = frozenset({found.when.month}) if found.when.month else frozenset()
    return Period(text[found.start : found.end], first, last, months, found.start, found.end)


def _joined(units: list[Period], text: str) -> list[Period]:
    """Units with the words around them: "before", "since", "from … to …"."""
    periods: list[Period] = []
    place = 0
    while place < len(units):
        one = units[place]
        before, after = text[: one.start], text[one.end :]
        following = units[place + 1] if place + 1 < len(units) else None
        opens = _SINCE.search(before) or _BETWEEN.search(before)
        joint = text[one.end : following.start] if following else ""
        is_range = _TO.fullmatch(joint) and (opens or not re.search(r"and|[和与]", joint, re.I))
        if following and is_range and (joint.strip() or False):
            periods.append(_range(one, following, text))
            place += 2
            continue
        if _BEFORE.search(before):
            ends = re.search(r"(?:until|up to|by|end of)\s*(?:the\s+)?$", before, re.I)
            last = one.last if ends else one.first and _moved(one.first, -1)
            one = Period(one.text, None, last, frozenset(), one.start, one.end)
        elif _HAN_BEFORE.match(after):
            last = one.first and _moved(one.first, -1)
            one = Period(one.text, None, last, frozenset(), one.start, one.end)
        elif _AFTER.search(before) or _HAN_AFTER.match(after):
            whole = (one.first and one.last and one.first == one.last) or _AFTER.search(before)
            first = one.last and _moved(one.last, 1) if whole else one.first
            one = Period(one.text, first, None, frozenset(), one.start, one.end)
        elif re.search(r"\bsince\s*(?:the\s+)?$", before, re.I) or _HAN_SINCE.match(after):
            one = Period(one.text, one.first, None, frozenset(), one.start, one.end)
        periods.append(one)
        place += 1
    return periods


def _moved(day: date, days: int) -> date:
    """The day `days` later; the first or the last of the calendar where it ends before."""
    return date.fromordinal(min(max(day.toordinal() + days, 1), date.max.toordinal()))


def _range(one: Period, other: Period, text: str) -> Period:
    written = text[one.start : other.end]
    first, last = one.first, other.last
    if one.months and other.months and first is None and last is not None:
        year = last.year if min(one.months) <= last.month else max(1, last.year - 1)
        first = date(year, min(one.months), 1)
    months: frozenset[int] = frozenset()
    if first is None and last is None and one.months and other.months:
        months = frozenset(range(min(one.months), max(other.months) + 1))
    elif first is not None and last is None and other.months:
        month = max(other.months)
        last = date(first.year, month, calendar.monthrange(first.year, month)[1])
    return Period(written, first, last, months, one.start, other.end)

"""Ranges as tables and clauses write them ("1–3 年", "≥ 10", "up to 5 kg", "第 11 天至第 60 天"), and what falls in."""

# ruff: noqa: E501  (patterns read better whole)

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from kun.knowledge.computation.concepts import unit_kind
from kun.tools.values import NUMBER_WORD, quantity_of

UNIT = (
    r"个月|小时|分钟|公斤|千克|公里|千米|平方米|立方米|毫升|厘米|万元|工作日|个工作日|天|日|周|年|月|岁|元|人|件|个|台|份|杯|吨|克|米|升|斤|页|次|级|度|℃|°C"
    r"|%|€|\$|£|km/h|kg|km|kWh|cm|mm|ml|m²|m³|g|t|m|l|h|(?:working |business |calendar )?days?|hours?|minutes?|months?|weeks?|years?|euros?|EUR|USD|CNY|GBP|yuan|dollars?|pounds?|kilos?|kilograms?"
    r"|grams?|met(?:re|er)s?|kilomet(?:re|er)s?|miles?|tonnes?|tons?|people|persons?|guests?|pieces?|pcs|items?|units?|copies|pages?|cups?|nights?|lit(?:re|er)s?|seats?"
)
_N = rf"(?:第\s*|the\s+)?(?:EUR|USD|CNY|GBP|RMB|[€$£¥￥])?\s*(?P<{{0}}>{NUMBER_WORD})(?:st|nd|rd|th)?\s*(?P<{{1}}>(?:{UNIT})(?![A-Za-z]))?"
_A, _B = _N.format("a", "u"), _N.format("b", "v")
_ABOVE = r"(?:及|或|和)?以上(?:的)?|起(?!\w)|\+|\s+(?:or|and)\s+(?:more|over|above|up|longer|older|heavier|upwards?)|\s*(?:upwards?)"
_BELOW = r"(?:及|或|和)?以[下内]|之内|\s+(?:or|and)\s+(?:less|fewer|under|below|younger)|为止"
_FORMS: tuple[tuple[str, str, str], ...] = (
    # between two numbers: the pattern, whether the low one and the high one are in
    (rf"(?:超过|大于|多于|高于|more than|over|above|>)\s*{_A}\s*(?:，|,|但|且|而|的)*\s*(?:到|至|并|and|but|to|,|–|—|-|~)*\s*(?:不超过|不大于|不多于|至多|up to|no more than|not more than|at most|≤|<=)?\s*{_B}(?:\s*以[下内])?", ">", "<="),
    (rf"(?:(?<![不未])满|已满|至少|不少于|不低于|from|at least|≥|>=)?\s*{_A}\s*(?:及|或)?(?:以上)?\s*(?:，|,|但|且|而)*\s*(?:不满|不足|未满|不到|少于|低于|to under|to less than|but under|but less than|and under|to below|<)\s*{_B}", ">=", "<"),
    (rf"(?:从|自|between|from)?\s*{_A}\s*(?:到|至|–|—|−|-|~|～|\bto\b|\bthrough\b|\band\b)\s*{_B}(?!\d)(?:\s*(?:之间|以[下内]))?", ">=", "<="),
)  # fmt: skip
_BETWEEN = tuple((re.compile(form, re.IGNORECASE), low, high) for form, low, high in _FORMS)
_ONE = tuple(
    (re.compile(form, re.IGNORECASE), sign)
    for form, sign in (
        (
            rf"(?:不超过|不多于|不高于|不大于|至多|最多|前|≤|<=|up to|at most|no more than|not more than|within|(?:the )?first|until|maximum|max\.?)\s*{_A}(?:\s*(?:以[下内]|之内))?",
            "<=",
        ),
        (
            rf"(?:不少于|不低于|不小于|至少|最少|(?<![不未])满|已满|≥|>=|at least|no less than|not less than|from|as of|minimum|min\.?)\s*{_A}(?:\s*(?:及|或|和)?以上|起|\s+(?:or|and) (?:more|over|above|up))?",
            ">=",
        ),
        (
            rf"(?:超过|大于|多于|高于|超出|more than|over|above|greater than|longer than|after|beyond|exceeding|>)\s*{_A}(?:\s*以上)?",
            ">",
        ),
        (
            rf"(?:不足|不满|未满|不到|少于|低于|小于|less than|fewer than|under|below|shorter than|<)\s*{_A}",
            "<",
        ),
        (rf"{_A}\s*(?:{_ABOVE})", ">="),
        (rf"{_A}\s*(?:{_BELOW})", "<="),
    )
)

_LENGTHS = {
    "year": re.compile(r"年|岁|years?", re.IGNORECASE),
    "month": re.compile(r"个?月|months?", re.IGNORECASE),
    "week": re.compile(r"周|weeks?", re.IGNORECASE),
    "person": re.compile(r"人|people|persons?|guests?", re.IGNORECASE),
    "piece": re.compile(r"items?|units?|台|pcs", re.IGNORECASE),
    "night": re.compile(r"nights?|晚", re.IGNORECASE),
}


@dataclass(frozen=True)
class Range:
    """The numbers between `low` and `high`, None where it is open; `unit` is the plain name of theirs."""

    low: Decimal | None
    high: Decimal | None
    with_low: bool = True
    with_high: bool = True
    unit: str = ""
    start: int = 0
    end: int = 0

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Decimal):
            return False
        above = self.low is None or value > self.low or (self.with_low and value == self.low)
        below = self.high is None or value < self.high or (self.with_high and value == self.high)
        return above and below


@lru_cache(maxsize=8192)
def range_of(text: str) -> Range | None:
    """The range that a cell or a column's name is, with at most some words around it; None for what is none."""
    plain = text.strip()
    if len(plain) > 60 or not re.search(r"\d|[一二两三四五六七八九十百]", plain):
        return None
    found = ranges_in(plain)
    if len(found) != 1 or found[0].end - found[0].start < 0.5 * len(re.sub(r"\s|[(（].*?[)）]", "", plain)):
        return None
    return found[0]


def ranges_in(text: str) -> list[Range]:
    """The ranges within a text, in order, none over another."""
    found: list[Range] = []
    for form, low, high in _BETWEEN:
        for match in form.finditer(text):
            a, b = quantity_of(match["a"]), quantity_of(match["b"])
            if a is None or b is None or a >= b or _is_date(text, match):
                continue
            _keep(
                found,
                Range(a, b, low == ">=", high == "<=", length_unit(match["v"] or match["u"]), *match.span()),
            )
    for one, sign in _ONE:
        for match in one.finditer(text):
            a = quantity_of(match["a"])
            if a is None or _is_date(text, match):
                continue
            unit = length_unit(match["u"])
            if sign in (">", ">="):
                _keep(found, Range(a, None, sign == ">=", True, unit, *match.span()))
            else:
                _keep(found, Range(None, a, True, sign == "<=", unit, *match.span()))
    return sorted(found, key=lambda one: one.start)


def _is_date(text: str, match: re.Match[str]) -> bool:
    """True for years and months of the calendar ("2025-2026", "4 月至 6 月"), which are no lengths."""
    number = quantity_of(match["a"])
    plain_month = (match["u"] or "") in ("月", "日") or text[match.end() : match.end() + 1] == "月"
    return plain_month or (number is not None and 1900 <= number <= 2100 and not match["u"])


def _keep(found: list[Range], one: Range) -> None:
    if not any(other.start < one.end and one.start < other.end for other in found):
        found.append(one)


def length_unit(text: str | None) -> str:
    """The plain name of a length's unit, "" for none."""
    plain = re.sub(r"^个?工作|^(?:working|business|calendar) ", "", text or "", flags=re.IGNORECASE)
    own = next((name for name, form in _LENGTHS.items() if form.fullmatch(plain)), "")
    return own or (unit_kind(plain) if plain else "")


def same_length(one: str, other: str) -> bool:
    """True for units that may be of one measure; an unknown one may be any."""
    return not one or not other or length_unit(one) == length_unit(other)


def holding(value: Decimal, unit: str, ranges: Sequence[Range | None]) -> list[int]:
    """The places of the ranges that hold `value`: of those that are open at one end the tightest alone."""
    places = [
        place
        for place, one in enumerate(ranges)
        if one is not None and value in one and same_length(unit, one.unit)
    ]
    lows = [
        one.low for place in places if (one := ranges[place]) and one.high is None and one.low is not None
    ]
    highs = [
        one.high for place in places if (one := ranges[place]) and one.low is None and one.high is not None
    ]
    closed = [place for place in places if (one := ranges[place]) and None not in (one.low, one.high)]
    if closed:
        return closed
    if lows and not highs:
        return _with(places, ranges, max(lows), "low")
    if highs and not lows:
        return _with(places, ranges, min(highs), "high")
    return places


def _with(places: Iterable[int], ranges: Sequence[Range | None], edge: Decimal, end: str) -> list[int]:
    return [place for place in places if getattr(ranges[place], end) == edge]

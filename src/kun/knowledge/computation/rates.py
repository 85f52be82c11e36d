"""Numbers of the running text by which a table's sum is multiplied: a price a unit, minutes a lesson, a tax."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from kun.knowledge.computation.concepts import CONCEPTS, unit_kind
from kun.knowledge.computation.question import Asked
from kun.knowledge.computation.sheets import Sheet
from kun.tools.table_query import Measure
from kun.tools.values import decimal_of

_NUMBER = r"(?P<number>(?<!\d)(?<!\d,)\d++(?:,\d++)*+(?:\.\d++)?)"
_RATE = re.compile(
    rf"{_NUMBER}\s*(?P<unit>元|块|欧元|美元|分钟|小时|€|\$|£|euros?|EUR|dollars?|cents?|pounds?|yuan|minutes?|hours?|公里|km|克|grams?|g|kg|公斤)\s*(?:/|每|\bper\b|\ba\b|\ban\b|\bfor (?:each|every)\b|\beach\b)\s*(?P<per>[\u4e00-\u9fff]{{1,3}}|[a-zA-Z³²]+)",
    re.IGNORECASE,
)
_PER_RATE = re.compile(
    rf"(?:每一?(?:个)?|\b(?:each|every|a|an|one|per)\s+)(?P<per>[\u4e00-\u9fff]{{1,3}}?|[a-zA-Z³²]+)\s*+(?:[^\d。.;；\n]{{0,24}}?)\s*+{_NUMBER}\s*(?P<unit>元|块|欧元|美元|分钟|小时|€|\$|£|euros?|EUR|dollars?|cents?|pounds?|yuan|minutes?|hours?|公里|km|克|grams?|g|kg|公斤)",
    re.IGNORECASE,
)
_CURRENCY_FIRST = re.compile(
    r"(?P<unit>€|\$|£|EUR|USD|GBP)\s*(?P<number>\d[\d,]*(?:\.\d+)?)\s*(?:/|\bper\b|\ba\b|\ban\b|\beach\b)\s*(?P<per>[a-zA-Z³²]+)",
    re.IGNORECASE,
)
_TAX = re.compile(
    r"(?:增值税|税率|税点|营业税|消费税|VAT|sales tax|value[- ]added tax|\btax\b)[^\d%。.\n]{0,24}(?P<a>\d+(?:\.\d+)?)\s*%|(?P<b>(?<!\d)\d++(?:\.\d++)?)\s*%\s*(?:的)?\s*(?:of\s+)?(?:增值税|税|VAT|sales tax|tax|value[- ]added)",
    re.IGNORECASE,
)
_ASKS_TAX = re.compile(r"增值税|含税|加税|税后|连税|\bVAT\b|\btax(?:es)?\b|\bgross\b", re.IGNORECASE)
_WITHOUT_TAX = re.compile(
    r"不含(?:增值)?税|不加(?:增值)?税|税前|未税|without (?:the )?(?:VAT|tax)|excluding (?:VAT|tax)|\bnet of\b|before (?:VAT|tax)",
    re.IGNORECASE,
)
_DISCOUNT = re.compile(
    r"(?:折扣|优惠|减免|让利|discount|rebate|reduction)[^\d%。.\n]{0,24}(?P<a>\d+(?:\.\d+)?)\s*%|(?P<b>(?<!\d)\d++(?:\.\d++)?)\s*%\s*(?:的)?\s*(?:折扣|优惠|discount|rebate|off\b)|打(?P<c>[一二三四五六七八九])(?P<d>[一二三四五六七八九])?折",
    re.IGNORECASE,
)
_ASKS_DISCOUNT = re.compile(r"折扣|优惠|打折|折后|discount|rebate|\boff\b|reduced", re.IGNORECASE)


@dataclass(frozen=True)
class Factor:
    """A number to multiply by, the unit that comes out ("" where it stays), and the words that state it."""

    value: Decimal
    unit: str
    text: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Rate:
    """So much of `unit` for one `per`."""

    value: Decimal
    unit: str
    per: str
    text: str
    start: int
    end: int


def rates_in(text: str) -> Iterator[Rate]:
    """The rates that a text states ("4.10 元/吨", "每节课 40 分钟", "0.35 euros per km")."""
    for form in (_RATE, _PER_RATE, _CURRENCY_FIRST):
        for match in form.finditer(text):
            value = decimal_of(match["number"])
            if value is not None:
                yield Rate(value, match["unit"], match["per"], " ".join(match[0].split()), *match.span())


def factors_for(asked: Asked, sheet: Sheet, measure: Measure) -> tuple[Factor, ...]:
    """The factors that the question wants a sum multiplied by: a price of the text, tax, a discount."""
    factors = []
    is_money = bool(CONCEPTS["money"].search(measure.unit) or CONCEPTS["money"].search(measure.label))
    wants_money = bool(CONCEPTS["money"].search(asked.text))
    if wants_money and not is_money:
        rate = next(
            (one for one in rates_in(sheet.text) if _fits(one, measure) and unit_kind(one.unit) == "money"),
            None,
        )
        if rate is not None:
            factors.append(Factor(rate.value, rate.unit, rate.text, rate.start, rate.end))
            is_money = True
    if is_money and _ASKS_DISCOUNT.search(asked.text) and (found := _DISCOUNT.search(sheet.around)):
        factors.append(Factor(_after_discount(found), "", " ".join(found[0].split())))
    if (
        is_money
        and _ASKS_TAX.search(asked.text)
        and not _WITHOUT_TAX.search(asked.text)
        and (found := _TAX.search(sheet.around))
    ):
        percent = Decimal(found["a"] or found["b"])
        factors.append(Factor(1 + percent / 100, "", " ".join(found[0].split())))
    return tuple(factors)


def _after_discount(match: re.Match[str]) -> Decimal:
    if match["c"]:
        tens = "零一二三四五六七八九".index(match["c"])
        ones = "零一二三四五六七八九".index(match["d"]) if match["d"] else 0
        return (Decimal(tens) * 10 + ones) / 100
    return 1 - Decimal(match["a"] or match["b"]) / 100


def _fits(rate: Rate, measure: Measure) -> bool:
    """True for a rate of the measure's own unit."""
    return unit_kind(rate.per) == unit_kind(measure.unit) and bool(measure.unit)

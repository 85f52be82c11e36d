"""Calculations over facts in running text: a date and a term, a length in another unit, a payment that repeats."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import islice

from kun.errors import BadInput
from kun.knowledge.computation.concepts import CONCEPTS, unit_kind
from kun.knowledge.computation.question import Asked
from kun.knowledge.computation.sheets import Sheet
from kun.text.sentences import sentences
from kun.text.words import STOP_WORDS, words
from kun.tools.dates import Length, lengths_in, shifted
from kun.tools.units import converted
from kun.tools.values import NUMBER_WORD, When, decimal_of, quantity_of, whens_in

_ASKS_DATE = re.compile(
    r"最晚|最迟|几月几[日号]|哪(?:一)?[天日]|什么时候|何时|截止|到期|期限到|\blast day\b|\blatest\b|\bby when\b|\b(?:what|which) (?:date|day)\b|\bwhen\b|\bdeadline\b|\buntil when\b",
    re.IGNORECASE,
)
_CONVERTS = re.compile(
    r"折合|换算|相当于|合(?:计)?(?:多少|几)|(?:是|有|等于|共)(?:多少|几)\s*(?:天|周|个?月|小时|分钟|公里|米|公斤|克|升|毫升)|\bhow many (?:days|weeks|months|hours|minutes|seconds|kilomet(?:re|er)s|met(?:re|er)s|kilograms|kilos|grams|litres|millilitres|km|kg|ml)\b"
    r"|\bin (?:days|weeks|hours|minutes|seconds|kilomet(?:re|er)s|met(?:re|er)s|kilograms|kilos|grams|litres|millilitres|km|kg|ml|miles|pounds|inches|centimet(?:re|er)s|cm)\b|\bconvert",
    re.IGNORECASE,
)
_EXPLICIT = re.compile(
    r"折合|换算|相当于|\bin (?:days|weeks|hours|minutes|seconds|[a-z]*met(?:re|er)s|kilo\w*|grams|litres|km|kg|ml|miles|pounds|inches|cm)\b|\bconvert",
    re.IGNORECASE,
)
_AVERAGES = re.compile(r"平均|\baverage\b|\bmean\b", re.IGNORECASE)
_WANTED_UNIT = re.compile(
    r"(?:多少|几|折合成?|换算成|相当于多少)\s*(?P<zh>个月|月|天|周|小时|分钟|秒|公里|千米|公斤|千克|毫升|厘米|平方米|克|米|升|斤)"
    r"|\b(?:how many|in)\s+(?P<en>days|weeks|months|hours|minutes|seconds|kilomet(?:re|er)s|met(?:re|er)s|kilograms|kilos|grams|litres|millilitres|km|kg|ml|miles|pounds|inches|centimet(?:re|er)s|cm)\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    rf"(?P<number>{NUMBER_WORD})\s*(?P<unit>个月|小时|分钟|公里|千米|英里|公斤|千克|毫升|厘米|秒|天|周|年|克|米|升|斤|吨|months?|weeks?|days?|years?|hours?|minutes?|seconds?|kilomet(?:re|er)s?|met(?:re|er)s?|kilograms?|kilos?|grams?|litres?|liters?|millilitres?|km|kg|ml|miles?|pounds?|inches|inch|centimet(?:re|er)s?|cm|mm|tonnes?|tons?|m|g|l)(?![a-zA-Z])",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"(?P<number>(?<!\d)(?<!\d,)\d++(?:,\d++)*+(?:\.\d++)?)\s*(?P<unit>万元|元|块钱|块|欧元|美元|euros?|EUR|€|dollars?|USD|\$|pounds?|£|yuan|CNY)(?![a-zA-Z])|(?P<unit2>€|\$|£|EUR|USD|GBP|CNY|RMB|¥|￥)\s*(?P<number2>\d[\d,]*+(?:\.\d++)?)",
    re.IGNORECASE,
)
_PER = {
    "month": re.compile(r"每个?月|月租|月费|按月|\bmonthly\b|\b(?:each|per|a|every) month\b", re.IGNORECASE),
    "week": re.compile(r"每周|每星期|周租|\bweekly\b|\b(?:each|per|a|every) week\b", re.IGNORECASE),
    "year": re.compile(
        r"每年|年费|一年一次|\byearly\b|\bannual(?:ly)?\b|\b(?:each|per|a|every) year\b", re.IGNORECASE
    ),
    "day": re.compile(r"每天|每日|日租|\bdaily\b|\b(?:each|per|a|every) day\b", re.IGNORECASE),
    "quarter": re.compile(r"每季度?|\bquarterly\b|\b(?:each|per|a|every) quarter\b", re.IGNORECASE),
}
_PERIODS = re.compile(
    rf"(?P<number>{NUMBER_WORD})\s*(?P<unit>个月|个季度|季度|周|星期|天|年|months?|weeks?|days?|years?|quarters?)(?![a-zA-Z])"
    r"|(?P<half>半年|\bhalf a year\b)|(?P<year>全年|整年|\b(?:a|one|the|whole|full) (?:whole |full )?year\b|\bper year\b|\bannually\b)|(?P<whole>整个[\u4e00-\u9fff]{0,3}期间?|(?:租期|合同期|期)内?(?:一共|总共|共|合计)|\b(?:whole|entire|full) (?:term|period|contract|lease|rental)\b|\bover the term\b|\bfor the (?:whole|entire) )",
    re.IGNORECASE,
)
_TERM = re.compile(
    r"租期|合同期|期限|有效期|会籍|会期|聘期|学期|\bterm\b|\bruns? for\b|\bfor a period of\b|\blasts?\b|\bduration\b",
    re.IGNORECASE,
)
_LESS = re.compile(
    r"提前|之前|以前|前(?:通知|提出|告知)|\bbefore\b|\bprior to\b|\bin advance\b|\bahead of\b", re.IGNORECASE
)
_MORE = re.compile(
    r"后|之内|以内|内\b|\bafter\b|\bfrom\b|\bwithin\b|\bof receipt\b|\bsince\b|\bonce\b", re.IGNORECASE
)
_SHARE = re.compile(
    r"百分之(?P<a>[零一二两三四五六七八九十百\d.]+)|千分之(?P<b>[零一二两三四五六七八九十\d.]+)|万分之(?P<c>[零一二两三四五六七八九十\d.]+)|(?P<d>(?<!\d)\d++(?:\.\d++)?)\s*(?:%|per ?cent\b)|(?P<e>[一二三四五六七八九])成",
    re.IGNORECASE,
)
_QUANTITY_WORDS = re.compile(
    r"折合成?|换算成?|一共|总共|合计|多少|几|是|天|周|个?月(?!费|租|供|薪)|小时|分钟|最晚|最迟|号|日|\b(?:how|many|much|days?|weeks?|months?|hours?|minutes?|last|latest|total|altogether|date)\b",
    re.IGNORECASE,
)
_MOST_QUANTITIES = 200  # of a sentence that are looked at: each is held against the question's words
_MONTHS_OF = {"month": 1, "quarter": 3, "year": 12}
_DAYS_OF = {"day": 1, "week": 7}


@dataclass(frozen=True)
class Fact:
    """A calculation over running text: `shown` is its formula, `spans` the places that it rests on."""

    kind: str
    source: str
    score: float
    value: Decimal | None = None
    unit: str = ""
    day: date | None = None
    without_year: bool = False
    shown: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    program: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sentence:
    text: str
    start: int
    end: int
    terms: frozenset[str]


def _terms(text: str) -> frozenset[str]:
    return frozenset(one for one in words(text) if one not in STOP_WORDS and not re.fullmatch(r"\d+", one))


def _sentences(text: str) -> list[_Sentence]:
    return [
        _Sentence(piece[0], start + piece.start(), start + piece.end(), _terms(piece[0]))
        for start, end in sentences(text)
        for piece in re.finditer(r"[^；;]*[；;]|[^；;]+", text[start:end])
    ]


def may_want_fact(question: str) -> bool:
    """True where a question has words for a date to find, a unit to convert to, or periods to pay for."""
    return any(form.search(question) for form in (_ASKS_DATE, _CONVERTS, _PERIODS))


def facts(asked: str, reading: Asked | None, sheet: Sheet) -> list[Fact]:
    """The calculations over a document's running text that a question may want, best first."""
    given = _sentences(sheet.text) if not sheet.tables else _sentences(sheet.around)
    if not given or len(given) > 20_000:
        return []
    title = _terms(sheet.title)
    wanted = _terms(_QUANTITY_WORDS.sub(" ", asked)) - title
    found = [*_deadlines(asked, wanted, given, sheet), *_conversions(asked, wanted, given, sheet)]
    if CONCEPTS["money"].search(asked):
        found += _repeated(asked, reading, wanted, given, sheet)
        found += _shares(asked, wanted, given, sheet)
    return sorted(found, key=lambda one: -one.score)


def _ranked(wanted: frozenset[str], given: Sequence[_Sentence]) -> Iterator[tuple[float, int]]:
    """Sentences by the words they share with the question, rare ones weighing more; the next one lends half of its own."""
    counts: dict[str, int] = {}
    for one in given:
        for term in one.terms:
            counts[term] = counts.get(term, 0) + 1
    own = [sum(1 / counts[term] ** 0.5 for term in one.terms & wanted) for one in given]
    scored = [
        (score + 0.3 * (own[place - 1] if place else 0), place)
        for place, score in enumerate(own)
        if score > 0
    ]
    yield from sorted(scored, key=lambda one: (-one[0], one[1]))


def _deadlines(
    asked: str, wanted: frozenset[str], given: Sequence[_Sentence], sheet: Sheet
) -> Iterator[Fact]:
    """ "Received on 21 April, to be paid when": the date of the question and the term of the text."""
    whens = [one for one in whens_in(asked) if one.when.month and one.when.day]
    if len(whens) != 1 or not _ASKS_DATE.search(asked):
        return
    when = whens[0].when
    for score, place in list(_ranked(wanted, given))[:4]:
        one = given[place]
        lengths = (found for found in lengths_in(one.text) if found.unit != "year" or "第" not in one.text)
        length = next(lengths, None) if len(one.terms & wanted) > 1 else None
        if length is None:
            continue
        back = bool(_LESS.search(one.text)) and not _MORE.search(
            one.text[: length.start] + one.text[length.end : length.end + 12]
        )
        year = when.year or _year_of(sheet.text)
        start = When(year, when.month, when.day).date if year else None
        if start is None:
            continue
        try:
            day = shifted(start, length, back=back)
        except BadInput:  # the calendar ends before
            continue
        shown = f"{start.isoformat()} {'−' if back else '+'} {length.text} = {day.isoformat()}"
        yield Fact(
            "deadline", sheet.source, 1.0 + min(score, 2.0), day=day, without_year=not when.year, shown=shown,
            spans=((one.start, one.end),), program={"operation": "date", "from": start.isoformat(), "shift": ("-" if back else "+") + length.text},
        )  # fmt: skip
        return


def _year_of(text: str) -> int:
    years = re.findall(r"(?<!\d)(20\d{2}|19\d{2})(?!\d)", text)
    return int(max(set(years), key=years.count)) if years else 2023


def _conversions(
    asked: str, wanted: frozenset[str], given: Sequence[_Sentence], sheet: Sheet
) -> Iterator[Fact]:
    """A length, weight or time of the text in the unit that is asked for, where the text has it in another."""
    target = _WANTED_UNIT.search(asked)
    if not target or not _CONVERTS.search(asked) or list(whens_in(asked)) or _AVERAGES.search(asked):
        return
    unit = (target["zh"] or target["en"]).removeprefix("个")
    for score, place in list(_ranked(wanted, given))[:2]:
        one = given[place]
        shared = one.terms & wanted
        quantities = list(islice(_QUANTITY.finditer(one.text), _MOST_QUANTITIES))
        explicit = _EXPLICIT.search(asked)
        if len(shared) < (1 if explicit else 2) or not quantities or score < 0.5:
            continue
        if not explicit and all(_nearness(one.text, match.start(), shared) > 40 for match in quantities):
            continue
        if any(
            unit_kind(match["unit"]) == unit_kind(unit) or match["unit"].startswith(unit)
            for match in quantities
        ):
            return  # the text has it already: nothing to calculate
        near = sorted(quantities, key=lambda match: _nearness(one.text, match.start(), shared))
        for match in near:
            number = quantity_of(match["number"])
            value = converted(number, match["unit"], unit) if number is not None else None
            if value is None:
                continue
            shown = f"{match['number']} {match['unit']} = {value.normalize():f} {unit}"
            yield Fact(
                "conversion", sheet.source, 0.8 + min(score, 2.0) * 0.6, value, unit, shown=shown, spans=((one.start, one.end),),
                program={"operation": "convert", "value": match["number"], "from": match["unit"], "to": unit},
            )  # fmt: skip
            return


def _nearness(text: str, place: int, shared: frozenset[str]) -> int:
    plain = text.lower()
    places = [plain.find(term) for term in shared if term in plain]
    return min((abs(place - one) for one in places), default=1000)


@dataclass(frozen=True)
class _Payment:
    value: Decimal
    unit: str
    per: str
    terms: frozenset[str]
    sentence: _Sentence


def _payments(given: Sequence[_Sentence]) -> Iterator[_Payment]:
    """The amounts of a text that are due again and again, with the words around each."""
    for one in given:
        matches = list(_MONEY.finditer(one.text))
        for place, match in enumerate(matches):
            value = decimal_of(match["number"] or match["number2"])
            if value is None:
                continue
            if (match["unit"] or "") == "万元":
                value *= 10_000
            first = matches[place - 1].end() if place else 0
            last = matches[place + 1].start() if place + 1 < len(matches) else len(one.text)
            around = one.text[first:last]
            per = next((name for name, form in _PER.items() if form.search(around)), "")
            unit = match["unit"] or match["unit2"] or ""
            yield _Payment(value, "元" if unit == "万元" else unit, per, _terms(around), one)


def _repeated(
    asked: str, reading: Asked | None, wanted: frozenset[str], given: Sequence[_Sentence], sheet: Sheet
) -> Iterator[Fact]:
    """ "Twelve months, rent and advance": the payments that the question names, times the periods."""
    periods = _PERIODS.search(asked)
    if not periods:
        return
    excluded = frozenset[str]()
    for start, end in reading.excludes if reading else ():
        clause = re.split(r"[，,。；;?？]", asked[end:])[0]
        before = re.split(r"[，,。；;?？]", asked[:start])[-1]
        excluded |= _terms(clause if clause.strip() else before)
    own = (
        wanted
        - excluded
        - _terms(periods[0])
        - {"pay", "euro", "元", "一共", "多少", "month", "year", "week"}
    )
    common = {term for term in own if sum(term in one.terms for one in given) > max(2, 0.3 * len(given))}
    own -= common
    chosen = []
    for one in _payments(given):
        shared = one.terms & own
        if one.per and shared and not (one.terms & excluded) - own:
            chosen.append((len(shared), one))
    if not chosen:
        return
    per = max(chosen, key=lambda pair: pair[0])[1].per
    kept = [one for _, one in chosen if one.per == per]
    number, term = _number_of_periods(periods, per, given)
    if number is None:
        return
    total = sum((one.value for one in kept), Decimal(0))
    terms = " + ".join(f"{one.value:,f}" for one in kept)
    value = total * number
    shown = f"{f'({terms})' if len(kept) > 1 else terms} × {number.normalize():f} = {value:,f}"
    spans = tuple((one.sentence.start, one.sentence.end) for one in kept) + (
        ((term.start, term.end),) if term else ()
    )
    best = max(count for count, _ in chosen)
    yield Fact(
        "repeated", sheet.source, 0.9 + 0.3 * min(best, 3) + 0.1 * len(kept), value, kept[0].unit, shown=shown,
        spans=tuple(dict.fromkeys(spans)), program={"operation": "multiply", "terms": [str(one.value) for one in kept], "times": str(number)},
    )  # fmt: skip


def _number_of_periods(
    match: re.Match[str], per: str, given: Sequence[_Sentence]
) -> tuple[Decimal | None, _Sentence | None]:
    """The periods of kind `per` that the question speaks of; for the whole term, the text's own."""
    if match["half"]:
        return _in_periods(Decimal(1), "half", per), None
    if match["year"]:
        return _in_periods(Decimal(1), "year", per), None
    if match["whole"]:
        for one in given:
            if _TERM.search(one.text):
                for length in lengths_in(one.text):
                    number = _in_periods(Decimal(length.number), length.unit, per)
                    if number is not None:
                        return number, one
        return None, None
    number = quantity_of(match["number"])
    return (_in_periods(number, Length.unit_of(match["unit"]), per) if number else None), None


def _in_periods(number: Decimal, unit: str, per: str) -> Decimal | None:
    if unit == "half":
        number, unit = Decimal(6), "month"
    if unit in _MONTHS_OF and per in _MONTHS_OF:
        return number * _MONTHS_OF[unit] / _MONTHS_OF[per]
    if unit in _DAYS_OF and per in _DAYS_OF:
        return number * _DAYS_OF[unit] / _DAYS_OF[per]
    return None


def share_of(text: str) -> tuple[Decimal, str] | None:
    """The share that a text states, as a fraction, and its words."""
    match = _SHARE.search(text)
    if not match:
        return None
    number = next(one for one in match.groups() if one)
    value = quantity_of(number)
    if value is None:
        return None
    divisor = 10 if match["e"] else 1000 if match["b"] else 10_000 if match["c"] else 100
    return value / divisor, match[0]


def _shares(asked: str, wanted: frozenset[str], given: Sequence[_Sentence], sheet: Sheet) -> Iterator[Fact]:
    """A share that the text states, of an amount that the question gives or of the payments of its periods."""
    money = _MONEY.search(asked)
    periods = _PERIODS.search(asked)
    if not money and not periods:
        return
    for score, place in list(_ranked(wanted, given))[:2]:
        one = given[place]
        share = share_of(one.text)
        if share is None or len(one.terms & wanted) < 2 or _MONEY.search(one.text):
            continue
        factors, spans = [], [(one.start, one.end)]
        base: Decimal | None = decimal_of(money["number"] or money["number2"]) if money else None
        unit = (money["unit"] or money["unit2"]) if money else ""
        if base is not None:
            factors.append(f"{base:,f}")
            daily = _PER["day"].search(one.text)
            if (
                daily
                and periods
                and (
                    days := _in_periods(
                        quantity_of(periods["number"] or "") or Decimal(0),
                        Length.unit_of(periods["unit"] or ""),
                        "day",
                    )
                )
            ):
                base *= days
                factors.append(f"{days.normalize():f}")
        elif periods and periods["number"]:
            payment = next(
                (p for p in _payments(given) if p.per and not _SHARE.search(p.sentence.text)), None
            )
            number = _number_of_periods(periods, payment.per, given)[0] if payment else None
            if payment is None or number is None:
                continue
            base, unit = payment.value * number, payment.unit
            factors += [f"{payment.value:,f}", f"{number.normalize():f}"]
            spans.append((payment.sentence.start, payment.sentence.end))
        if base is None:
            continue
        value = base * share[0]
        shown = f"{' × '.join([*factors, share[1]])} = {value.normalize():f}"
        yield Fact(
            "share", sheet.source, 0.8 + min(score, 2.0) * 0.5, value, unit or "", shown=shown, spans=tuple(spans),
            program={"operation": "share", "of": factors, "share": str(share[0])},
        )  # fmt: skip
        return

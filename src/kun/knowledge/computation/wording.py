"""Calculations in the question's language: the answer in a sentence, and the calculation step by step."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from kun.knowledge.computation.cells import CellCount
from kun.knowledge.computation.concepts import CONCEPTS
from kun.knowledge.computation.facts import Fact
from kun.knowledge.computation.running import Outcome
from kun.tools.table_query import Condition
from kun.tools.values import when_of

_MONTHS = "January February March April May June July August September October November December".split()
_MOST_ODD = 3
_ZH_UNITS = {
    "h": "小时",
    "min": "分钟",
    "d": "天",
    "money": "元",
    "hours": "小时",
    "minutes": "分钟",
    "days": "天",
    "EUR": "欧元",
    "euros": "欧元",
}
_EN_UNITS = {
    "h": "hours",
    "min": "minutes",
    "d": "days",
    "元": "yuan",
    "小时": "hours",
    "分钟": "minutes",
    "天": "days",
    "周": "weeks",
    "度": "kWh",
    "吨": "tonnes",
    "斤": "jin",
    "公斤": "kg",
}


def number(value: Decimal, decimals: int | None = None) -> str:
    """A number as people write it: rounded where asked, or to two decimals where it does not end."""
    if decimals is None:
        exponent = value.normalize().as_tuple().exponent
        places = max(0, -exponent) if isinstance(exponent, int) else 0
        decimals = places if places <= 4 else 2
    rounded = value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded:,f}"


def unit_word(unit: str, chinese: bool) -> str:
    return (_ZH_UNITS if chinese else _EN_UNITS).get(unit, unit)


def with_unit(text: str, unit: str, chinese: bool) -> str:
    word = unit_word(unit, chinese)
    if not word:
        return text
    return f"{text}%" if word == "%" else f"{text} {word}"


def day_text(day: date, chinese: bool, without_year: bool = False) -> str:
    if chinese:
        return (
            f"{day.month} 月 {day.day} 日" if without_year else f"{day.year} 年 {day.month} 月 {day.day} 日"
        )
    return f"{day.day} {_MONTHS[day.month - 1]}" + ("" if without_year else f" {day.year}")


def month_text(key: str, chinese: bool) -> str:
    """ "2025-08" as people say it."""
    year, _, month = key.rpartition("-")
    if not month.isdigit() or len(month) != 2:
        return key
    name = f"{int(month)} 月" if chinese else _MONTHS[int(month) - 1]
    if not year or year == "0000":
        return name
    return f"{year} 年 {name}" if chinese else f"{name} {year}"


def answer_of(outcome: Outcome) -> str:
    """The answer in one sentence, without citations."""
    plan, asked = outcome.plan, outcome.plan.asked
    zh, decimals = asked.is_chinese, asked.decimals

    def shown(value: Decimal, unit: str = outcome.unit) -> str:
        digits = decimals if plan.kind in ("mean", "percent", "sum", "compare", "extreme") else None
        if digits is None:
            places = value.normalize().as_tuple().exponent
            is_long = isinstance(places, int) and places < -2
            rounds = plan.kind in ("mean", "percent") or CONCEPTS["money"].search(unit) is not None
            digits = 2 if is_long and rounds else None
        return with_unit(number(value, digits), unit, zh)

    def labelled(label: str) -> str:
        when = when_of(label) if plan.key_by in ("day", "month") else None
        if plan.key_by == "day" and when is not None and when.date is not None:
            return day_text(when.date, zh)
        return month_text(label, zh) if plan.key_by == "month" else label

    match plan.kind:
        case "percent":
            part, whole = outcome.part or (Decimal(0), Decimal(0))
            share = shown(outcome.values[0][1])
            return (
                f"占 {share}（{number(part)} / {number(whole)}）。"
                if zh
                else f"{share} ({number(part)} of {number(whole)})."
            )
        case "span":
            days = number(outcome.values[0][1])
            (a, first), (b, last) = outcome.day
            if zh:
                return f"相隔 {days} 天：{a} {day_text(first, zh)}，{b} {day_text(last, zh)}。"
            return f"{days} days: {a} on {day_text(first, zh)}, {b} on {day_text(last, zh)}."
        case "compare":
            (a, most), (b, least) = outcome.values
            if most == least:
                return (
                    f"{a}和{b}一样，都是 {shown(most)}。"
                    if zh
                    else f"{a} and {b} are equal: {shown(most)} each."
                )
            gap = shown(most - least)
            if asked.low or _asks_less(asked.text):
                (a, most), (b, least) = (b, least), (a, most)
                return (
                    f"{a}更少，少 {gap}（{shown(most)}，{b} {shown(least)}）。"
                    if zh
                    else f"{a}, by {gap} less ({shown(most)} against {shown(least)} in {b})."
                )
            return (
                f"{a}更多，多 {gap}（{shown(most)}，{b} {shown(least)}）。"
                if zh
                else f"{a}, by {gap} ({shown(most)} against {shown(least)} in {b})."
            )
        case "extreme":
            if outcome.day:
                names = [
                    f"{name}（{day_text(day, zh)}）" if zh else f"{name} ({day_text(day, zh)})"
                    for name, day in outcome.day
                ]
            else:
                names = [_named(labelled(label), shown(value), zh) for label, value in outcome.values]
            return ("，".join(names) + "。") if zh else (", ".join(names) + ".")
        case "mean":
            value = shown(outcome.values[0][1])
            return f"平均 {value}。" if zh else f"On average {value}."
        case "count":
            return f"{number(outcome.values[0][1])}。" if zh else f"{number(outcome.values[0][1])}."
        case "sum":
            value = shown(outcome.values[0][1])
            return f"一共 {value}。" if zh else f"Altogether {value}."


def _asks_less(text: str) -> bool:
    return any(word in text.lower() for word in ("更少", "少多少", " less ", " fewer ", "lower"))


def _named(label: str, value: str, zh: bool) -> str:
    if not label:
        return value
    return f"{label}（{value}）" if zh else f"{label} ({value})"


def calculation_of(outcome: Outcome) -> str:
    """The steps: which rows, which numbers, what was left out, what was multiplied."""
    plan = outcome.plan
    zh = plan.asked.is_chinese
    name = plan.table.name or plan.sheet.source
    where = (
        "；".join(_condition(one, zh) for one in plan.conditions)
        if zh
        else "; ".join(_condition(one, zh) for one in plan.conditions)
    )
    steps = []
    rows = f"{outcome.n_rows:,}"
    if zh:
        steps.append(f"表“{name}”：{where + '，' if where else ''}{rows} 行")
    else:
        steps.append(
            f"Table “{name}”: {where + ', ' if where else ''}{rows} {'row' if outcome.n_rows == 1 else 'rows'}"
        )
    if plan.part:
        part = "；".join(_condition(one, zh) for one in plan.part)
        steps.append(f"其中 {part}" if zh else f"of these {part}")
    if plan.quantity is not None:
        measure = plan.quantity.measure
        steps.append((measure.formula and f"{measure.label} = {measure.formula}") or measure.label)
    if outcome.per:
        steps.append(f"÷ {outcome.per}")
    steps += [
        f"× {one.value.normalize():f}（{one.text}）" if zh else f"× {one.value.normalize():f} ({one.text})"
        for one in outcome.factors
    ]
    if outcome.n_empty:
        steps.append(
            f"{outcome.n_empty} 行没有数，未计入"
            if zh
            else f"{outcome.n_empty} {'row has' if outcome.n_empty == 1 else 'rows have'} no number and {'is' if outcome.n_empty == 1 else 'are'} left out"
        )
    if outcome.odd:
        steps.append(odd_text(outcome.odd, zh))
    return ("；" if zh else "; ").join(steps) + ("。" if zh else ".")


def odd_text(odd: Sequence[tuple[int, str]], zh: bool) -> str:
    """Cells that are no numbers, by row and text."""
    named = [f"第 {row + 1} 行“{cell}”" if zh else f"row {row + 1} “{cell}”" for row, cell in odd[:_MOST_ODD]]
    more = len(odd) - len(named)
    if zh:
        return f"不是数字、未计入：{'，'.join(named)}{f' 等 {len(odd)} 处' if more > 0 else ''}"
    return f"no numbers, left out: {', '.join(named)}{f' and {more} more' if more > 0 else ''}"


def _condition(one: Condition, zh: bool) -> str:
    if one.text:
        name = one.column.name if one.column and one.test == "within" else ""
        return f"{name}{'：' if zh else ': '}{one.text.strip()}" if name else one.text
    name = one.column.name if one.column else ""
    values = (" / " if len(one.values) < 4 else ", ").join(one.values[:4]) + (
        " …" if len(one.values) > 4 else ""
    )
    sign = {"is": "=", "is not": "≠", "holds": "∋", "holds not": "∌"}.get(one.test, one.test)
    return f"{name} {sign} {values or one.number}"


def fault_of(outcome: Outcome) -> str:
    """The sentence for a calculation that has no result; its beginning says that the documents do not say it."""
    plan = outcome.plan
    zh = plan.asked.is_chinese
    name = plan.table.name or plan.sheet.source
    columns = ("、" if zh else ", ").join(column.name for column in plan.table.columns[:8])
    match outcome.fault:
        case "column":
            return (
                f"文档里没有提到这一项：表“{name}”里只有{columns}。"
                if zh
                else f"The documents do not say this: the table “{name}” has no such column, only {columns}."
            )
        case "rows":
            where = ("；" if zh else "; ").join(
                _condition(one, zh) for one in (*plan.conditions, *(c for _, c in plan.groups))
            )
            return (
                f"文档里没有这样的记录：表“{name}”里没有一行符合（{where}）。"
                if zh
                else f"The documents do not say this: no row of the table “{name}” fits ({where})."
            )
        case "numbers":
            odd = odd_text(outcome.odd, zh) if outcome.odd else ""
            return (
                f"文档里没有可以计算的数：表“{name}”里符合的行都没有数字。{odd}"
                if zh
                else f"The documents do not say this: the rows of the table “{name}” that fit hold no numbers. {odd}"
            ).strip()
        case _:
            return (
                "这里要除以零，所以没有结果：没有可以作分母的行。"
                if zh
                else "The documents do not say this: there is nothing to divide by, for no row counts towards the whole."
            )


def fact_answer(fact: Fact, chinese: bool, decimals: int | None) -> str:
    if fact.day is not None:
        day = day_text(fact.day, chinese, fact.without_year)
        return f"{day}。" if chinese else f"{day}."
    value = with_unit(number(fact.value or Decimal(0), decimals), fact.unit, chinese)
    return f"一共 {value}。" if chinese else f"{value}."


def cells_answer(found: CellCount, chinese: bool) -> tuple[str, str]:
    """The sentence and the calculation of a count of cells."""
    unit = found.rate.unit if found.rate else ""
    value = with_unit(number(found.value), unit, chinese)
    name = found.table.name or found.source
    if chinese:
        shown = f"表“{name}”：{'、'.join(found.columns)}中有“{found.word}”的格子 {found.count} 个"
        shown += f"；× {found.rate.value.normalize():f}（{found.rate.text}）" if found.rate else ""
        return f"一共 {value}。", shown + "。"
    shown = f"Table “{name}”: {found.count} cells with “{found.word}” in {', '.join(found.columns)}"
    shown += f"; × {found.rate.value.normalize():f} ({found.rate.text})" if found.rate else ""
    return f"{value}.", shown + "."

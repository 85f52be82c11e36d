"""A plan run over its table: the figures, the rows they are from, and each step in words."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

from kun.knowledge.computation.concepts import unit_kind, units_asked
from kun.knowledge.computation.plans import Plan
from kun.knowledge.computation.rates import Factor, factors_for
from kun.tools.columns import Column
from kun.tools.periods import days_of
from kun.tools.table_query import (
    Condition,
    Figure,
    Operation,
    figure,
    grouped,
    month_keys,
    ratio,
    rows_where,
)
from kun.tools.values import When

_HOURS = {("min", "h"): Decimal(60), ("h", "d"): Decimal(24)}


@dataclass(frozen=True)
class Outcome:
    """A plan's result. `values` are (label, figure) pairs, best first; `fault` is a reason why there is none."""

    plan: Plan
    values: tuple[tuple[str, Decimal], ...] = ()
    unit: str = ""
    rows: tuple[int, ...] = ()
    n_rows: int = 0
    odd: tuple[tuple[int, str], ...] = ()
    n_empty: int = 0
    part: tuple[Decimal, Decimal] | None = None
    day: tuple[tuple[str, date], ...] = ()
    per: int = 0
    factors: tuple[Factor, ...] = ()
    fault: str = ""
    program: Mapping[str, object] = field(default_factory=dict)


def run(plan: Plan) -> Outcome:
    """The outcome of a plan; `fault` is "column", "rows", "numbers", "nothing", "tie" or "lookup" where there is no figure."""
    if plan.missing:
        return Outcome(plan, fault=plan.missing, program=_program(plan))
    rows = rows_where(plan.table, plan.conditions)
    steps: dict[str, Callable[[Plan, list[int]], Outcome]] = {
        "percent": _percent, "span": _span, "compare": _compare, "extreme": _extreme,
    }  # fmt: skip
    outcome = steps.get(plan.kind, _plain)(plan, rows)
    if (
        len(rows) == 1
        and plan.kind in ("sum", "mean", "extreme", "percent")
        and not outcome.factors
        and not outcome.fault
    ):
        return replace(outcome, fault="lookup", program=_program(plan))
    return replace(outcome, program=_program(plan), n_rows=len(rows))


def _odd(plan: Plan, rows: Sequence[int]) -> tuple[tuple[int, str], ...]:
    if plan.quantity is None:
        return ()
    chosen = set(rows)
    return tuple(one for one in plan.quantity.measure.odd if one[0] in chosen)


def _empty_period(plan: Plan) -> bool:
    """True where a period of the question meets no row of the table at all."""
    return any(
        one.test == "within" and not rows_where(plan.table, [one])
        for one in (*plan.conditions, *(c for _, c in plan.groups))
    )


def _plain(plan: Plan, rows: list[int]) -> Outcome:
    if _empty_period(plan):
        return Outcome(plan, fault="rows")
    if plan.distinct is not None:
        return Outcome(plan, (("", Decimal(len(grouped(rows, _cells(plan.distinct))))),), "", tuple(rows))
    if plan.kind == "count":
        return Outcome(plan, (("", Decimal(len(rows))),), "", tuple(rows))
    if not rows:
        return Outcome(plan, fault="rows")
    measure = plan.quantity.measure if plan.quantity else None
    spread = plan.kind == "mean" and bool(plan.per_by)
    operation: Operation = "count" if measure is None else "sum" if plan.kind == "sum" or spread else "mean"
    got = figure(operation, rows, measure)
    if got is None:
        return Outcome(plan, fault="numbers", odd=_odd(plan, rows))
    value, unit, per = got.value, measure.unit if measure else "", 0
    if spread:
        per = _distinct(plan, rows)
        divided = ratio(value, Decimal(per))
        if divided is None:
            return Outcome(plan, fault="nothing")
        value = divided
    factors = factors_for(plan.asked, plan.sheet, measure) if measure and plan.kind == "sum" else ()
    for factor in factors:
        value, unit = value * factor.value, factor.unit or unit
    value, unit = _in_asked_unit(plan, value, unit)
    return Outcome(
        plan,
        (("", value),),
        unit,
        got.used,
        odd=_odd(plan, rows),
        n_empty=_n_empty(plan, got),
        per=per,
        factors=factors,
    )


def _n_empty(plan: Plan, got: Figure) -> int:
    odd = {row for row, _ in _odd(plan, got.empty)}
    reading = plan.quantity is not None and plan.quantity.is_reading
    return 0 if reading else sum(row not in odd for row in got.empty)


def _in_asked_unit(plan: Plan, value: Decimal, unit: str) -> tuple[Decimal, str]:
    """The value in the unit that the question asks for, where it is another of the same kind."""
    have = unit_kind(unit)
    for wanted in units_asked(plan.asked.text):
        if (have, wanted) in _HOURS:
            return value / _HOURS[have, wanted], wanted
        if (wanted, have) in _HOURS:
            return value * _HOURS[wanted, have], wanted
    return value, unit


def _distinct(plan: Plan, rows: Sequence[int]) -> int:
    if plan.per is None:
        return 0
    keys = month_keys(plan.per) if plan.per_by == "month" else _cells(plan.per)
    return len(grouped(rows, keys))


def _cells(column: Column) -> dict[int, str]:
    return {row: cell.strip() for row, cell in enumerate(column.cells)}


def _percent(plan: Plan, rows: list[int]) -> Outcome:
    chosen = set(rows_where(plan.table, plan.part))
    part = [row for row in rows if row in chosen]
    measure = plan.quantity.measure if plan.quantity else None
    operation: Operation = "sum" if measure else "count"
    whole_figure, part_figure = figure(operation, rows, measure), figure(operation, part, measure)
    if whole_figure is None:
        return Outcome(plan, fault="rows" if not rows else "numbers")
    got = part_figure.value if part_figure else Decimal(0)
    share = ratio(got, whole_figure.value)
    if share is None:
        return Outcome(plan, fault="nothing")
    return Outcome(
        plan,
        (("", share * 100),),
        "%",
        whole_figure.used,
        part=(got, whole_figure.value),
        odd=_odd(plan, rows),
    )


def _span(plan: Plan, rows: list[int]) -> Outcome:
    dates = plan.dates
    if dates is None:
        return Outcome(plan, fault="column")
    known = [(day, row) for row in rows if (day := _day(dates, row))]
    if len(known) < 2:
        return Outcome(plan, fault="rows")
    (first, a), (last, b) = min(known), max(known)
    label = _label_column(plan)
    named = tuple((label.cells[row] if label else "", day) for day, row in ((first, a), (last, b)))
    return Outcome(plan, (("", Decimal((last - first).days)),), "d", (a, b), day=named)


def _day(dates: Column, row: int) -> date | None:
    value = dates.values[row]
    return days_of(value)[0] if isinstance(value, When) and value.day else None


def _label_column(plan: Plan) -> Column | None:
    return plan.key or next((column for column in plan.table.of_kind("text")), None)


def _compare(plan: Plan, rows: list[int]) -> Outcome:
    measure = plan.quantity.measure if plan.quantity else None
    values: list[tuple[str, Decimal]] = []
    used: list[int] = []
    operation: Operation = "count" if measure is None else "mean" if "mean" in plan.asked.kinds else "sum"
    if plan.other is not None and measure is not None:
        for one in (measure, plan.other.measure):
            got = figure(operation, rows, one)
            if got is None:
                return Outcome(plan, fault="numbers" if rows else "rows", odd=_odd(plan, rows))
            values.append((one.label, got.value))
        values.sort(key=lambda one: -one[1])
        return Outcome(plan, tuple(values), measure.unit, tuple(rows), odd=_odd(plan, rows))
    for label, condition in plan.groups:
        chosen = [row for row in rows if condition.holds(row)]
        got = figure(operation, chosen, measure)
        if got is None or not chosen:
            return Outcome(plan, fault="rows" if not chosen else "numbers")
        value = got.value
        values.append((label.strip(), value))
        used += got.used
    unit = measure.unit if measure else ""
    values.sort(key=lambda one: -one[1])
    return Outcome(plan, tuple(values), unit, tuple(used), odd=_odd(plan, rows))


def _extreme(plan: Plan, rows: list[int]) -> Outcome:
    if _empty_period(plan) or not rows:
        return Outcome(plan, fault="rows")
    if plan.asked.on_dates and plan.dates is not None and plan.quantity is None:
        return _extreme_date(plan, rows, plan.dates)
    measure = plan.quantity.measure if plan.quantity else None
    key = plan.key
    if key is None:
        got = figure("least" if plan.asked.low else "most", rows, measure)
        if got is None:
            return Outcome(plan, fault="numbers", odd=_odd(plan, rows))
        return Outcome(
            plan, (("", got.value),), measure.unit if measure else "", got.used, odd=_odd(plan, rows)
        )
    groups = _keyed(plan, rows, key)
    operation: Operation = "count" if measure is None else "mean" if "mean" in plan.asked.kinds else "sum"
    scored = []
    for label, members in groups.items():
        got = figure(operation, members, measure)
        if got is not None:
            scored.append((label, got.value, members))
    if not scored:
        return Outcome(plan, fault="numbers", odd=_odd(plan, rows))
    scored.sort(key=lambda one: one[1] if plan.asked.low else -one[1])
    k = plan.asked.top
    edge = scored[min(k, len(scored)) - 1][1]
    top = [one for place, one in enumerate(scored) if place < k or one[1] == edge]
    if len(top) > max(2 * k, k + 4):
        return Outcome(plan, fault="tie")
    used = [row for _, _, members in scored for row in members]
    values = tuple((label, value) for label, value, _ in top)
    return Outcome(plan, values, measure.unit if measure else "", tuple(used), odd=_odd(plan, rows))


def _keyed(plan: Plan, rows: Sequence[int], key: Column) -> dict[str, list[int]]:
    if plan.key_by == "month":
        return grouped(rows, month_keys(_own_dates(plan, key)))
    if plan.key_by == "quarter":
        months = month_keys(_own_dates(plan, key))
        return grouped(rows, {row: _quarter(month) for row, month in months.items()})
    if plan.key_by == "row":
        labels = _cells(key)
        counts: dict[str, int] = {}
        named = {}
        for row in rows:
            label = labels[row] or f"#{row + 1}"
            counts[label] = counts.get(label, 0) + 1
            named[row] = label if counts[label] == 1 else f"{label} ({counts[label]})"
        return grouped(rows, named)
    return grouped(rows, _cells(key))


def _own_dates(plan: Plan, key: Column) -> Column:
    return plan.quantity.dates if plan.quantity and plan.quantity.dates else key


def _quarter(month: str) -> str:
    year, _, number = month.rpartition("-")
    return f"{year} Q{(int(number) + 2) // 3}".strip()


def _extreme_date(plan: Plan, rows: Sequence[int], dates: Column) -> Outcome:
    known = sorted(((day, row) for row in rows if (day := _day(dates, row))), reverse=not plan.asked.low)
    if not known:
        return Outcome(plan, fault="numbers")
    k = plan.asked.top
    label = _label_column(plan)
    named = tuple(
        (label.cells[row] if label else "", day) for day, row in known if day in {d for d, _ in known[:k]}
    )
    return Outcome(plan, (), "", tuple(row for _, row in known[: len(named)]), day=named)


def _program(plan: Plan) -> dict[str, object]:
    """The plan as JSON: the form in which a program is shown, and in which a model may write one."""
    return {
        "table": plan.table.name or plan.sheet.source,
        "operation": plan.kind,
        "measure": (plan.quantity.measure.formula or plan.quantity.measure.label)
        if plan.quantity
        else "rows",
        "where": [_condition(one) for one in plan.conditions],
        **({"part": [_condition(one) for one in plan.part]} if plan.part else {}),
        **({"groups": [_condition(one) for _, one in plan.groups]} if plan.groups else {}),
        **(
            {"by": plan.key_by if plan.key_by != "value" or not plan.key else plan.key.label}
            if plan.key_by
            else {}
        ),
        **(
            {"per": plan.per_by if plan.per_by != "value" or not plan.per else plan.per.label}
            if plan.per_by
            else {}
        ),
        **({"take": plan.asked.top} if plan.kind == "extreme" else {}),
    }


def _condition(one: Condition) -> dict[str, object]:
    name = one.column.label if one.column else one.measure.label if one.measure else ""
    value: object = list(one.values) or (
        str(one.number) if one.number is not None else one.period.text if one.period else one.text
    )
    return {"column": name, "test": one.test, "value": value}

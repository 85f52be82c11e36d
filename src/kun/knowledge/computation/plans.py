"""From a question and a table to the program that answers it, or the reason why none does."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kun.knowledge.computation.conditions import Tests, merged, period_test, tests_of
from kun.knowledge.computation.doubts import doubt
from kun.knowledge.computation.keys import key_of, per_of, title_score, without_title
from kun.knowledge.computation.matching import ValueHit, column_score, folded, label_score
from kun.knowledge.computation.measures import counts_a_unit, measure_for, without_names
from kun.knowledge.computation.question import Asked, Kind, kinds_in
from kun.knowledge.computation.sheets import Quantity, Sheet, quantities
from kun.tools.columns import Column, TypedTable
from kun.tools.periods import Period
from kun.tools.table_query import Condition

_LEAST = 0.5
_COUNTED = re.compile(
    r"\bhow many (?:different |distinct |various )?([a-z]+)|(?:多少|几)[个种家位名](?:不同的?)?([\u4e00-\u9fff]{2,4})",
    re.IGNORECASE,
)
_COUNTED_THING = re.compile(
    r"\bhow many (?:of the |of |different |distinct )?(?P<en>[a-z]+)|(?:多少|几)[个种条人家次位名笔份件张天](?P<zh>[\u4e00-\u9fff]{0,3})",
    re.IGNORECASE,
)
_ROWS = frozenset("rows records entries items times orders things cases lines days people persons of".split())
_BY_ROWS = re.compile(r"按(?:单数|笔数|条数|次数|人数|件数|数量)|\bby (?:number|count)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """A program over one table, ready to run."""

    asked: Asked
    sheet: Sheet
    table: TypedTable
    kind: Kind
    conditions: tuple[Condition, ...]
    score: float
    quantity: Quantity | None = None
    dates: Column | None = None
    groups: tuple[tuple[str, Condition], ...] = ()
    part: tuple[Condition, ...] = ()
    key: Column | None = None
    key_by: str = ""
    per: Column | None = None
    per_by: str = ""
    missing: str = ""
    other: Quantity | None = None
    distinct: Column | None = None

    @property
    def is_found(self) -> bool:
        return not self.missing


def plans(asked: Asked, sheet: Sheet) -> list[Plan]:
    """The plan of each table of a document, best first."""
    found = [plan for table in sheet.tables if (plan := _plan(asked, sheet, table)) is not None]
    return sorted(found, key=lambda plan: (not plan.is_found, -plan.score))


def _plan(asked: Asked, sheet: Sheet, table: TypedTable) -> Plan | None:
    given = quantities(table, sheet.around)
    tests = tests_of(asked, sheet, table, given)
    rest = _without(asked, tests, sheet)
    for kind in _kinds(asked, table, given):
        plan = _of_kind(kind, asked, sheet, table, given, tests, rest)
        if plan is not None:
            return plan
    return None


def _without(asked: Asked, tests: Tests, sheet: Sheet) -> str:
    """The question without values, periods and the document's title: what is left names the measure."""
    letters = list(asked.text)
    spans = [(hit.start, hit.end) for hit, _ in tests.hits if not hit.part]
    for start, end in [*spans, *((one.start, one.end) for one in asked.periods)]:
        letters[start:end] = " " * (end - start)
    return "".join(without_title("".join(letters), sheet.title))


def _kinds(asked: Asked, table: TypedTable, given: Sequence[Quantity]) -> list[Kind]:
    left = kinds_in(without_names(asked.text, table))
    kinds: list[Kind] = [kind for kind in ("percent", "span", "compare", "extreme", "mean") if kind in left]
    counts = "count" in left
    measured = counts and counts_a_unit(asked, given)
    if counts and not measured:
        kinds.append("count")
    elif "sum" in left or measured or asked.spent:
        kinds.append("sum")
    return kinds


def _of_kind(
    kind: Kind,
    asked: Asked,
    sheet: Sheet,
    table: TypedTable,
    given: Sequence[Quantity],
    tests: Tests,
    rest: str,
) -> Plan | None:
    quantity, sure = measure_for(asked, given, rest, kind)
    dates = (quantity.dates if quantity and quantity.dates else None) or tests.dates
    if tests.unmet:
        return None
    periods = tests.periods if dates is not None else ()
    named = max(column_score(name, "", rest) for name in quantity.names) if quantity else 0.0
    explicit = 0.3 if named >= 0.9 and kind in asked.kinds else 0.0
    unsure = doubt(asked, sheet, named, _anchored(asked, sheet, tests))
    if kind in ("sum", "mean") and named < 0.75 and unsure >= 0.6:
        quantity, sure = None, 0.0  # "overtime pay" is not whatever money the table has
    score = tests.score + min(sure, 1.2) + explicit - unsure
    base = Plan(asked, sheet, table, kind, (), score, quantity, dates)
    match kind:
        case "percent":
            return _percent(base, tests, periods, sure)
        case "span":
            return _span(base, tests, periods)
        case "compare":
            return _compare(base, tests, periods, given)
        case "extreme":
            return _extreme(base, tests, periods)
        case "mean":
            return _mean(base, tests, periods)
        case "count":
            return _count(base, tests, periods)
        case "sum":
            return _sum(base, tests, periods)


def _anchored(asked: Asked, sheet: Sheet, tests: Tests) -> bool:
    """True where the question has a value of the table, or a word of the document's title."""
    return any(not hit.part for hit, _ in tests.hits) or title_score(asked, sheet) > 0


def _within(periods: Sequence[Period], dates: Column | None) -> tuple[Condition, ...]:
    return tuple(period_test(one, dates) for one in periods) if dates else ()


def _percent(plan: Plan, tests: Tests, periods: Sequence[Period], sure: float) -> Plan | None:
    """The rows of the part among the rows of the whole, or their share of a measure."""
    hits, asked = list(tests.hits), plan.asked
    whole: list[tuple[ValueHit, Condition]] = []
    if tests.others:
        part = list(tests.others)
        whole = hits
    elif len(hits) > 1:
        place = _part_place(asked.text)
        nearest = min(hits, key=lambda one: _distance(one[0].start, one[0].end, place))
        same = [one for one in hits if one[0].column is nearest[0].column]
        part = merged(same)
        whole = [one for one in hits if one not in same]
    elif hits:
        part = merged(hits)
    else:
        return None
    # a part is chosen, never taken out: "which share was not cancelled" has its own test
    by_rows = bool(_BY_ROWS.search(asked.text)) or sure < 0.7
    quantity = None if by_rows else plan.quantity
    conditions = (*merged(whole), *_within(periods, plan.dates))
    return replace(plan, conditions=conditions, part=tuple(part), quantity=quantity)


def _part_place(text: str) -> int:
    """About where the question names the part: before 占, after "did" or at the end in English."""
    found = re.search(r"占", text)
    return found.start() if found else len(text)


def _distance(start: int, end: int, place: int) -> int:
    return place - end if end <= place else (start - place) + 1000


def _span(plan: Plan, tests: Tests, periods: Sequence[Period]) -> Plan | None:
    dates = plan.dates or next(iter(plan.table.of_kind("date")), None)
    if dates is None:
        return None
    named = [hit for hit, condition in tests.hits if condition.test == "is" and not hit.part]
    score = plan.score + max(0.3, column_score(dates.name, "", plan.asked.text))
    if len(named) == 2 and named[0].column is named[1].column:
        return replace(
            plan, conditions=tests.all, dates=dates, score=score, groups=_groups(tests, periods, dates)
        )
    if (
        len(
            re.findall(
                r"最|first|last|newest|oldest|earliest|latest|longest|most recent",
                plan.asked.text,
                re.IGNORECASE,
            )
        )
        >= 2
    ):
        return replace(plan, conditions=(*tests.all, *_within(periods, dates)), dates=dates, score=score)
    return None


def _groups(
    tests: Tests, periods: Sequence[Period], dates: Column | None
) -> tuple[tuple[str, Condition], ...]:
    """Two things to hold against each other: periods, else values of one column."""
    if len(periods) == 2 and dates is not None:
        return tuple((one.text, period_test(one, dates)) for one in periods)
    included = [(hit, condition) for hit, condition in tests.hits if condition.test == "is"]
    for hit, _ in included:
        same = [
            (one, condition)
            for one, condition in included
            if (one.column is hit.column and one.values != hit.values) or one is hit
        ]
        if len(same) == 2:
            return tuple(
                (", ".join(one.values) if not one.part else _common(one.values), c) for one, c in same
            )
    return ()


def _common(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else " / ".join(values[:3])


def _compare_columns(
    plan: Plan, tests: Tests, periods: Sequence[Period], given: Sequence[Quantity]
) -> Plan | None:
    """ "How many more adults than children": the sums of two columns."""
    named = [
        one
        for one in given
        if not one.measure.formula and column_score(one.names[0], "", plan.asked.text) >= 0.9
    ]
    if len(named) != 2:
        return None
    conditions = (*(one for one in tests.all if one.other is None), *_within(periods, plan.dates))
    return replace(plan, quantity=named[0], other=named[1], conditions=conditions, score=plan.score + 0.5)


def _compare(plan: Plan, tests: Tests, periods: Sequence[Period], given: Sequence[Quantity]) -> Plan | None:
    groups = _groups(tests, periods, plan.dates)
    if not groups:
        return _compare_columns(plan, tests, periods, given)
    chosen = {id(condition) for _, condition in groups}
    rest = [(hit, condition) for hit, condition in tests.hits if id(condition) not in chosen]
    by_period = groups[0][1].test == "within"
    conditions = (*merged(rest), *tests.others, *(() if by_period else _within(periods, plan.dates)))
    if plan.quantity is None and not _counts_rows(plan.asked):
        return None
    return replace(plan, groups=groups, conditions=conditions, score=plan.score + 0.5)


def _counts_rows(asked: Asked) -> bool:
    return bool(
        re.search(
            r"单|次|人|条|笔|件|次数|经常|\borders?\b|\btimes\b|\boften\b|\bfrequent|\bhow many\b|\bmembers?\b|\bentries\b|\bitems\b|\bproducts\b|\brecords\b|\bsamples\b|\bloans\b|\bvisits\b",
            asked.text,
            re.IGNORECASE,
        )
    )


def _extreme(plan: Plan, tests: Tests, periods: Sequence[Period]) -> Plan | None:
    asked, table = plan.asked, plan.table
    key, key_by, sure = key_of(plan.asked, plan.table, plan.dates)
    conditions = (*tests.all, *_within(periods, plan.dates))
    if asked.on_dates:
        dates = plan.dates or next(iter(table.of_kind("date")), None)
        if dates is None or (not key and not key_by):
            return None
        return replace(
            plan,
            conditions=conditions,
            dates=dates,
            quantity=None,
            key=key,
            key_by="row",
            score=plan.score + 0.4 + sure,
        )
    if plan.quantity is None and not (key or key_by):
        return None
    if plan.quantity is None and not _counts_rows(asked):
        return None
    return replace(plan, conditions=conditions, key=key, key_by=key_by, score=plan.score + sure)


def _mean(plan: Plan, tests: Tests, periods: Sequence[Period]) -> Plan | None:
    conditions = (*tests.all, *_within(periods, plan.dates))
    per, per_by = per_of(plan.asked, plan.table, plan.dates)
    if plan.quantity is None:
        if per_by and tests.score and _counts_rows(plan.asked):
            return replace(plan, conditions=conditions, per=per, per_by=per_by)
        return _missing(plan, tests, conditions)
    return replace(
        plan, conditions=conditions, per=per, per_by=per_by, score=plan.score + (0.3 if per_by else 0)
    )


def _missing(plan: Plan, tests: Tests, conditions: tuple[Condition, ...]) -> Plan | None:
    """A table that the question clearly speaks of, without a column for what it asks."""
    if tests.score < 0.9:
        return None
    return replace(plan, conditions=conditions, missing="column", score=tests.score)


def _count(plan: Plan, tests: Tests, periods: Sequence[Period]) -> Plan | None:
    conditions = (*tests.all, *_within(periods, plan.dates))
    distinct = _distinct(plan)
    if not conditions and distinct is None:
        return None
    noun = 0.5 if distinct else _noun_score(plan, tests)
    if noun is None:
        return None
    score = tests.score + noun - doubt(plan.asked, plan.sheet, 1.0, _anchored(plan.asked, plan.sheet, tests))
    return replace(plan, conditions=conditions, quantity=None, score=score, distinct=distinct)


def _distinct(plan: Plan) -> Column | None:
    """The column whose different values are counted: "how many customers" among the rows of their orders."""
    match = _COUNTED.search(plan.asked.text)
    word = next((one for one in match.groups() if one), "") if match else ""
    if not word:
        return None
    repeated = [column for column in plan.table.of_kind("text") if 1 < len(column.distinct) < plan.table.n]
    return next((column for column in repeated if column_score(column.name, "", word) >= 0.9), None)


def counted_thing(question: str) -> str:
    """The word for what a question counts ("how many days"); "" where it has none."""
    match = _COUNTED_THING.search(question)
    return (match["en"] or match["zh"] or "") if match else ""


def _noun_score(plan: Plan, tests: Tests) -> float | None:
    """More for a table whose name, columns or values are the thing counted; None where its rows are none of it.

    "How many parameters has BERT" reads a cell of BERT's row: a column that is no group of rows is not counted.
    """
    match = _COUNTED_THING.search(plan.asked.text)
    word = counted_thing(plan.asked.text)
    if not match or not word:
        return 0.0
    table = plan.table
    by_value = any(hit.start < match.end() and match.start() < hit.end for hit, _ in tests.hits)
    in_title = (
        folded(word) in folded(f"{plan.sheet.title} {table.name}")
        or column_score(word, "", f"{plan.sheet.title} {table.name}") > 0
    )
    own = [column for column in table.columns if column_score(column.name, "", word) >= 0.9]
    if own and not by_value and not in_title and table.columns[0] not in own:
        return None  # a property of the rows, not the rows
    if own or by_value or in_title:
        return 0.4
    if folded(word) in _ROWS or any(
        label_score(column, word) >= _LEAST for column in table.of_kind("text", "date")
    ):
        return 0.2
    return None if match["en"] else -0.3


def _sum(plan: Plan, tests: Tests, periods: Sequence[Period]) -> Plan | None:
    conditions = (*tests.all, *_within(periods, plan.dates))
    if plan.quantity is None:
        return _missing(plan, tests, conditions) if "sum" in plan.asked.kinds else None
    return replace(plan, conditions=conditions)

"""From the words of a question to tests of a table's rows: values, dates, numbers, one column against another."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from kun.knowledge.computation.concepts import CONCEPTS, unit_kind
from kun.knowledge.computation.matching import ValueHit, column_score, folded, same_unit, value_hits
from kun.knowledge.computation.question import Asked, Comparison
from kun.knowledge.computation.sheets import Quantity, Sheet
from kun.tools.columns import Column, TypedTable
from kun.tools.periods import Period, periods_in
from kun.tools.table_query import Condition, Test

_BACKWARD = re.compile(
    r"不算|不计|除外|之外|以外|do(?:es)? not count|don't count|left out|excluded|ignored|没有?算",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:不是|并非|没有?(?!月)|不含|不用|非|\bnot(?: \w+)?|n't(?: \w+)?|\bnon|\bno longer)\s*-?(?:被)?$",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[，,。；;？?！!]")
_LESS = r"低于|少于|小于|不足|不到|没(?:有)?达到|未达到|达不到|\bless\b.{0,30}?\bthan\b|\bfewer\b.{0,30}?\bthan\b|\bbelow\b|\bunder\b|\bsmaller than\b|\blower than\b|\bshort of\b"
_MORE = r"超过|大于|多于|高于|超出|\bmore\b.{0,30}?\bthan\b|\babove\b|\bover\b|\bexceed(?:s|ed|ing)?\b|\bgreater than\b|\bhigher than\b|\blarger than\b"
_AGAINST = re.compile(f"(?P<less>{_LESS})|(?P<more>{_MORE})", re.IGNORECASE)
_DIFFERENCE = re.compile(
    r"\bhow (?:many|much) (?:more|less|fewer)\b|多多少|少多少|相差|\bdifference\b", re.IGNORECASE
)
_NONE_LEFT = re.compile(
    r"一(?:件|个|只|本|点|瓶|盒)都?没有|缺货|断货|售罄|卖完|没货|库存为零|\bout of stock\b|\bsold out\b|\bnone (?:is |are )?left\b|\brun out\b",
    re.IGNORECASE,
)
_EMPTY = re.compile(
    r"没有?(?:交|付|缴|填|还|归还|登记|写)|未(?:交|付|缴|填|还|归还|登记)|尚未|还没|空着?的?|\bnot (?:yet )?(?:been )?(?:paid|returned|measured|filled|arrived|delivered|received|given)\b"
    r"|\bhave(?:n't| not) (?:yet )?(?:paid|returned|arrived)\b|\bhas(?:n't| not) (?:yet )?(?:paid|returned|arrived)\b|\bun(?:paid|returned)\b|\bmissing\b|\bempty\b|\bstill (?:owe|out)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Tests:
    """The tests of one table: by value hits, others; `unmet` words that ask for a test which no column can make."""

    hits: tuple[tuple[ValueHit, Condition], ...] = ()
    others: tuple[Condition, ...] = ()
    dates: Column | None = None
    unmet: tuple[str, ...] = ()
    score: float = 0.0
    periods: tuple[Period, ...] = ()

    @property
    def all(self) -> tuple[Condition, ...]:
        return (*(condition for _, condition in _merged(self.hits)), *self.others)


def _merged(hits: Sequence[tuple[ValueHit, Condition]]) -> list[tuple[ValueHit, Condition]]:
    """Two values of one column are one test: either of them."""
    kept: list[tuple[ValueHit, Condition]] = []
    for hit, condition in hits:
        same = next(
            (
                place
                for place, (_, one) in enumerate(kept)
                if one.column is condition.column and one.column and one.test == condition.test
            ),
            None,
        )
        if same is None:
            kept.append((hit, condition))
        else:
            first, before = kept[same]
            values = tuple(dict.fromkeys((*before.values, *condition.values)))
            kept[same] = first, Condition(before.test, before.column, values=values)
    return kept


def merged(hits: Sequence[tuple[ValueHit, Condition]]) -> list[Condition]:
    return [condition for _, condition in _merged(hits)]


def is_excluded(asked: Asked, start: int, end: int) -> bool:
    """True where the question takes `[start, end)` out of what it asks about."""
    text = asked.text
    for first, last in asked.excludes:
        between = text[last:start] if start >= last else text[end:first]
        if _CLAUSE.search(between):
            continue
        if end <= first and len(between) <= 10 and _BACKWARD.search(text[first:last]):
            return True
        if (
            start >= last
            and len(between) <= 40
            and not (_BACKWARD.search(text[first:last]) and _is_behind(text, first))
        ):
            return True
    return _NEGATED.search(text[max(0, start - 16) : start]) is not None


def _is_behind(text: str, place: int) -> bool:
    """True where a clause begins before `place`: "取消的不算" looks back."""
    return (
        not _CLAUSE.search(text[max(0, place - 1) : place])
        and place > 0
        and not re.match(r"\s", text[place - 1])
    )


def tests_of(asked: Asked, sheet: Sheet, table: TypedTable, given: Sequence[Quantity]) -> Tests:
    """All that the question tests in `table`."""
    taken = [(one.start, one.end) for one in asked.periods]
    hits = [(hit, _value_test(hit, asked)) for hit in value_hits(asked.text, table, taken)]
    hits += _joined(asked, sheet, table, taken, hits)
    others: list[Condition] = []
    unmet: list[str] = []
    dates = date_column(asked, table)
    periods = asked.periods
    names = folded(" ".join(column.label for column in table.columns))
    periods = tuple(one for one in periods if folded(one.text).strip() not in names)
    if len(periods) == 1 and _in_title(periods[0], sheet, table):
        periods = ()
    if dates is None:
        unmet += [one.text for one in periods]
    for one in asked.comparisons:
        test = _number_test(one, asked, given)
        if test is None:
            unmet.append(asked.text[one.start : one.end])
        else:
            others.append(test)
    others += _against_column(asked, table)
    if _NONE_LEFT.search(asked.text) and not any(one.number is not None for one in others):
        stock = next((q for q in given if CONCEPTS["stock"].search(q.measure.label) and not q.is_price), None)
        if stock is not None:
            others.append(Condition("=", measure=stock.measure, number=Decimal(0), text="= 0"))
    others += _empties(asked, table)
    score = (
        sum(0.6 if hit.part else 1.15 for hit, _ in hits)
        + sum(1.0 if one.measure is not None and _names_measure(one, asked) else 0.7 for one in others)
        + (0.4 if asked.periods and dates else 0.0)
        + (0.5 * column_score(dates.name, "", asked.text) if periods and dates else 0.0)
    )
    return Tests(tuple(hits), tuple(others), dates, tuple(unmet), score, periods)


def _names_measure(condition: Condition, asked: Asked) -> bool:
    return condition.measure is not None and column_score(condition.measure.label, "", asked.text) >= 0.9


def _in_title(period: Period, sheet: Sheet, table: TypedTable) -> bool:
    """True for a year or month that the document as a whole is about: it chooses no rows."""
    plain = folded(f"{sheet.title} {table.name}")
    named = periods_in(re.sub(r"[_-](?=\D)|(?<=\D)[_-]", " ", plain))
    if any(_same_time(period, one) for one in named):
        return True
    years = {str(one.year) for one in (period.first, period.last) if one}
    return folded(period.text).strip() in plain or (
        bool(years) and all(year in plain for year in years) and not period.months
    )


def _same_time(one: Period, other: Period) -> bool:
    if (one.months or other.months) and one.months == other.months:
        return one.first is None or other.first is None or one.first.year == other.first.year
    return one.first is not None and (one.first, one.last) == (other.first, other.last)


def _value_test(hit: ValueHit, asked: Asked) -> Condition:
    test: Test = "is not" if is_excluded(asked, hit.start, hit.end) else "is"
    return Condition(test, hit.column, values=hit.values)


def _joined(
    asked: Asked,
    sheet: Sheet,
    table: TypedTable,
    taken: Sequence[tuple[int, int]],
    own: Sequence[tuple[ValueHit, Condition]],
) -> list[tuple[ValueHit, Condition]]:
    """Values of another table of the document that shares a column with this one (the trips of these receipts)."""
    found = []
    covered = [*taken, *((hit.start, hit.end) for hit, _ in own if not hit.part)]
    for other in sheet.tables:
        keys = [
            column
            for column in table.columns
            if any(column.label == one.label and one.kind == column.kind for one in other.columns)
        ]
        if other is table or not keys:
            continue
        for hit in value_hits(asked.text, other, covered):
            if hit.part or hit.column.label == keys[0].label:
                continue
            excluded = is_excluded(asked, hit.start, hit.end)
            theirs = other.column(keys[0].label)
            wanted = {
                theirs.cells[row].strip()
                for row, cell in enumerate(hit.column.cells)
                if cell.strip() in hit.values
            }
            rows = frozenset(
                row for row, cell in enumerate(keys[0].cells) if (cell.strip() in wanted) != excluded
            )
            text = f"{hit.column.name} {'≠' if excluded else '='} {', '.join(hit.values)}"
            found.append((hit, Condition("is not" if excluded else "is", rows=rows, text=text)))
            covered.append((hit.start, hit.end))
    return found


def date_column(asked: Asked, table: TypedTable) -> Column | None:
    """The dates that a period of the question is about: the column named, else the first."""
    dates = table.of_kind("date")
    if not dates:
        return None
    scored = [(column_score(column.name, "", asked.text), -place) for place, column in enumerate(dates)]
    return dates[-max(scored)[1]]


def period_test(period: Period, column: Column) -> Condition:
    return Condition("within", column, period=period, text=period.text)


def _number_test(one: Comparison, asked: Asked, given: Sequence[Quantity]) -> Condition | None:
    """The measure that a number of the question is held against: by its unit, else by the words before it."""
    before = asked.text[max(0, one.start - 30) : one.start]
    clause = re.split(_CLAUSE, before)[-1]
    number, best, chosen = one.number, 0.0, None
    for quantity in given:
        unit = quantity.measure.unit
        if CONCEPTS["pause"].search(quantity.names[0]) and asked.excludes:
            continue
        score = max(column_score(name, unit, clause) for name in quantity.names)
        if one.unit and same_unit(one.unit, unit):
            score += 1.5
        elif one.unit and {unit_kind(one.unit), unit_kind(unit)} == {"h", "min"}:
            score += 0.8
        if quantity.measure.formula and _wants_net(asked) and "−" in quantity.measure.formula:
            score += 0.1 * quantity.measure.formula.count("−")
        if score > best:
            best, chosen = score, quantity
    if chosen is None or best < 0.5:
        return None
    if one.unit and {unit_kind(one.unit), unit_kind(chosen.measure.unit)} == {"h", "min"}:
        number = number * 60 if unit_kind(one.unit) == "h" else number / 60
    return Condition(
        one.test,
        measure=chosen.measure,
        number=number,
        text=f"{chosen.measure.label} {one.test} {number.normalize():f}",
    )


def _wants_net(asked: Asked) -> bool:
    return not re.search(
        r"含休息|包括休息|including (?:the )?breaks?|with (?:the )?breaks?", asked.text, re.IGNORECASE
    )


def _against_column(asked: Asked, table: TypedTable) -> list[Condition]:
    """ "fewer on hand than their minimum": two columns of numbers around a word of comparison."""
    found = []
    numbers = table.of_kind("number")
    for match in _AGAINST.finditer(asked.text):
        if any(one.start < match.end() and match.start() < one.end for one in asked.comparisons):
            continue
        if _DIFFERENCE.search(asked.text):
            continue
        after = re.split(_CLAUSE, asked.text[match.end() : match.end() + 40])[0]
        before = (
            asked.text[max(0, match.start() - 40) : match.start()] + asked.text[match.start() : match.end()]
        )
        right = _best(after, numbers, None)
        left = _best(before, numbers, right)
        if right is not None and left is not None:
            test: Test = "<" if match["less"] else ">"
            found.append(Condition(test, left, other=right, text=f"{left.name} {test} {right.name}"))
    return found


def _best(text: str, columns: Sequence[Column], but: Column | None) -> Column | None:
    scored = [(column_score(column.name, column.unit, text), -place) for place, column in enumerate(columns)]
    scored = [(score, place) for score, place in scored if columns[-place] is not but]
    if not scored or max(scored)[0] < 0.5:
        return None
    return columns[-max(scored)[1]]


def _empties(asked: Asked, table: TypedTable) -> list[Condition]:
    """ "have not paid" where the column of payments is empty for some rows."""
    if not _EMPTY.search(asked.text):
        return []
    with_gaps = [column for column in table.columns if any(not cell.strip() for cell in column.cells)]
    scored = [
        (column_score(column.name, "", asked.text), -place, column) for place, column in enumerate(with_gaps)
    ]
    best = max(scored, key=lambda one: one[:2], default=None)
    if best is None or best[0] < 0.4 or len(best[2].distinct) == 0:
        return []
    return [Condition("empty", best[2], text=f"{best[2].name} = ∅")]

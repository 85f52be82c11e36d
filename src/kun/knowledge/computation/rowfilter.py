"""The rows of a table that a question names: by the values of cells, by numbers and dates, by ranges that hold them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kun.knowledge.computation.doubts import GENERIC
from kun.knowledge.computation.glossary import short_name
from kun.knowledge.computation.leftovers import Left
from kun.knowledge.computation.matching import latin_words
from kun.knowledge.computation.ranges import holding, same_length
from kun.knowledge.computation.said import Amount, Cover, Places, Said, plain
from kun.knowledge.computation.views import Found, View
from kun.text.words import STOP_WORDS
from kun.tools.periods import Period
from kun.tools.values import When

_HAN = re.compile(r"[\u3400-\u9fff]")
_REST = re.compile(
    r"其余|其他|其它|别的|\b(?:all |any )?others?\b|\brest of\b|\belsewhere\b|\beverywhere else\b|\banywhere else\b",
    re.IGNORECASE,
)
_ANY = re.compile(
    r"全年|全部|所有|不限|通用|任何|均可|all(?: year)?(?: round)?|any|every|always|both|year[- ]round",
    re.IGNORECASE,
)
_LEAST_WORDS = 2
"""Words (or pairs of Chinese characters) of a longer cell that a question must have for it to be meant."""


@dataclass(frozen=True)
class Group:
    """Words of the question at `places` that choose `rows` by the cells of `columns`."""

    places: Places
    rows: frozenset[int]
    columns: frozenset[int]
    is_number: bool = False
    loose: frozenset[int] = frozenset()
    """Rows that have the words among others of a cell ("heating element 3700 W")."""


@dataclass(frozen=True)
class Chosen:
    """The rows that a question names, by which groups, and where the question has other words of theirs."""

    rows: tuple[int, ...]
    groups: tuple[Group, ...]
    partial: Places
    named_column: int | None = None
    partial_columns: frozenset[int] = frozenset()

    @property
    def places(self) -> Places:
        return frozenset().union(*(one.places for one in self.groups)) | self.partial


def chosen_rows(said: Said, view: View, covers: Sequence[Cover]) -> Chosen | None:
    """The rows of `view` that the question names, the fewest that fit all of it; None where none does.

    `covers` say where the question has the name of each column: a value at the place of a whole one need not be one.
    """
    labels = [cover.places if cover.is_full else frozenset[int]() for cover in covers]
    found = list(view.found(said))
    groups = _largest(_groups(found, said, view))
    by_numbers, named_column = _numbers(said, view, groups, labels)
    groups = [*groups, *by_numbers]
    optional = [one for one in groups if any(one.places <= label for label in labels)]
    required = [one for one in groups if one not in optional]
    rows = frozenset(range(view.n))
    for group in required:
        rows &= group.rows | group.loose
    if not rows:
        return None
    for group in required:
        rows = rows & group.rows or rows
        rows = rows & _by_key(group, found, view, covers) or rows
    used = list(required)
    for group in optional:
        if required and rows & group.rows and len(rows) > 1:
            rows &= group.rows
            used.append(group)
    partial, partial_columns = frozenset[int](), frozenset[int]()
    if len(rows) > 1 or not used:
        taken = frozenset().union(*(one.places for one in used))
        rows, partial, partial_columns = _nearest(found, rows, taken, bool(used))
        if not rows:
            return None
    if not used and not partial and view.n > 1:
        return None
    return Chosen(tuple(sorted(rows)), tuple(used), partial, named_column, partial_columns)


def everything(said: Said, view: View) -> Chosen:
    """All rows, chosen by nothing; the groups of words that name some of them all the same."""
    groups = _largest(_groups(list(view.found(said)), said, view))
    return Chosen(tuple(range(view.n)), tuple(groups), frozenset())


def catch_all(said: Said, view: View, chosen: Chosen, left: Left) -> Chosen | None:
    """The rows for what is not listed ("其余城市", "other countries"), where a name of the question is not."""
    for place, column in enumerate(view.columns):
        rest = [row for row, cell in enumerate(column.cells) if _REST.match(cell.strip())]
        named = any(place in group.columns for group in chosen.groups)
        letters = {*_HAN.findall(left.text), short_name(left.text)} - {""}
        if any(letters & set(cell) for cell in column.distinct):
            continue  # 北京 may be meant by 京津冀, 上海 by 江浙沪
        if not rest or named or column.kind != "text" or len(rest) == view.n:
            continue
        kept = set(rest)
        for group in chosen.groups:
            kept &= group.rows | {
                row
                for row in rest
                if any(_ANY.fullmatch(view.columns[one].cells[row].strip()) for one in group.columns)
            }
        if kept:
            own = Group(frozenset(range(left.start, left.end)), frozenset(rest), frozenset((place,)))
            return Chosen(tuple(sorted(kept)), (*chosen.groups, own), chosen.partial)
    return None


def _by_key(group: Group, found: Sequence[Found], view: View, covers: Sequence[Cover]) -> frozenset[int]:
    """The rows of a group whose key it is, where other rows name it in another column that the question does not.

    The extension of Ms. Wren is in her own row, not in those of whom she leads.
    """
    others = [one for one in group.columns if len(view.columns[one].distinct) < view.n]
    if len(others) == len(group.columns) or any(covers[one].places for one in others):
        return group.rows
    return frozenset().union(
        *(
            one.rows
            for one in found
            if one.column in group.columns and one.column not in others and one.cover.places == group.places
        )
    )


def _groups(found: Sequence[Found], said: Said, view: View) -> list[Group]:
    rows: dict[Places, tuple[set[int], set[int]]] = {}
    for one in found:
        if not one.cover.is_full:
            continue
        places = _behind_name(one, said, view) if _is_plain(one.cell) else one.cover.places
        if places:
            both = rows.setdefault(places, (set(), set()))
            both[0].update(one.rows)
            both[1].add(one.column)
    return [
        Group(places, frozenset(both[0]), frozenset(both[1]), loose=_having(found, places, both[1]))
        for places, both in rows.items()
    ]


def _behind_name(one: Found, said: Said, view: View) -> Places:
    """The place of a short value right behind its column's name ("grade B", "line 47"), or before it ("3 楼")."""
    name, value = re.escape(plain(view.columns[one.column].name)), re.escape(plain(one.cell))
    match = re.search(
        rf"{name}(?:s|no\.?)? ?#?(?P<a>{value})(?![\w-])|(?<![\w-])(?P<b>{value}) ?{name}", said.plain
    )
    if not match:
        return frozenset()
    return frozenset(range(*match.span("a" if match["a"] else "b")))


def _having(found: Sequence[Found], places: Places, columns: set[int]) -> frozenset[int]:
    return frozenset().union(
        *(one.rows for one in found if one.column in columns and places <= one.cover.places)
    )


def _is_plain(cell: str) -> bool:
    """True for a cell that is no name of anything: "all", "yes", a single letter."""
    small = plain(cell).strip()
    if _HAN.search(small):
        return False
    stems = [word.stem for word in latin_words(small)]
    if all(one in STOP_WORDS or one in GENERIC for one in stems):
        return True
    return len(stems) == 1 and (len(stems[0]) < 2 or (stems[0].isdigit() and len(stems[0]) < 3))


def _largest(groups: Sequence[Group]) -> list[Group]:
    """Groups that are no part of a longer one: of "Lark" and "Lark 2" the second is meant."""
    return [one for one in groups if not any(one.places < other.places for other in groups)]


def _numbers(
    said: Said, view: View, groups: Sequence[Group], labels: Sequence[Places]
) -> tuple[list[Group], int | None]:
    """Groups by the question's numbers and dates; the column whose name is the range that holds one of them."""
    taken = frozenset().union(*(one.places for one in groups), *labels)
    found: list[Group] = []
    named: int | None = None
    for amount in said.amounts:
        if amount.places <= taken:
            continue
        by_name = holding(amount.value, amount.unit, list(view.named_ranges.values()))
        if len(by_name) == 1:
            named = list(view.named_ranges)[by_name[0]]
            found.append(Group(amount.places, frozenset(range(view.n)), frozenset(), is_number=True))
            continue
        group = _in_ranges(amount, view) or _equal(amount, view, labels)
        if group is not None:
            found.append(group)
    for period in said.periods:
        group = _in_time(period, view)
        if group is not None:
            found.append(group)
    return found, named


def _in_ranges(amount: Amount, view: View) -> Group | None:
    rows: set[int] = set()
    columns = set()
    for place, ranges in view.ranges.items():
        unit = view.columns[place].unit
        if not any(one and one.unit for one in ranges) and not same_length(amount.unit, unit):
            continue
        held = _by_rest(amount, view, place)
        if held:
            rows.update(held)
            columns.add(place)
    return Group(amount.places, frozenset(rows), frozenset(columns), is_number=True) if rows else None


def _by_rest(amount: Amount, view: View, place: int) -> list[int]:
    """Rows whose range holds the number; the tightest is looked for among rows that are alike in other texts."""
    ranges = view.ranges[place]
    others = [
        column
        for number, column in enumerate(view.columns)
        if number != place and column.kind == "text" and len(column.distinct) < view.n
    ]
    alike: dict[tuple[str, ...], list[int]] = {}
    for row in range(view.n):
        alike.setdefault(tuple(column.cells[row] for column in others), []).append(row)
    return [
        rows[one]
        for rows in alike.values()
        for one in holding(amount.value, amount.unit, [ranges[r] for r in rows])
    ]


def _equal(amount: Amount, view: View, labels: Sequence[Places]) -> Group | None:
    """Rows with that very number in a column of its unit, of a name that the question has, or of different numbers."""
    rows: set[int] = set()
    columns = set()
    for place, column in enumerate(view.columns):
        if column.kind != "number":
            continue
        held = [row for row, value in enumerate(column.values) if value == amount.value]
        own = len(column.distinct) == view.n and not column.unit
        fits = bool(labels[place]) or (amount.unit and column.unit and same_length(amount.unit, column.unit))
        if held and (fits or (own and not amount.unit)):
            rows.update(held)
            columns.add(place)
    return Group(amount.places, frozenset(rows), frozenset(columns), is_number=True) if rows else None


def _in_time(period: Period, view: View) -> Group | None:
    """Rows whose date is in the period, or whose stretch of time holds it."""
    rows: set[int] = set()
    columns = set()
    for place, stretches in view.periods.items():
        held = [row for row, one in enumerate(stretches) if one is not None and _holds(one, period)]
        if held:
            rows.update(held)
            columns.add(place)
    for place, column in enumerate(view.columns):
        if column.kind == "date":
            held = [
                row for row, value in enumerate(column.values) if isinstance(value, When) and value in period
            ]
            if held:
                rows.update(held)
                columns.add(place)
    places = frozenset(range(period.start, period.end))
    return Group(places, frozenset(rows), frozenset(columns), is_number=True) if rows else None


def _holds(stretch: Period, period: Period) -> bool:
    if stretch.first and stretch.last and period.first and period.last:
        return stretch.first <= period.first and period.last <= stretch.last
    if stretch.months and period.months:
        return period.months <= stretch.months
    return False


def _nearest(
    found: Sequence[Found], rows: frozenset[int], taken: Places, named: bool
) -> tuple[frozenset[int], Places, frozenset[int]]:
    """Of `rows` those with most of the question's other words in longer cells; all of them where none has any."""
    most: dict[int, Places] = {}
    columns: dict[int, set[int]] = {}
    for one in found:
        if one.cover.is_full and not _is_plain(one.cell) and not named:
            pass
        elif one.cover.n < _LEAST_WORDS and not (named and one.cover.n >= 1):
            continue
        new = one.cover.places - taken
        for row in one.rows & rows if new else ():
            most[row] = most.get(row, frozenset()) | new
            columns.setdefault(row, set()).add(one.column)
    if not most:
        return (rows, frozenset(), frozenset()) if named else (frozenset(), frozenset(), frozenset())
    best = max(len(places) for places in most.values())
    kept = frozenset(row for row, places in most.items() if len(places) == best)
    first = min(kept)
    return kept, most[first], frozenset(columns[first])

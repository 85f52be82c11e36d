"""Look-ups: the cell of a table that a question asks for, by the row and the column that it names.

A question whose words do not choose one row and one column without doubt is none of this module's: a model reads
the table then, and what it writes is checked.
"""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from kun.knowledge.computation.leftovers import Left, leftovers, n_content, title_places
from kun.knowledge.computation.question import kinds_in
from kun.knowledge.computation.rowfilter import Chosen, catch_all, chosen_rows, everything
from kun.knowledge.computation.said import Cover, Said, plain
from kun.knowledge.computation.sheets import Sheet
from kun.knowledge.computation.targets import WH, Target, label_covers, targets
from kun.knowledge.computation.views import View, views_of

_MOST_LISTED = 4
_NEAR = 0.75
"""A name that is so much like a cell may be a spelling of it."""
_HAN = re.compile(r"[\u3400-\u9fff]")
_OTHER_QUESTION = re.compile(
    r"^\s*(?:why|how come|is|are|was|were|does|do|did|can|could|may|must|should|has|have|will|would)\b(?!.*\bor\b)|\b(?:why|whose)\b"
    r"|为什么|为何|原因|吗\s*[？?]?\s*$|吧\s*[？?]?\s*$|是不是|能不能|可不可以|是否|有没有",
    re.IGNORECASE,
)
_HOW_TO = re.compile(
    r"^\s*how (?:do|does|can|should|to|is|are)\b|如何|怎么(?!办|处理|解决|回事)", re.IGNORECASE
)

_GLOSSED = re.compile(r"(?P<word>(?:[a-z'-]+ ){0,2}[a-z'-]+) ?[(（](?P<gloss>[\u3400-\u9fff]+)[)）]")
"""Words with what the documents call it behind them: "a manager (主管)"."""


@dataclass(frozen=True)
class Lookup:
    """The cells at `rows` × `columns` of a view, for which the question's words `keys` (column, text) stand.

    `missing` is a name of the question that no row has; nothing was found then.
    """

    sheet: Sheet
    view: View
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    keys: tuple[tuple[str, ...], ...]
    score: float
    chinese: bool
    missing: str = ""
    is_crossed: bool = False
    """True where the column's name is the thing and the row's key says what is asked of it."""

    @property
    def values(self) -> tuple[str, ...]:
        """The texts of the cells."""
        return tuple(
            plain(self.view.columns[one].cells[row].strip()) for row in self.rows for one in self.columns
        )

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The places of the cells' rows in the document."""
        return [self.view.span(row, column) for row in self.rows for column in self.columns]


def may_look_up(question: str) -> bool:
    """True where a question asks for a thing or a value, not for a reason, a way or a yes."""
    text = plain(question)
    return bool(WH.search(text)) and not _OTHER_QUESTION.search(text) and not _HOW_TO.search(text)


def lookups(said: Said, sheet: Sheet) -> list[Lookup]:
    """The look-ups that a question may want of a document's tables, best first."""
    by_table: dict[int, Lookup] = {}
    for view in views_of(sheet):
        covers = label_covers(said, view)
        if _asks_more(said, view, covers):
            continue
        one = _lookup(said, sheet, view, covers)
        table = id(view.source or view.table)
        before = by_table.get(table)
        if one is not None and (before is None or before.missing or (view.is_matrix and not one.missing)):
            by_table[table] = one
    found = list(by_table.values())
    return sorted(found, key=lambda one: (bool(one.missing), -one.score))


def _asks_more(said: Said, view: View, covers: Sequence[Cover]) -> bool:
    """True for a question of an extreme, a share or a comparison, unless a column is called so."""
    text = said.plain
    for column, cover in zip(view.columns, covers, strict=True):
        if cover.is_full and kinds_in(column.name):
            letters = [" " if place in cover.places else letter for place, letter in enumerate(text)]
            text = "".join(letters)
    kinds = kinds_in(text)
    if "extreme" in kinds and re.search(r"最多(?:能|可以|可)?报|最多可|最多能|at most", text):
        kinds -= {"extreme"}
    return bool(kinds & {"extreme", "compare", "percent", "span"})


def _lookup(said: Said, sheet: Sheet, view: View, covers: Sequence[Cover]) -> Lookup | None:
    chosen = chosen_rows(said, view, covers)
    nothing = chosen is None
    chosen = chosen or everything(said, view)
    asked = _asked(said, view, covers, chosen)
    if not asked:
        return None
    columns = tuple(dict.fromkeys(column for target in asked for column in target.columns))
    left = _left(said, sheet, view, covers, chosen, asked)
    is_crossed = chosen.named_column is not None or view.is_matrix != view.is_turned
    base = Lookup(sheet, view, (), columns, (), 0.0, said.is_chinese, is_crossed=is_crossed)
    if len(left) == 1 and left[0].is_name and re.search(r"[^\W\d]", left[0].text):
        rest = catch_all(said, view, chosen, left[0])
        if rest is None:
            return _missing(base, chosen, asked, left[0])
        chosen, nothing, left = rest, False, []
    if nothing or (left and not _is_bound(asked, left)):
        return None
    rows = _rows(said, view, chosen, columns)
    if not rows or (not chosen.groups and not _is_sure(chosen, asked)):
        return None
    key_columns = _keys(said, view, chosen, columns, rows)
    if len(rows) > 1 and not _is_list(view, rows, columns):
        key_columns = _telling_apart(view, rows, columns, key_columns)
        if not key_columns:
            return None
    keys = tuple(tuple(_key(view, one, row) for one in key_columns) for row in rows)
    return replace(base, rows=rows, keys=keys, score=_score(said, chosen, asked, left))


def _asked(said: Said, view: View, covers: Sequence[Cover], chosen: Chosen) -> list[Target]:
    """The columns that the question asks for; the one whose name is a range that holds its number goes first."""
    taken = frozenset().union(*(one.places for one in chosen.groups))
    consumed = frozenset(one for group in chosen.groups if len(group.columns) == 1 for one in group.columns)
    asked = targets(said, view, covers, taken, consumed)
    if chosen.named_column is not None:
        places = frozenset().union(*(one.places for one in asked))
        return [Target((chosen.named_column,), 1.2, places)]
    if not asked and (only := _only_other(view, chosen)) is not None:
        return [Target((only,), 0.5, frozenset())]
    return asked


def _is_sure(chosen: Chosen, asked: Sequence[Target]) -> bool:
    """True where longer cells alone choose the row: enough of one is in the question, or its column's name is."""
    return bool(chosen.partial) and (len(chosen.partial) >= 4 or min(one.score for one in asked) >= 1)


def _is_bound(asked: Sequence[Target], left: Sequence[Left]) -> bool:
    """True for one plain word that is left where a column is asked for by its own name ("on which shelf does … rest?")."""
    return len(left) == 1 and not left[0].is_name and all(one.asked and one.score >= 1.2 for one in asked)


def _only_other(view: View, chosen: Chosen) -> int | None:
    """The other column of a table of two, where one was named."""
    if len(view.columns) != 2 or len(chosen.rows) != 1 or not chosen.groups:
        return None
    named = {one for group in chosen.groups for one in group.columns}
    rest = [place for place in range(2) if place not in named]
    return rest[0] if len(rest) == 1 else None


def _left(
    said: Said, sheet: Sheet, view: View, covers: Sequence[Cover], chosen: Chosen, asked: Sequence[Target]
) -> list[Left]:
    explained = set(chosen.places)
    for target in asked:
        explained |= target.places
    for column, cover in zip(view.columns, covers, strict=True):
        if cover.is_full or (cover.places and " / " in column.label):
            explained |= cover.places
    for target in asked:
        for place in target.columns:
            explained |= said.cover(view.columns[place].label).places  # its unit
    explained |= title_places(said, f"{sheet.title} {view.table.name} {sheet.source}")
    for match in WH.finditer(said.plain):
        explained.update(range(*match.span()))
    for match in _GLOSSED.finditer(said.plain):
        if not explained.isdisjoint(range(*match.span("gloss"))):
            explained.update(range(*match.span("word")))
    return leftovers(said, frozenset(explained))


def _score(said: Said, chosen: Chosen, asked: Sequence[Target], left: Sequence[Left]) -> float:
    content = max(1, n_content(said))
    return (
        1.0
        + sum(target.score for target in asked) / len(asked)
        + 0.5 * len(chosen.groups)
        + 0.2 * bool(chosen.partial)
        - len(left) / content
    )


def _keys(
    said: Said, view: View, chosen: Chosen, columns: Sequence[int], rows: Sequence[int]
) -> tuple[int, ...]:
    """The columns that the question chose rows by, to name the rows with; of two for the same words one."""
    named = set(chosen.partial_columns)
    for group in chosen.groups:
        own = sorted(
            group.columns - set(columns), key=lambda one: _is_foreign(view, one, rows, said.is_chinese)
        )
        named.update(own[:1])
    kept = tuple(sorted(one for one in named if one not in columns))
    return kept or ((0,) if 0 not in columns and view.n > 1 else ())


def _is_foreign(view: View, column: int, rows: Sequence[int], chinese: bool) -> bool:
    text = " ".join(view.columns[column].cells[row] for row in rows)
    return bool(_HAN.search(text)) != chinese


def _rows(said: Said, view: View, chosen: Chosen, columns: Sequence[int]) -> tuple[int, ...]:
    """The rows to answer with: one of those that agree, or a few that differ."""
    filled = [row for row in chosen.rows if any(view.columns[one].cells[row].strip() for one in columns)]
    if any(_is_given(said, view.columns[one].cells[row]) for row in filled for one in columns):
        return ()
    values = {tuple(plain(view.columns[one].cells[row].strip()) for one in columns) for row in filled}
    if len(values) == 1:
        return tuple(filled[:1])
    return tuple(filled) if len(filled) <= _MOST_LISTED and chosen.groups else ()


def _is_given(said: Said, cell: str) -> bool:
    """True for a cell that the question says itself: it asks for something else."""
    return said.cover(cell).is_full


def _key(view: View, column: int, row: int) -> str:
    """A cell that names its row; a number with its column's name."""
    cell = view.columns[column].cells[row].strip()
    return f"{view.columns[column].name} {cell}".strip() if re.fullmatch(r"[\d.,]+", cell) else cell


def _is_list(view: View, rows: Sequence[int], columns: Sequence[int]) -> bool:
    """True where the things themselves are asked for ("which rooms are on floor 2?")."""
    return len(columns) == 1 and len(view.columns[columns[0]].distinct) == view.n and len(rows) > 1


def _telling_apart(
    view: View, rows: Sequence[int], columns: Sequence[int], keys: Sequence[int]
) -> tuple[int, ...]:
    """The keys, and a column of text by which some rows can be told apart; none where there is no such column."""
    for place, column in enumerate(view.columns):
        if place in columns or column.kind not in ("text", "date"):
            continue
        if len({column.cells[row].strip() for row in rows}) == len(rows):
            return tuple(sorted({*keys, place}))
    return ()


def _missing(base: Lookup, chosen: Chosen, asked: Sequence[Target], left: Left) -> Lookup | None:
    """A look-up that fails on a name alone, which no row has: the table is named, and what is wanted of it."""
    view = base.view
    key = next((column for column in view.columns if column.kind == "text"), None)
    if (
        view.is_turned
        or key is None
        or 0 in view.periods
        or 0 in view.ranges
        or any(one.score < 1 for one in asked)
        or chosen.groups
    ):
        return None
    same_script = bool(_HAN.search(left.text)) == bool(_HAN.search(" ".join(key.distinct[:20])))
    near = any(
        SequenceMatcher(None, plain(left.text), plain(cell)).ratio() > _NEAR for cell in key.distinct[:500]
    )
    return replace(base, missing=left.text, score=1.0) if same_script and not near else None

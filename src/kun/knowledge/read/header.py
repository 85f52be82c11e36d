"""The shape of a table, judged by its first rows: titles, rows of names, or pairs of label and value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Cells = list[str]

_NUMBER = re.compile(
    r"[(≈~<>≤≥±]{0,2}\s*[-+−]?\s*(?:[$€£¥￥₹]|(?:USD|EUR|CNY|RMB|GBP|CHF)\s?)?\s*[-+−]?\d[\d,.'\u00a0 ]*"
    r"(?:[eE][-+]?\d+)?\s*(?:%|‰|°C|℃|[A-Za-zµΩ²³/]{1,6}|[元件个台只斤吨年月天日小时分钟秒米]{1,3}|[$€£¥])?\)?\Z"
)
_DATE = re.compile(
    r"\d{4}[-/.年]\d{1,2}(?:[-/.月]\d{1,2}日?)?(?:[ T]\d{1,2}:\d{2}(?::\d{2})?)?\Z"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}\Z|\d{1,2}:\d{2}(?::\d{2})?\Z"
    r"|\d{1,2}\.? [A-Za-z]{3,9}\.? \d{4}\Z|[A-Za-z]{3,9}\.? \d{1,2}, \d{4}\Z|\d{1,2}月\d{1,2}日\Z"
)
_NOTHING = frozenset(
    ["-", "–", "—", "/", "n/a", "na", "none", "null", "nan", "无", "暂无", "待定", "tbd", "?"]
)
_GENERIC = frozenset(
    """item items name field key term code value values meaning description details question answer type category
    property parameter setting option id no no. number unit amount price rule topic step word
    项目 名称 内容 说明 含义 代码 字段 值 问题 答案 类别 类型 标准 编号 序号 参数 单位 数值 术语 定义 解释
    备注""".split()
)
_MAX_NAME = 200  # characters of a name of a column
_MAX_SINGLE = 30  # characters of the name of a column that has no neighbour
_PREAMBLE = 12  # rows above the names that may hold titles and the like


@dataclass(frozen=True)
class Shape:
    """`titles` rows of titles, then `heads` rows of names. `pairs`: each row is a label and its value.

    `sure`: the names were seen, not assumed. `is_table`: more than lines of text. `is_sparse`: many rows have a
    single cell. `numeric`: the columns that mostly hold numbers or dates.
    """

    width: int
    titles: int = 0
    heads: int = 0
    pairs: bool = False
    sure: bool = False
    is_table: bool = True
    is_sparse: bool = False
    numeric: frozenset[int] = frozenset()

    def fits(self, rows: Sequence[Cells]) -> bool:
        """True if the first of `rows` can be a row of this table: numbers where it has numbers."""
        first = rows[0]
        filled = [place for place, cell in enumerate(first) if cell]
        clash = any(place in self.numeric and not is_data(first[place]) for place in filled)
        return not clash and (len(filled) > 1 or self.width == 1)


def is_data(cell: str) -> bool:
    """A number, with unit or currency, a date, a time, or a sign for nothing."""
    return bool(_NUMBER.match(cell) or _DATE.match(cell)) or cell.lower() in _NOTHING


def shape_of(rows: Sequence[Cells], heads: int | None, assumes_names: bool) -> Shape:
    """The shape of a stretch of rows without an empty one. `heads`: rows of names, where that is known."""
    width = max(len(_trimmed(row)) for row in rows)
    if heads is not None:
        titles = _titles(rows[:heads], width) if heads > 1 else 0
        body = rows[heads:]
        pairs = heads == 0 and _is_pairs(rows, width, assumes_names)
        return _shape(width, titles, heads - titles, body, pairs=pairs, sure=heads > 0)
    titles = _titles(rows, width)
    below = rows[titles:]
    if width == 1 or not below:
        least = 0.5 if assumes_names and below and len(below[0][0]) <= _MAX_SINGLE else 2
        named = len(below) > 1 and _names_by_evidence(below[0], below[1:], 1) >= least
        return Shape(width, titles, int(named), is_table=named, numeric=_numeric(below[1:], width))
    if _is_pairs(below, width, assumes_names):
        return _shape(width, titles, 0, below, pairs=True)
    if len(below) == 1:
        return Shape(width, titles, is_table=False)
    score = _names_by_evidence(below[0], below[1:], width)
    named = score > (-1 if assumes_names and not any(map(is_data, below[0])) else 0)
    depth = _depth(below, width) if named or _is_upper_row(below, width) else 0
    return _shape(width, titles, depth, below[depth:], sure=score >= 2 or depth > 1)


def _shape(
    width: int, titles: int, heads: int, body: Sequence[Cells], pairs: bool = False, sure: bool = False
) -> Shape:
    single = sum(sum(map(bool, row)) == 1 for row in body)
    return Shape(
        width,
        titles,
        heads,
        pairs=pairs,
        sure=sure,
        is_table=not pairs,
        is_sparse=single > 0.55 * max(len(body), 1),
        numeric=_numeric(body, width),
    )


def _trimmed(row: Cells) -> Cells:
    end = len(row)
    while end and not row[end - 1]:
        end -= 1
    return row[:end]


def _numeric(body: Sequence[Cells], width: int) -> frozenset[int]:
    """The columns of which four fifths of the filled cells are data."""
    found = []
    for place in range(width):
        cells = [row[place] for row in body if place < len(row) and row[place]]
        if cells and sum(map(is_data, cells)) >= 0.8 * len(cells) and any(map(_has_digit, cells)):
            found.append(place)
    return frozenset(found)


def _has_digit(cell: str) -> bool:
    return any(letter.isdigit() for letter in cell)


def _titles(rows: Sequence[Cells], width: int) -> int:
    """The rows at the top that hold one text, or much less than the rows below them."""
    if width < 2:
        return 0
    counts = [len(set(filter(None, row))) for row in rows]
    usual = sorted(counts[: 4 * _PREAMBLE])[len(counts[: 4 * _PREAMBLE]) // 2]
    if usual < 2:
        return 0
    titles = 0
    for row, count in zip(rows[:_PREAMBLE], counts, strict=False):
        alone = count == 1 and (bool(row[0]) or len([cell for cell in row if cell]) == width)
        scarce = usual >= 4 and count <= usual // 2 and not _spans(row)
        if not alone and not scarce:
            break
        titles += 1
    return titles if titles < min(len(rows), _PREAMBLE) else 0


def _spans(row: Cells) -> bool:
    """A name above several columns, as upper rows of names have it."""
    return any(cell and cell == following for cell, following in pairwise(row))


def _names_by_evidence(row: Cells, body: Sequence[Cells], width: int) -> float:
    """Above 0 where a row looks like names of the columns below it, 2 and more where that is sure."""
    if any(len(cell) > _MAX_NAME for cell in row):
        return -2.0
    numeric, counted = _numeric(body, width), _is_counted(row, body)
    score, repeated = 0.0, 0
    for place, cell in enumerate(row[:width]):
        if not cell:
            continue
        below = [other[place] for other in body if place < len(other) and other[place]]
        if is_data(cell):
            score += 1.0 if counted else -2.0
        elif place in numeric:
            score += 2.0
        elif _has_digit(cell) and 2 * sum(_mask(cell) == _mask(other) for other in below) > len(below):
            score -= 2.0  # a code like those below it
        elif cell in below:
            repeated += 1
            score -= 1.0 if repeated == 1 else 3.0  # one column may be named like one of its values
        else:
            score += -1.0 if _is_said(cell) and not cell.endswith(("?", "？")) else 0.5
    return score


def _is_counted(row: Cells, body: Sequence[Cells]) -> bool:
    """The data of a row are years, dates or consecutive numbers that the columns below them don't go on with."""
    places = [place for place, cell in enumerate(row) if is_data(cell)]
    cells = [row[place] for place in places]
    if not cells or len(set(cells)) < len(cells):
        return False
    below = [other[place] for place in places for other in body[:20] if place < len(other) and other[place]]
    if all(_is_year(cell) for cell in cells):
        return sum(map(_is_year, below)) < 0.5 * len(below)
    if all(_DATE.match(cell) for cell in cells):
        return not any(_DATE.match(cell) for cell in below)
    if all(cell.isdigit() for cell in cells) and len(cells) > 1:
        numbers = [int(cell) for cell in cells]
        follow = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return follow and (len(cells) < len(row) or numbers[0] == 0)
    return False


def _is_year(cell: str) -> bool:
    return re.fullmatch(r"(?:19|20)\d\d\s?年?", cell) is not None


def _is_said(cell: str) -> bool:
    """More like a sentence than like the name of a column: a sentence, or words around a number."""
    chinese = len(re.findall(r"[\u4e00-\u9fff]", cell))
    long = chinese > 12 or len(cell.split()) > 6
    around = re.search(r"\d", cell) is not None and (chinese > 6 or len(cell.split()) > 4)
    return long or around or cell.endswith(("。", "！", "？")) or (cell.endswith(".") and " " in cell)


def _mask(cell: str) -> str:
    """The form of a code: `SKU-00012` and `SKU-9` are one."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))


def _is_upper_row(rows: Sequence[Cells], width: int) -> bool:
    """True if the first row is the upper one of two rows of names."""
    return len(rows) > 2 and _goes_deeper(rows[0], rows[1], rows[2:], width)


def _depth(rows: Sequence[Cells], width: int) -> int:
    """The number of rows of names, one at least."""
    depth = 1
    while (
        depth < 4
        and depth + 1 < len(rows)
        and _goes_deeper(rows[depth - 1], rows[depth], rows[depth + 1 :], width)
    ):
        depth += 1
    return depth


def _goes_deeper(upper: Cells, lower: Cells, body: Sequence[Cells], width: int) -> bool:
    """True if the row below one of names has names too: under a name of several columns, or units."""
    upper, lower = ([*row, *[""] * (width - len(row))][:width] for row in (upper, lower))
    if any(len(cell) > _MAX_NAME for cell in lower) or upper == lower:
        return False
    counted = _is_counted(lower, body)
    if any(is_data(cell) for cell in lower) and not counted:
        return False
    beneath: list[int] = []
    alone: list[int] = []
    for place in range(width):
        neighbours = [upper[other] for other in (place - 1, place + 1) if 0 <= other < width]
        spanned = bool(upper[place]) and upper[place] in neighbours
        (beneath if spanned else alone).append(place)
    numeric = _numeric(body, width)
    if beneath:
        settled = all(lower[place] in ("", upper[place]) for place in alone)
        parted = len({lower[place] for place in beneath}) > 1
        return settled and parted
    if any(upper[place] and upper[place] == lower[place] for place in alone) and not any(
        upper[place] != lower[place] and not lower[place] for place in alone
    ):
        return any(upper[place] != lower[place] and place in numeric for place in alone)
    gaps = [place for place in range(1, width) if not upper[place]]
    if gaps and all(lower[place] for place in gaps) and not lower[0] and bool(upper[0]):
        return True  # a merged name above several columns, as CSV has it
    units = [place for place in numeric if lower[place]]
    return (
        not lower[0] and bool(upper[0]) and len(units) >= 1 and len(units) == len([p for p in numeric if p])
    )


def _is_pairs(rows: Sequence[Cells], width: int, assumes_names: bool) -> bool:
    """Rows of label and value: labels are texts, each once, and the values of no single kind."""
    filled = [row for row in rows if any(row)]
    if width == 2:
        labels = [row[0] for row in filled if row[0]]
        values = [row[1] for row in filled if len(row) > 1 and row[1]]
        if len(set(labels)) < len(labels) or any(map(is_data, labels)) or not values:
            return False
        if all(label.endswith((":", "：")) for label in labels):
            return True
        if labels[0].lower() in _GENERIC or values[0].lower() in _GENERIC:
            return False
        if _is_said(values[0]) and not _is_said(labels[0]) and len(filled) <= 60 and len(filled) > 1:
            return True
        share = sum(map(is_data, values[1:])) / max(len(values) - 1, 1)
        dates = sum(_DATE.match(value) is not None for value in values[1:])
        if share >= 0.8 and 0 < dates < len(values) - 1:
            share = 0.5  # dates and numbers in one column
        if assumes_names:
            return 0.15 < share < 0.8 and len(filled) <= 40 and max(map(len, labels)) <= 40
        same = len({_mask(label) for label in labels[1:]}) == 1 and _has_digit(labels[-1])
        return not same and (share < 0.8 or is_data(values[0])) and len(filled) <= 60
    if width % 2 == 0 and width <= 8 and len(filled) <= 40 and not assumes_names:
        labels = [row[place] for row in filled for place in range(0, min(len(row), width), 2) if row[place]]
        marked = sum(label.endswith((":", "：")) for label in labels)
        return bool(labels) and marked >= 0.8 * len(labels)
    return False

"""Tables on a page of a PDF: those drawn with rules, and those whose columns merely line up."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kun.knowledge.read.pdf_page import Letter, Piece, Rule, joined, pieces_of

Cells = list[str]

_NEAR = 3.0  # points within which rules meet
_MOST_RULES = 4_000
_MARKER = re.compile(
    r"(?:[-–•·*◦▪]|\(?[0-9a-zA-Z一二三四五六七八九十]{1,3}[.)、）]|[（(][0-9一二三四五六七八九十]{1,3}[）)])\Z"
)
_MOST_TEXT = 60  # characters of a cell in a table without rules, as a rule


@dataclass(frozen=True)
class Table:
    """The rows of a table and its place on the page; merged cells are repeated."""

    rows: list[Cells]
    left: float
    bottom: float
    right: float
    top: float


_Box = tuple[float, float, float, float]  # left, bottom, right, top


def ruled_tables(letters: Sequence[Letter], rules: Sequence[Rule]) -> tuple[list[Table], list[Letter]]:
    """Tables whose cells are drawn, and the letters outside of them."""
    tables: list[Table] = []
    left = list(letters)
    if len(rules) > _MOST_RULES:
        return tables, left
    for cells in _groups(_cells(rules)):
        box = (
            min(cell[0] for cell in cells),
            min(cell[1] for cell in cells),
            max(cell[2] for cell in cells),
            max(cell[3] for cell in cells),
        )
        xs = _clustered([edge for cell in cells for edge in (cell[0], cell[2])])
        ys = _clustered([edge for cell in cells for edge in (cell[1], cell[3])])
        if len(xs) < 3 or len(ys) < 3:
            continue
        inside = [letter for letter in left if _within(letter, box)]
        rows = _filled(cells, inside, xs, ys)
        if sum(any(row) for row in rows) < 2 or max(len(set(filter(None, row))) for row in rows) < 2:
            continue
        tables.append(Table(rows, *box))
        left = [letter for letter in left if not _within(letter, box)]
    return tables, left


def _within(letter: Letter, box: _Box) -> bool:
    x, y = (letter.left + letter.right) / 2, (letter.bottom + letter.top) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _clustered(values: Sequence[float]) -> list[float]:
    """Values, those closer than `_NEAR` to one another once."""
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > _NEAR:
            found.append(value)
    return found


def _place(value: float, edges: Sequence[float]) -> int:
    return min(range(len(edges)), key=lambda number: abs(edges[number] - value))


def _filled(
    cells: Sequence[_Box], letters: Sequence[Letter], xs: Sequence[float], ys: Sequence[float]
) -> list[Cells]:
    rows = [[""] * (len(xs) - 1) for _ in range(len(ys) - 1)]
    for cell in cells:
        inside = [letter for letter in letters if _within(letter, cell)]
        text = joined([piece.text for piece in pieces_of(inside)])
        for row in range(_place(cell[1], ys), _place(cell[3], ys)):
            for column in range(_place(cell[0], xs), _place(cell[2], xs)):
                rows[len(ys) - 2 - row][column] = text
    return rows


def _cells(rules: Sequence[Rule]) -> list[_Box]:
    """The smallest boxes between rules that meet at all four corners."""
    across = _merged([rule for rule in rules if rule.horizontal])
    down = _merged([rule for rule in rules if not rule.horizontal])
    if len(across) < 2 or len(down) < 2:
        return []
    meets: dict[int, list[int]] = {}  # rule across → rules down that it meets, from left to right
    for number, rule in enumerate(across):
        meets[number] = [
            place
            for place, other in enumerate(down)
            if rule.start - _NEAR <= other.at <= rule.end + _NEAR
            and other.start - _NEAR <= rule.at <= other.end + _NEAR
        ]
    found: list[_Box] = []
    for number, rule in enumerate(across):  # from the top down
        below = [other for other in range(len(across)) if across[other].at < rule.at - _NEAR]
        for first, second in pairwise(meets[number]):
            for other in sorted(below, key=lambda place: -across[place].at):
                if first in meets[other] and second in meets[other]:
                    found.append((down[first].at, across[other].at, down[second].at, rule.at))
                    break
                lower = across[other]
                if lower.start <= down[first].at + _NEAR and lower.end >= down[second].at - _NEAR:
                    wider = _wider(number, first, below, meets, across, down)
                    if wider and wider not in found:
                        found.append(wider)
                    break
    return found


def _wider(
    number: int,
    first: int,
    below: Sequence[int],
    meets: dict[int, list[int]],
    across: Sequence[Rule],
    down: Sequence[Rule],
) -> _Box | None:
    """The cell at a corner where the next rule does not reach down: it spans columns."""
    for second in meets[number][meets[number].index(first) + 2 :]:
        for other in sorted(below, key=lambda place: -across[place].at):
            if first in meets[other] and second in meets[other]:
                return (down[first].at, across[other].at, down[second].at, across[number].at)
    return None


def _merged(rules: Sequence[Rule]) -> list[Rule]:
    """Rules on one line that touch, as one; from the top down or from left to right."""
    found: list[Rule] = []
    ordered = sorted(rules, key=lambda rule: (rule.at, rule.start))
    lanes: list[list[Rule]] = []
    for rule in ordered:
        if lanes and rule.at - lanes[-1][0].at <= _NEAR:
            lanes[-1].append(rule)
        else:
            lanes.append([rule])
    for lane in lanes:
        at = lane[0].at
        start, end = None, 0.0
        for rule in sorted(lane, key=lambda one: one.start):
            if start is None:
                start, end = rule.start, rule.end
            elif rule.start <= end + _NEAR:
                end = max(end, rule.end)
            else:
                found.append(Rule(rule.horizontal, at, start, end))
                start, end = rule.start, rule.end
        if start is not None:
            found.append(Rule(lane[0].horizontal, at, start, end))
    return sorted(found, key=lambda rule: -rule.at if rule.horizontal else rule.at)


def _groups(cells: Sequence[_Box]) -> list[list[_Box]]:
    """Cells that touch one another, table by table."""
    groups: list[list[_Box]] = []
    for cell in cells:
        near = [group for group in groups if any(_touch(cell, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([cell, *(other for group in near for other in group)])
    return groups


def _touch(one: _Box, other: _Box) -> bool:
    across = one[0] <= other[2] + _NEAR and other[0] <= one[2] + _NEAR
    return across and one[1] <= other[3] + _NEAR and other[1] <= one[3] + _NEAR


def lines_of(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces that are next to one another on a line, from the top down."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda one: -one.middle):
        if lines and lines[-1][0].middle - piece.middle <= 0.45 * min(piece.size, lines[-1][0].size):
            lines[-1].append(piece)
        else:
            lines.append([piece])
    return [sorted(line, key=lambda piece: piece.left) for line in lines]


def aligned_tables(lines: Sequence[list[Piece]]) -> list[tuple[int, int, list[Cells]]]:
    """Stretches `[first, end)` of lines that are tables without rules, with their rows."""
    found = []
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and _may_go_on(lines, start, end):
            end += 1
        rows = _aligned(lines[start:end]) if end - start >= 2 else None
        if rows:
            found.append((start, end, rows))
            start = end
        else:
            start += 1
    return found


def _may_go_on(lines: Sequence[list[Piece]], start: int, end: int) -> bool:
    line = lines[end]
    if end > start:
        above = lines[end - 1]
        if above[0].bottom - line[0].top > 2.2 * max(line[0].size, above[0].size):
            return False
    if len(line) > 1:
        return True
    return end > start and line[0].left > lines[start][0].right  # a cell's second line


def _aligned(lines: Sequence[list[Piece]]) -> list[Cells] | None:
    """The rows of lines whose pieces stand in common columns, None where they do not."""
    lines = list(lines)
    while lines and len(lines[-1]) < 2:
        lines.pop()
    full = [line for line in lines if len(line) > 1]
    least = 2 if all(len(line) > 2 for line in full) else 3
    if len(full) < least:
        return None
    columns = _columns(full)
    if len(columns) < 2:
        return None
    split = [_split(line, columns) for line in lines]
    steps = [one[0].middle - other[0].middle for one, other in pairwise(lines)]
    begin = sorted(step for step, cells in zip(steps, split[1:], strict=True) if cells[0])
    usual = begin[len(begin) // 2] if begin else 0.0
    rows: list[Cells] = []
    for line, cells, step in zip(lines, split, [0.0, *steps], strict=True):
        if rows and (len(line) < 2 or (not cells[0] and step < 0.8 * usual)):  # the second line of cells
            rows[-1] = [joined([a, b]) if a and b else a or b for a, b in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    filled = [cell for row in rows for cell in row if cell]
    long = sum(len(cell) > _MOST_TEXT for cell in filled)
    thin = sum(sum(map(bool, row)) for row in rows) < 0.6 * len(rows) * len(columns)
    if long > 0.25 * len(filled) or thin:
        return None
    if len(columns) == 2 and all(_MARKER.match(row[0]) for row in rows if row[0]):
        return None  # a list whose markers stand apart
    return rows


def _split(line: Sequence[Piece], columns: Sequence[tuple[float, float]]) -> Cells:
    """The text that a line has in each column."""
    cells: list[list[str]] = [[] for _ in columns]
    for piece in line:
        for place in _covered(piece, columns):
            cells[place].append(piece.text)
    return [joined(cell) for cell in cells]


def _columns(lines: Sequence[list[Piece]]) -> list[tuple[float, float]]:
    """Columns, parted where at most a fifth of the lines have anything."""
    left = min(line[0].left for line in lines)
    right = max(piece.right for line in lines for piece in line)
    size = lines[0][0].size
    counts = [0] * (int(right - left) + 2)
    for line in lines:
        for piece in line:
            for place in range(int(piece.left - left), int(piece.right - left) + 1):
                counts[place] += 1
    columns: list[tuple[float, float]] = []
    start: int | None = None
    gap = 0
    for place, count in enumerate([*counts, *[0] * int(size + 2)]):
        if count > 0.2 * len(lines):
            start = place if start is None else start
            gap = 0
        elif start is not None:
            gap += 1
            if gap > 0.5 * size:
                columns.append((left + start, left + place - gap + 1))
                start = None
    return columns


def _covered(piece: Piece, columns: Sequence[tuple[float, float]]) -> list[int]:
    """The columns that a piece reaches into, as a name above several does; the nearest where there are none."""
    inside = [
        place
        for place, (left, right) in enumerate(columns)
        if min(right, piece.right) - max(left, piece.left) > 0.5 * min(right - left, piece.right - piece.left)
    ]
    return inside or [
        min(
            range(len(columns)),
            key=lambda place: abs(sum(columns[place]) / 2 - (piece.left + piece.right) / 2),
        )
    ]

"""Lines of text that were found on a page, in the order in which a person reads them."""

import re
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.read.grid import Source, table_lines
from kun.knowledge.read.pdf_page import Piece
from kun.knowledge.read.pdf_tables import aligned_tables

_GAP = 1.2  # heights of a line: a gap this wide between boxes parts columns
_PARAGRAPH = 0.75  # heights of a line: a gap this high parts paragraphs
_FULL = 0.6  # the share of a column's width that lines of prose fill
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7a3\uff00-\uffef]")
_PROSE = 28  # breadths of a letter: the lines of paragraphs are longer
_LABEL = re.compile(r"[^:：.。,，]{1,24}[:：]\s*\S")
_ENDS = ("。", "！", "？", ".", "!", "?", ":", "：", ";", "；")
_ITEM = re.compile(
    r"(?:[-•·*▪●○■□]|\(?\d{1,3}[.)、）]|[（(][一二三四五六七八九十\d]+[)）]|[一二三四五六七八九十]+、)"
)


@dataclass(frozen=True)
class Line:
    """A line: the corners of its box, float [4, 2] from the top left one, clockwise; its text; how sure it is."""

    box: NDArray[np.float64]
    text: str
    score: float = 1.0

    @cached_property
    def width(self) -> float:
        return float(np.linalg.norm(self.box[1] - self.box[0]))

    @cached_property
    def height(self) -> float:
        return float(np.linalg.norm(self.box[3] - self.box[0]))

    @property
    def left(self) -> float:
        return float(self.box[:, 0].min())

    @property
    def right(self) -> float:
        return float(self.box[:, 0].max())

    @property
    def middle(self) -> float:
        return float(self.box[:, 1].mean())

    @property
    def top(self) -> float:
        return self.middle - self.height / 2

    @property
    def bottom(self) -> float:
        return self.middle + self.height / 2


def text_of_lines(lines: list[Line]) -> str:
    """The text of a page: turned upright, column by column, lines of a paragraph joined."""
    return "\n\n".join(_column_text(column) for column in _columns(straightened(lines))).strip()


def straightened(lines: list[Line]) -> list[Line]:
    """The lines as if the page lay straight: turned back by the middle angle of the longer ones."""
    long = [line for line in lines if line.width > 4 * line.height]
    if not long:
        return lines
    tops = np.array([line.box[1] - line.box[0] for line in long])
    angle = float(np.median(np.arctan2(tops[:, 1], tops[:, 0])))
    cosine, sine = np.cos(-angle), np.sin(-angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return [replace(line, box=line.box @ turn.T) for line in lines]


def _columns(lines: list[Line]) -> list[list[Line]]:
    """Stretches of a page that are read one after the other: parts above one another, columns next to one another."""
    if len(lines) < 6:
        return [lines] if lines else []
    cut = _column_cut(lines)
    if cut is not None:
        left = [line for line in lines if line.right <= cut]
        right = [line for line in lines if line.left >= cut]
        return [*_columns(left), *_columns(right)]
    ordered = sorted(lines, key=lambda line: line.top)
    across = max(line.right for line in lines) - min(line.left for line in lines)
    for place in range(1, len(ordered)):  # below a title across the page, columns may begin
        above, below = ordered[:place], ordered[place:]
        if len(below) < 6 or max(line.bottom for line in above) > below[0].top + 0.3 * below[0].height:
            continue
        if above[-1].width > 0.5 * across and _column_cut(below) is not None:
            return [above, *_columns(below)]
    return [lines]


def _column_cut(lines: list[Line]) -> float | None:
    """The middle of an empty strip from top to bottom with prose on both sides; none inside a table."""
    height = float(np.median([line.height for line in lines]))
    edges = sorted(lines, key=lambda line: line.left)
    reach = edges[0].right
    for line in edges[1:]:
        if line.left - reach > _GAP * height:
            cut = (line.left + reach) / 2
            sides = [other for other in lines if other.right <= cut], [o for o in lines if o.left >= cut]
            if all(_is_prose(side) for side in sides):
                return cut
        reach = max(reach, line.right)
    return None


def _is_prose(lines: list[Line]) -> bool:
    width = max(line.right for line in lines) - min(line.left for line in lines)
    full = sum(line.width > _FULL * width for line in lines)
    breadth = sum(_breadth(line.text) for line in lines) / len(lines)
    return len(lines) >= 3 and full >= 0.6 * len(lines) and breadth >= _PROSE / 2


def _column_text(lines: list[Line]) -> str:
    """The rows of a column: paragraphs joined, and rows whose boxes stand in common columns as records."""
    rows = _rows(lines)
    left = min(row[0].left for row in rows)
    right = max(row[-1].right for row in rows)
    tables = {first: (end, cells) for first, end, cells in aligned_tables([_pieces(row) for row in rows])}
    text, place = "", 0
    before: list[Line] | None = None
    while place < len(rows):
        row = rows[place]
        if place in tables:
            place, cells = tables[place]
            text = (
                "\n\n".join(filter(None, [text, "".join(table_lines(cells, Source(level=0))).strip("\n")]))
                + "\n"
            )
            before = None
            continue
        words = " ".join(line.text for line in row)
        if before is None:
            text = f"{text}\n{words}" if text else words
        elif _goes_on(before, row, left, right):
            text = _joined(text, words)
        else:
            gap = min(line.top for line in row) - max(line.bottom for line in before)
            apart = (
                gap > _PARAGRAPH * row[0].height
                or abs(row[0].height - before[0].height) > 0.3 * row[0].height
            )
            text += ("\n\n" if apart else "\n") + words
        before = row
        place += 1
    return text.rstrip("\n")


def _pieces(row: list[Line]) -> list[Piece]:
    """A row as the finder of tables takes it, whose heights grow upwards."""
    return [
        Piece(line.text, line.left, -line.bottom, line.right, -line.top, line.height, bold=False)
        for line in row
    ]


def _rows(lines: list[Line]) -> list[list[Line]]:
    """The boxes on one height together, from left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.middle):
        if rows:
            middle = sum(other.middle for other in rows[-1]) / len(rows[-1])
            if abs(line.middle - middle) < 0.5 * min(line.height, max(o.height for o in rows[-1])):
                rows[-1].append(line)
                continue
        rows.append([line])
    return [sorted(row, key=lambda line: line.left) for row in rows]


def _goes_on(before: list[Line], row: list[Line], left: float, right: float) -> bool:
    """True if a row goes on with the paragraph of the row before: that one is full, and this one begins at the left."""
    if len(before) > 1 or len(row) > 1 or _breadth(before[0].text) < _PROSE:
        return False
    above, line = before[0], row[0]
    height = line.height
    word = re.match(r"[^\s\u2e80-\u9fff\uff00-\uffef]+|.", line.text)
    needed = line.width * len(word[0]) / len(line.text) if word else 0.0
    full = right - above.right < needed + height  # the first word of this row had no room there
    same = abs(above.height - height) < 0.25 * height and line.top - above.bottom < _PARAGRAPH * height
    begins = line.left - left < 1.2 * height and not _ITEM.match(line.text) and not _LABEL.match(line.text)
    ended = above.text.endswith(_ENDS) and right - above.right > height
    return full and same and begins and not ended


def _breadth(text: str) -> int:
    """The length of a line in Latin letters: Chinese ones are twice as broad."""
    return len(text) + len(_CJK.findall(text))


def _joined(text: str, words: str) -> str:
    """A line after another one: a hyphen at its end goes, and Chinese has no space between."""
    if re.search(r"[a-z]-\Z", text) and re.match(r"[a-z]", words):
        return text[:-1] + words
    if _CJK.match(text[-1:]) or _CJK.match(words[:1]):
        return text + words
    return f"{text} {words}"

"""The pieces of a page of a PDF: stretches of a line of text, and the rules that are drawn between them.

Text inside form objects counts as any other; letters outside the page, tiny ones and white ones on white do not.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kun.knowledge.read.pdf_notes import Filled, filled_in

if TYPE_CHECKING:
    from pdfminer.layout import LTChar, LTComponent, LTPage

_SPLIT = 1.2  # of a letter's size: a wider gap parts two pieces
_SPACE = 0.17  # of a letter's size: a wider gap is a space between words
_WRITTEN = 10.0  # points of what is filled into a form
_TINY = 1.5  # points
_THIN = 2.5  # points of a rectangle that is a rule
_DEEPEST = 20
_CHINESE = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_LOST = re.compile(r"\x00|\(cid:\d+\)")


@dataclass(frozen=True)
class Letter:
    """A letter and its box in points, `bottom` below `top`."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float
    bold: bool


@dataclass(frozen=True)
class Piece:
    """A stretch of one line, without a wide gap in it."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float
    bold: bool

    @property
    def middle(self) -> float:
        return (self.bottom + self.top) / 2


@dataclass(frozen=True)
class Rule:
    """A horizontal or vertical line, at `at` on the other axis."""

    horizontal: bool
    at: float
    start: float
    end: float


@dataclass(frozen=True)
class Page:
    """All letters and rules of a page; `slanted` is the text that runs in another direction."""

    width: float
    height: float
    letters: list[Letter]
    rules: list[Rule]
    slanted: str
    notes: list[str]


def pages_of(content: BinaryIO) -> Iterator[Page]:
    """The pages of a PDF, with what people filled in and noted on them. Raises what pdfminer raises."""
    from pdfminer.converter import PDFPageAggregator
    from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
    from pdfminer.pdfpage import PDFPage

    resources = PDFResourceManager(caching=True)
    device = PDFPageAggregator(resources, laparams=None)
    interpreter = PDFPageInterpreter(resources, device)
    for page in PDFPage.get_pages(content):
        interpreter.process_page(page)
        yield _page(device.get_result(), list(filled_in(page)))


def _page(layout: "LTPage", written: Sequence[Filled]) -> Page:
    from pdfminer.layout import LTChar, LTCurve

    shown: list[LTChar] = []
    rules: list[Rule] = []
    filled: list[tuple[float, float, float, float]] = []
    slanted: list[str] = []
    left, bottom, right, top = layout.bbox
    for item in _all(layout):
        if isinstance(item, LTChar):
            if not (
                left - 1 <= item.x0 and item.x1 <= right + 1 and bottom - 1 <= item.y0 and item.y1 <= top + 1
            ):
                continue
            a, b, *_ = item.matrix
            if abs(b) > 0.2 * abs(a):
                slanted.append(item.get_text())
            elif item.get_text().strip() and item.size > _TINY:
                shown.append(item)
        elif isinstance(item, LTCurve):
            rules += _rules(item)
            if item.fill and not _is_white(item.non_stroking_color):
                filled.append(item.bbox)
        elif type(item).__name__ == "LTImage":
            filled.append(item.bbox)
    letters = [_letter(char) for char in shown if not _is_hidden(char, filled)]
    letters += [_written(one) for one in written if not one.is_note]
    label = "批注" if any(re.match("[\u4e00-\u9fff]", letter.text) for letter in letters[:500]) else "Comment"
    notes = [f"{label}: {one.text}" for one in written if one.is_note]
    return Page(right - left, top - bottom, letters, rules, _LOST.sub("", "".join(slanted)).strip(), notes)


def _written(value: Filled) -> Letter:
    """A value of a form as one letter, in the middle of its box."""
    middle, size = (value.bottom + value.top) / 2, min(_WRITTEN, max(value.top - value.bottom, 1.0))
    right = min(value.right, value.left + 0.5 * size * len(value.text))
    return Letter(value.text, value.left, middle - size / 2, right, middle + size / 2, size, False)


def _all(layout: "LTComponent", depth: int = 0) -> "Iterator[LTComponent]":
    """Everything on a page, that inside form objects too."""
    from pdfminer.layout import LTContainer

    if isinstance(layout, LTContainer) and depth < _DEEPEST:
        for item in layout:
            yield from _all(item, depth + 1)
    else:
        yield layout


def _letter(char: "LTChar") -> Letter:
    name = char.fontname.lower()
    bold = any(word in name for word in ("bold", "black", "heavy", "demi", "heiti", "simhei"))
    text = _LOST.sub("", char.get_text())
    return Letter(text, char.x0, char.y0, char.x1, char.y1, char.size, bold)


def _is_hidden(char: "LTChar", filled: Sequence[tuple[float, float, float, float]]) -> bool:
    """White letters with nothing painted behind them."""
    if not _is_white(char.graphicstate.ncolor):
        return False
    x, y = (char.x0 + char.x1) / 2, (char.y0 + char.y1) / 2
    return not any(left <= x <= right and bottom <= y <= top for left, bottom, right, top in filled)


def _is_white(color: object) -> bool:
    if isinstance(color, int | float):
        return color >= 0.98
    if not isinstance(color, tuple | list) or not all(isinstance(part, int | float) for part in color):
        return False
    return all(part <= 0.02 for part in color) if len(color) == 4 else bool(color) and min(color) >= 0.98


def _rules(item: "LTComponent") -> Iterator[Rule]:
    """A thin shape is a rule; a frame has four."""
    left, bottom, right, top = item.bbox
    if top - bottom <= _THIN:
        if right - left > _THIN:
            yield Rule(True, (bottom + top) / 2, left, right)
    elif right - left <= _THIN:
        yield Rule(False, (left + right) / 2, bottom, top)
    elif type(item).__name__ == "LTRect":
        yield Rule(True, bottom, left, right)
        yield Rule(True, top, left, right)
        yield Rule(False, left, bottom, top)
        yield Rule(False, right, bottom, top)


def pieces_of(letters: Sequence[Letter]) -> list[Piece]:
    """The letters in lines, parted at wide gaps, from the top down and from left to right."""
    found: list[Piece] = []
    for line in _lines(letters):
        run: list[Letter] = []
        for letter in sorted(line, key=lambda one: one.left):
            if run and _is_double(run[-1], letter):
                continue
            if run and letter.left - run[-1].right > _SPLIT * max(letter.size, run[-1].size):
                found.append(_piece(run))
                run = []
            run.append(letter)
        if run:
            found.append(_piece(run))
    return found


def _lines(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    line: list[Letter] = []
    middle = 0.0
    for letter in sorted(letters, key=lambda one: -(one.bottom + one.top)):
        here = (letter.bottom + letter.top) / 2
        if line and middle - here > 0.4 * max(letter.size, line[0].size):
            yield line
            line = []
        if not line:
            middle = here
        line.append(letter)
    if line:
        yield line


def _is_double(one: Letter, other: Letter) -> bool:
    """The same letter again a hair apart, as some programs make bold."""
    near = abs(one.left - other.left) < 0.12 * one.size and abs(one.bottom - other.bottom) < 0.12 * one.size
    return near and one.text == other.text


def _piece(run: Sequence[Letter]) -> Piece:
    text = ""
    for before, letter in zip([None, *run], run, strict=False):
        if (
            before
            and letter.left - before.right > _SPACE * letter.size
            and not _both_chinese(before.text, letter.text)
        ):
            text += " "
        text += letter.text
    sizes = sorted(letter.size for letter in run)
    return Piece(
        text,
        run[0].left,
        min(letter.bottom for letter in run),
        run[-1].right,
        max(letter.top for letter in run),
        sizes[len(sizes) // 2],
        sum(letter.bold for letter in run) > 0.8 * len(run),
    )


def _both_chinese(one: str, other: str) -> bool:
    return bool(re.search(f"[{_CHINESE}]$", one) and re.match(f"[{_CHINESE}]", other))


def joined(lines: Sequence[str]) -> str:
    """Lines as one text: no hyphen where a word was parted, no space between Chinese."""
    text = ""
    for line in lines:
        if not text:
            text = line
        elif re.search(r"[a-z]-$", text) and re.match(r"[a-z]", line):
            text = text[:-1] + line
        elif _both_chinese(text, line):
            text += line
        else:
            text += " " + line
    return text

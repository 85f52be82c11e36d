"""A small SVG canvas: boxes with words, arrows, frames, dots. Coordinates are pixels, y downwards."""

from collections.abc import Sequence
from typing import Literal
from xml.sax.saxutils import escape

Language = Literal["en", "zh"]
Label = tuple[str, str]
"""The same words in English and in Chinese."""
Point = tuple[float, float]

INK, EDGE, PAPER, SOFT, WARM, GREEN, DIM = (
    "#1f2937",
    "#4f46e5",
    "#ffffff",
    "#eef2ff",
    "#fef3c7",
    "#dcfce7",
    "#6b7280",
)
_FONT = "'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif"
_SIZE = 13.0


def text_width(text: str, size: float = _SIZE) -> float:
    """About the width of a line: a Chinese character is as wide as it is high, a Latin letter a little over half."""
    return sum(size if ord(letter) > 0x2E7F else 0.56 * size for letter in text)


def number(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


class Canvas:
    """One drawing in one language, made of elements in the order in which they are added."""

    def __init__(self, width: int, height: int, title: Label, language: Language) -> None:
        self.width, self.height, self.language = width, height, language
        self._title = self.say(title)
        self._parts: list[str] = []

    def say(self, label: Label) -> str:
        """The words of a label in the language of this drawing."""
        return label[0] if self.language == "en" else label[1]

    def text(
        self,
        x: float,
        y: float,
        label: Label,
        *,
        size: float = _SIZE,
        colour: str = INK,
        anchor: Literal["start", "middle", "end"] = "middle",
        bold: bool = False,
        room: float | None = None,
    ) -> None:
        """A line whose middle is at height `y`, made smaller where it would be wider than `room`."""
        words = self.say(label)
        if room is not None and text_width(words, size) > room:
            size *= room / text_width(words, size)
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{number(x)}" y="{number(y + size * 0.36)}" font-size="{number(size)}" '
            f'text-anchor="{anchor}" fill="{colour}"{weight}>{escape(words)}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *lines: Label,
        fill: str = SOFT,
        edge: str = EDGE,
        size: float = _SIZE,
    ) -> None:
        """A rounded box with up to three lines in its middle."""
        self._parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
            f'rx="6" fill="{fill}" stroke="{edge}"/>'
        )
        step = size * 1.3
        for row, line in enumerate(lines):
            middle = y + height / 2 + (row - (len(lines) - 1) / 2) * step
            self.text(x + width / 2, middle, line, size=size, room=width - 10)

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """A dashed frame around what belongs together."""
        self._parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
            f'rx="8" fill="none" stroke="{DIM}" stroke-dasharray="4 3"/>'
        )

    def arrow(self, *points: Point, colour: str = INK) -> None:
        """A line through the points with a tip at the last."""
        self._line(points, ' marker-end="url(#tip)"', colour)

    def line(self, *points: Point, colour: str = INK, dashed: bool = False) -> None:
        """A line through the points."""
        self._line(points, ' stroke-dasharray="4 3"' if dashed else "", colour)

    def _line(self, points: Sequence[Point], more: str, colour: str) -> None:
        way = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self._parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}"{more}/>')

    def polygon(self, *points: Point, fill: str) -> None:
        """A closed shape."""
        way = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self._parts.append(f'<polygon points="{way}" fill="{fill}" stroke="{INK}"/>')

    def cells(self, corners: Sequence[Point], width: float, height: float, *, fill: str) -> None:
        """Many rectangles of one size and colour, by their upper left corners, in one element."""
        side = f"h{number(width)}v{number(height)}h{number(-width)}z"
        way = "".join(f"M{number(x)} {number(y)}{side}" for x, y in corners)
        self._parts.append(f'<path d="{way}" fill="{fill}" stroke="none" shape-rendering="crispEdges"/>')

    def circle(self, x: float, y: float, radius: float, *, fill: str) -> None:
        """A filled circle."""
        self._parts.append(
            f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{fill}" stroke="{INK}"/>'
        )

    def dots(self, points: Sequence[Point], *, colour: str) -> None:
        """Many round dots in one element."""
        way = "".join(f"M{number(x)} {number(y)}h0" for x, y in points)
        self._parts.append(
            f'<path d="{way}" stroke="{colour}" stroke-width="3" '
            'stroke-linecap="round" stroke-opacity="0.75" fill="none"/>'
        )

    def svg(self) -> str:
        """The whole drawing as a document of its own."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="{_FONT}">'
        )
        tip = (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>'
        )
        paper = f'<rect width="{self.width}" height="{self.height}" rx="8" fill="{PAPER}"/>'
        return "\n".join(
            [head, f"<title>{escape(self._title)}</title>", tip, paper, *self._parts, "</svg>", ""]
        )

"""Small charts of a run's own numbers: lines, bars and maps, drawn on the canvas of the handbook's pictures."""

import math
from collections.abc import Mapping, Sequence

from kun.tour.drawings.canvas import DIM, EDGE, INK, PAPER, Canvas, Label, Language, Point

COLOURS = (EDGE, "#d97706", "#16a34a", "#dc2626", "#0891b2")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 312, 64, 150, 52, 46


def lines(
    language: Language,
    title: Label,
    across: Label,
    up: Label,
    series: Mapping[Label, Sequence[Point]],
    *,
    log: bool = False,
) -> str:
    """Curves over a shared axis; `log` makes the upper axis one of powers of ten, on which values must be above 0."""
    c = Canvas(_WIDTH, _HEIGHT, title, language)
    height = [[math.log10(y) if log else y for _, y in points] for points in series.values()]
    low, high = min(map(min, height)), max(map(max, height))
    high = high if high > low else low + 1
    xs = [x for points in series.values() for x, _ in points]
    left, right = min(xs), max(xs)
    right = right if right > left else left + 1
    room, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> Point:
        return _LEFT + room * (x - left) / (right - left), _TOP + tall * (high - y) / (high - low)

    c.text(_LEFT, 18, title, anchor="start", bold=True, room=_WIDTH - _LEFT - 10)
    for value in _powers(low, high) if log else _round_numbers(low, high):
        y = place(left, value)[1]
        c.line((_LEFT, y), (_WIDTH - _RIGHT, y), colour="#e5e7eb")
        words = _written(10**value if log else value)
        c.text(_LEFT - 6, y, (words, words), size=10, colour=DIM, anchor="end")
    for x in (left, right):
        words = _written(x)
        c.text(place(x, low)[0], _HEIGHT - _BOTTOM + 12, (words, words), size=10, colour=DIM)
    c.text(_LEFT + room / 2, _HEIGHT - 14, across, size=11, colour=DIM)
    c.text(6, _TOP - 16, up, size=10, colour=DIM, anchor="start")
    for row, (name, points) in enumerate(series.items()):
        colour = COLOURS[row % len(COLOURS)]
        way = [place(x, y) for (x, _), y in zip(points, height[row], strict=True)]
        c.line(*way, colour=colour)
        c.dots(way, colour=colour)
        y = _TOP + 10 + 20 * row
        c.dots([(_WIDTH - _RIGHT + 12, y)], colour=colour)
        c.text(_WIDTH - _RIGHT + 22, y, name, size=11, anchor="start", room=_RIGHT - 28)
    return c.svg()


def bars(language: Language, title: Label, values: Mapping[Label, float], *, form: str = ".2f") -> str:
    """A bar a value, from 0; the longest fills the room."""
    c = Canvas(_WIDTH, 44 + 30 * len(values), title, language)
    most = max((abs(value) for value in values.values()), default=1.0) or 1.0
    c.text(10, 18, title, anchor="start", bold=True, room=_WIDTH - 20)
    for row, (name, value) in enumerate(values.items()):
        y = 36 + 30 * row
        c.text(170, y + 11, name, size=12, anchor="end", room=160)
        c.box(180, y, max(1.0, 300 * abs(value) / most), 22, fill=COLOURS[row % len(COLOURS)], edge=PAPER)
        words = format(value, form)
        c.text(190 + 300 * abs(value) / most, y + 11, (words, words), size=12, anchor="start")
    return c.svg()


def grid(
    language: Language,
    title: Label,
    rows: Sequence[Label],
    columns: Sequence[Label],
    values: Sequence[Sequence[float]],
) -> str:
    """A map of shares from 0 to 1, darker the larger, with the numbers where there is room for them."""
    wide = max(12.0, min(58.0, 440 / max(1, len(columns))))
    tall = 30.0 if len(rows) <= 12 else 10.0
    named = len(columns) <= 12
    c = Canvas(round(110 + wide * len(columns) + 20), round(70 + tall * len(rows)), title, language)
    c.text(10, 18, title, anchor="start", bold=True, room=c.width - 20)
    for column, name in enumerate(columns if named else ()):
        c.text(100 + wide * (column + 0.5), 46, name, size=11, room=wide - 2)
    cells: dict[str, list[Point]] = {}
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            cells.setdefault(_shade(value), []).append((100 + wide * column, 58 + tall * row))
    for fill, corners in cells.items():
        c.cells(corners, wide, tall, fill=fill)
    for row, line in enumerate(values if len(rows) <= 12 else ()):
        y = 58 + tall * (row + 0.5)
        c.text(92, y, rows[row], size=12, anchor="end", room=88)
        for column, value in enumerate(line if named else ()):
            words = f"{value:.2f}"
            c.text(
                100 + wide * (column + 0.5), y, (words, words), size=11, colour=PAPER if value > 0.6 else INK
            )
    return c.svg()


def _shade(value: float) -> str:
    """From paper to the colour of edges, in 32 steps."""
    share = round(31 * min(1.0, max(0.0, value))) / 31
    return "#" + "".join(f"{round(255 + (end - 255) * share):02x}" for end in (0x4F, 0x46, 0xE5))


def _round_numbers(low: float, high: float) -> list[float]:
    """Three to eight between both: multiples of 1, 2 or 5 times a power of ten."""
    apart = (high - low) / 7.5
    power = 10.0 ** math.floor(math.log10(apart))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= apart * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Logarithms between both: of powers of ten, or of round numbers where there are fewer than two."""
    whole = range(math.ceil(low), math.floor(high) + 1)
    if len(whole) > 1:
        return [float(power) for power in whole[:: math.ceil(len(whole) / 6)]]
    return [math.log10(value) for value in _round_numbers(10**low, 10**high) if value > 0]


def _written(value: float) -> str:
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 and abs(value) < 1e6 else f"{value:.3g}"

"""Curves as SVG that stretches to its card, with their numbers next to them for the page's own script.

The axes' labels are HTML, placed in per cent, so that they keep their size where the drawing is stretched.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from kun.training.report.words import both, catalogue

_POINTS = 400
"""Points of one curve; more are not seen."""
_TICKS = 5

Colour = str
Points = tuple[Sequence[float], Sequence[float]]
"""Places and values, both [n]."""
ACCENT: Colour = "var(--accent)"
WARM: Colour = "var(--warm)"
GLOW: Colour = "var(--glow)"


@dataclass(frozen=True)
class Curve:
    """`y` over `x`, both [n]. One that `is_noisy` is drawn smoothed, with what lies around it behind."""

    x: Sequence[float]
    y: Sequence[float]
    en: str
    zh: str
    colour: Colour = ACCENT
    is_noisy: bool = False

    @classmethod
    def named(cls, key: str, points: Points, colour: Colour = ACCENT, *, is_noisy: bool = False) -> "Curve":
        """One through `points`, whose name is in the catalogue."""
        texts = catalogue()[key]
        return cls(*points, texts["en"], texts["zh"], colour, is_noisy)


def smooth(values: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    """Exponential averages over about `span` values on either side, so that what is smoothed does not lag behind."""
    return (_averaged(values, span) + _averaged(values[::-1], span)[::-1]) / 2


def _averaged(values: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    """The exponential average up to each value, without the pull of its start."""
    decay, average, weight = 1 - 1 / max(1.0, span), 0.0, 0.0
    made = np.empty(len(values))
    for place, value in enumerate(values):
        average = decay * average + (1 - decay) * value
        weight = decay * weight + (1 - decay)
        made[place] = average / weight
    return made


def chart(title: str, curves: Sequence[Curve], *, is_wide: bool = False) -> str:
    """A figure with a title (HTML) and some curves; "" where none has two points."""
    curves = [curve for curve in map(_finite, curves) if len(curve.x) > 1]
    if not curves:
        return ""
    thinned = [_thinned(curve) for curve in curves]
    left, right = min(c.x[0] for c in curves), max(c.x[-1] for c in curves)
    bottom, top = _range([values for one in thinned for values in (one.low, one.high)])
    scale = _Scale(left, right, bottom, top)
    drawn = "".join(_drawn(curve, one, scale) for curve, one in zip(curves, thinned, strict=True))
    data = {
        "x": [left, right],
        "y": [bottom, top],
        "lines": [
            {
                "name": {"en": curve.en, "zh": curve.zh},
                "colour": curve.colour,
                "x": one.x.tolist(),
                "y": [float(f"{value:.5g}") for value in one.middle],
            }
            for curve, one in zip(curves, thinned, strict=True)
        ],
    }
    keys = "".join(
        f'<span class="key" style="--colour:{curve.colour}">{both(curve.en, curve.zh)}</span>'
        for curve in curves
        if len(curves) > 1
    )
    return (
        f'<figure class="card{" wide" if is_wide else ""}"><figcaption><h3>{title}</h3>{keys}</figcaption>'
        f'<div class="plot" data-curves="{escape(json.dumps(data, separators=(",", ":")))}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{scale.grid()}{drawn}</svg>'
        f"{scale.labels()}</div></figure>"
    )


@dataclass(frozen=True)
class _Thinned:
    """Some steps in one point: their last place, least, most, and the (smoothed) value there; each [n]."""

    x: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    middle: NDArray[np.float64]


def _finite(curve: Curve) -> Curve:
    pairs = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
    x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Curve(x, y, curve.en, curve.zh, curve.colour, curve.is_noisy)


def _thinned(curve: Curve) -> _Thinned:
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    middle = smooth(y, len(y) / 60) if curve.is_noisy else y
    starts = np.unique(np.linspace(0, len(x), min(len(x), _POINTS), endpoint=False).astype(int))
    ends = np.append(starts[1:], len(x)) - 1
    return _Thinned(x[ends], np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts), middle[ends])


def _range(values: list[NDArray[np.float64]]) -> tuple[float, float]:
    """From the least to the most; a few values far above all others do not flatten the rest."""
    joined = np.concatenate(values)
    low, high, usual = float(joined.min()), float(joined.max()), float(np.quantile(joined, 0.98))
    if high - low > 3 * (usual - low) > 0:
        high = low + 1.5 * (usual - low)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _drawn(curve: Curve, one: _Thinned, scale: "_Scale") -> str:
    path = scale.path(one.x, one.middle)
    line = f'<path style="--colour:{curve.colour}" d="M{path}"/>'
    if not curve.is_noisy:
        return line
    around = f"M{scale.path(one.x, one.high)}L{scale.path(one.x[::-1], one.low[::-1])}Z"
    return f'<path class="raw" style="--colour:{curve.colour}" d="{around}"/>{line}'


@dataclass(frozen=True)
class _Scale:
    """From numbers to places in the drawing."""

    left: float
    right: float
    bottom: float
    top: float

    def across(self, x: float) -> float:
        return (x - self.left) / (self.right - self.left or 1)

    def down(self, y: float) -> float:
        return (self.top - y) / (self.top - self.bottom)

    def path(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
        places = zip(x.tolist(), y.tolist(), strict=True)
        return " ".join(f"{1000 * self.across(a):.1f},{1000 * self.down(b):.1f}" for a, b in places)

    def grid(self) -> str:
        heights = (1000 * self.down(y) for y in ticks(self.bottom, self.top))
        return "".join(f'<line x1="0" x2="1000" y1="{h:.1f}" y2="{h:.1f}"/>' for h in heights)

    def labels(self) -> str:
        heights = "".join(
            f'<i class="y" style="top:{100 * self.down(y):.2f}%">{short(y)}</i>'
            for y in ticks(self.bottom, self.top)
        )
        places = "".join(
            f'<i class="x" style="left:{100 * self.across(x):.2f}%">{short(x)}</i>'
            for x in ticks(self.left, self.right)
        )
        return heights + places


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, about five."""
    if not high > low:
        return [low]
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number in few characters: 0.0003, 4.5, 12k, 3.2M."""
    size = abs(value)
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{value / factor:.4g}{unit}"
    if 0 < size < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-")
    return f"{value:.4g}"

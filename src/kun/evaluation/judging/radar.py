"""A radar chart: an axis for each category, a line for each model."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kun.evaluation.judging.standings import Judged
from kun.inspection.picture import PictureFormat, new_figure, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0b6e8a", "#d97706", "#16a34a", "#b91c1c", "#7c3aed", "#64748b")
_STYLES = ("-", "--", "-.", ":")
_FEWEST = 3
"""Axes that a radar needs; fewer categories are drawn as bars."""


def radar(judged: Judged, format: PictureFormat) -> bytes:
    """Win rates by category and, where answers were scored, scores, side by side.

    Scores of a reward model have no scale of their own: its axes go from the lowest mean to the highest.
    """
    panels = [
        ("win rate", {one.model: one.win_rate_by_category for one in judged.standings}, (0.0, 1.0)),
        ("score", {one.model: one.score_by_category for one in judged.standings}, _bounds(judged)),
    ]
    drawn = [panel for panel in panels if any(panel[1].values())]
    is_round = len(judged.categories) >= _FEWEST
    figure = new_figure(width=5.6 * max(1, len(drawn)), height=5.2)
    axes = figure.subplots(
        1, max(1, len(drawn)), squeeze=False, subplot_kw={"projection": "polar"} if is_round else {}
    )[0]
    for ax, (title, lines, bounds) in zip(axes, drawn, strict=False):
        (_round if is_round else _bars)(ax, judged.categories, lines, bounds)
        ax.set_title(title, loc="left", fontsize=11)
        ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(-0.1, -0.14), ncols=2)
    return saved(figure, format)


def _bounds(judged: Judged) -> tuple[float, float]:
    if judged.kind != "reward model":
        return 0.0, 10.0
    values = [value for one in judged.standings for value in one.score_by_category.values()] or [0.0]
    low, high = min(values), max(values)
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin


def _round(
    ax: "Axes",
    categories: Sequence[str],
    lines: Mapping[str, Mapping[str, float]],
    bounds: tuple[float, float],
) -> None:
    angles = [2 * math.pi * place / len(categories) for place in range(len(categories))]
    for place, (model, values) in enumerate(lines.items()):
        points = [values.get(name, math.nan) for name in categories]
        colour, style = _COLOURS[place % len(_COLOURS)], _STYLES[place // len(_COLOURS) % len(_STYLES)]
        ax.plot([*angles, 0.0], [*points, points[0]], style, color=colour, label=model, linewidth=1.6)
        ax.fill([*angles, 0.0], [*points, points[0]], color=colour, alpha=0.08)
    ax.set_xticks(angles, list(categories), fontsize=8)
    ax.set_ylim(*bounds)
    ax.tick_params(axis="x", pad=9)  # names stay clear of the circle
    ax.tick_params(axis="y", labelsize=7)


def _bars(
    ax: "Axes",
    categories: Sequence[str],
    lines: Mapping[str, Mapping[str, float]],
    bounds: tuple[float, float],
) -> None:
    width = 0.8 / max(1, len(lines))
    for place, (model, values) in enumerate(lines.items()):
        at = [number - 0.4 + width * (place + 0.5) for number in range(len(categories))]
        heights = [values.get(name, 0.0) for name in categories]
        ax.bar(at, heights, width, color=_COLOURS[place % len(_COLOURS)], label=model)
    ax.set_xticks(range(len(categories)), list(categories), fontsize=8)
    ax.set_ylim(*bounds)

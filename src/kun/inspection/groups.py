"""A picture of things in groups: points in the plane, a colour and a name for each group."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kun.inspection.picture import PictureFormat, new_figure, saved

_MOST = 5000
"""Points that are drawn: more make a picture heavy, not clearer."""


def scatter(
    points: NDArray[np.float32], labels: NDArray[np.int64], names: Sequence[str], format: PictureFormat
) -> bytes:
    """Points [n, 2], each in the colour of its group `labels` [n]; the names stand at the groups' middles."""
    from matplotlib import colormaps

    chosen = colormaps["tab20" if len(names) > 10 else "tab10"]
    colours = [chosen(number) for number in range(chosen.N)]
    figure = new_figure(width=11, height=7)
    ax = figure.subplots()
    shown = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MOST)).astype(np.int64))
    for group, name in enumerate(names):
        colour = colours[group % len(colours)]
        rows = shown[labels[shown] == group]
        size = int((labels == group).sum())
        ax.scatter(points[rows, 0], points[rows, 1], s=16, color=colour, alpha=0.7, label=f"{name} ({size})")
        x, y = points[labels == group].mean(axis=0)
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "alpha": 0.85}
        ax.text(x, y, name.split(" · ")[0], ha="center", va="center", fontsize=9, bbox=box)
    ax.set_xticks([])
    ax.set_yticks([])
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return saved(figure, format)

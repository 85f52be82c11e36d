"""Curves of several trainings in one picture, a panel for each thing that they recorded."""

from collections.abc import Sequence

from kun.inspection.picture import new_figure, saved
from kun.training.comparing import Panel

_COLOURS = ("#0b6e8a", "#d97706", "#16a34a", "#b91c1c", "#7c3aed", "#64748b")
_STYLES = ("-", "--", "-.", ":")
_MARKED = 30
"""Points up to which each has a mark."""


def curves(panels: Sequence[Panel]) -> bytes:
    """An SVG of the panels side by side; lines of a run have its colour in each."""
    figure = new_figure(width=6.4 * len(panels), height=4.4)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    for ax, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, (x, y) in panel.lines.items():
            place = names.index(name)
            ax.plot(
                x,
                y,
                _STYLES[place // len(_COLOURS) % len(_STYLES)],
                color=_COLOURS[place % len(_COLOURS)],
                marker="o" if len(x) <= _MARKED else None,
                markersize=4,
                label=name,
            )
        if "x" in panel.log:
            ax.set_xscale("log")
        if "y" in panel.log:
            ax.set_yscale("log")
        ax.set_title(panel.title, loc="left", fontsize=11)
        ax.set_xlabel(panel.across)
        ax.grid(alpha=0.25)
        ax.legend(fontsize=9)
    return saved(figure, "svg")

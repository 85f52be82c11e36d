"""A picture of results: a panel for each task, a bar for each model; of shares a group of bars for each of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kun.evaluation.change import perplexity_change
from kun.evaluation.result import Result
from kun.inspection.picture import PictureFormat, new_figure, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#8fa9b5", "#2f7f93", "#d08a3c", "#7d5ba6", "#b5524a")
_LONGEST_NAME = 28


def bars(found: Sequence[Sequence[Result]], format: PictureFormat) -> bytes:
    """The first measure of each task, by model, with its standard error; of perplexity its change from the first model.

    Of a task that counts rows by group all shares are drawn, with their intervals. `found` holds, for each task, the
    results of all models in one order.
    """
    widths = [3.2 if not _is_counted(each) else 1.2 + 1.2 * len(each[0].measures) for each in found]
    drawn = new_figure(width=1.6 + sum(widths), height=3.6)
    panels = drawn.subplots(1, len(found), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    for ax, results in zip(panels, found, strict=True):
        if _is_counted(results):
            _shares(ax, results)
        else:
            _first_measure(ax, results)
    return saved(drawn, format)


def _is_counted(results: Sequence[Result]) -> bool:
    return all(measure.low is not None for measure in results[0].measures.values())


def _first_measure(ax: "Axes", results: Sequence[Result]) -> None:
    first = results[0]
    measure = next(iter(first.measures))
    values = [result.measures[measure] for result in results]
    colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(results))]
    errors = [value.error or 0.0 for value in values]
    ax.bar(range(len(results)), [value.value for value in values], yerr=errors, color=colours, capsize=3)
    for place, (result, value) in enumerate(zip(results, values, strict=True)):
        change = perplexity_change(first, result) if place else None
        said = f"{value.value:.3g}" if change is None else f"{value.value:.3g}\n{change.value:+.1%}"
        ax.annotate(
            said, (place, value.value + errors[place]), (0, 2), textcoords="offset points", ha="center",
            va="bottom", fontsize=8,
        )  # fmt: skip
    ax.margins(y=0.2)
    ax.set(title=first.task, ylabel=measure.replace("_", " "))
    ax.set_xticks(
        range(len(results)),
        [_short(result.model) for result in results],
        rotation=20,
        ha="right",
        fontsize=8,
    )


def _shares(ax: "Axes", results: Sequence[Result]) -> None:
    """Each share of the first result, in percent, a bar a model with its interval; ▼ where less is better."""
    first, width = results[0], 0.8 / len(results)
    for place, result in enumerate(results):
        measures = [result.measures[name] for name in first.measures]
        middles = [number + (place - (len(results) - 1) / 2) * width for number in range(len(measures))]
        values = [100 * one.value for one in measures]
        below = [value - 100 * (one.low or 0.0) for one, value in zip(measures, values, strict=True)]
        above = [100 * (one.high or 0.0) - value for one, value in zip(measures, values, strict=True)]
        ax.bar(
            middles, values, width, yerr=[below, above], color=_COLOURS[place % len(_COLOURS)], capsize=2,
            label=_short(result.model),
        )  # fmt: skip
    names = [f"{name} ▼" if one.goal == "lower" else name for name, one in first.measures.items()]
    ax.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    ax.set(title=first.task, ylabel="% of answers", ylim=(0, 115))
    ax.legend(fontsize=7, loc="upper center", ncols=max(1, min(3, len(results))), frameon=False)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]

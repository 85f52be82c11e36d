"""A picture of results: a panel for each task, a bar for each model."""

from collections.abc import Sequence

from kun.evaluation.change import perplexity_change
from kun.evaluation.result import Result
from kun.inspection.picture import PictureFormat, new_figure, saved

_COLOURS = ("#8fa9b5", "#2f7f93", "#d08a3c", "#7d5ba6", "#b5524a")
_LONGEST_NAME = 28


def bars(found: Sequence[Sequence[Result]], format: PictureFormat) -> bytes:
    """The first measure of each task, by model, with its standard error; of perplexity its change from the first model.

    `found` holds, for each task, the results of all models in one order.
    """
    drawn = new_figure(width=1.6 + 3.2 * len(found), height=3.6)
    for ax, results in zip(drawn.subplots(1, len(found), squeeze=False)[0], found, strict=True):
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
    return saved(drawn, format)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]

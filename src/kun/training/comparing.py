"""Trainings of one recipe that differ in a few keys, one after the other, and what they recorded next to each other.

A recipe's [compare] names the runs, each with what it has otherwise. Where a run has a grid (`try`), each point of it
is trained and the best is shown, so that rules of update, say, are compared at the rate that suits each.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from kun.atomic_files import new_file
from kun.errors import BadRecipe, Diverged
from kun.settings import launch
from kun.training.progress import TrainingProgress, silent
from kun.training.recipe import Recipe, Values, parse_recipe, read_override, read_recipe
from kun.training.run import Run, RunFolder, read_lines
from kun.training.train import train

PICTURE, NUMBERS = "comparison.svg", "comparison.json"


@dataclass(frozen=True)
class Panel:
    """One drawing: lines by the names of runs, each its places and values; `log` names its logarithmic axes."""

    title: str
    across: str
    log: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]


Draw = Callable[[Sequence[Panel]], bytes]
"""The picture of some panels, as SVG."""


@dataclass(frozen=True)
class Comparison(Run):
    """What a comparison left: its `runs` by their names, a `picture`. `checkpoint` is that of the best run."""

    runs: Mapping[str, Run] = field(default_factory=dict)
    tried: Mapping[str, float] = field(default_factory=dict)
    """The metric that decides, at the end of every training, points of grids included; infinite where it diverged."""

    @property
    def picture(self) -> Path:
        return self.path / PICTURE


@dataclass(frozen=True)
class _Training:
    """One training: the run of the recipe that it belongs to, its own name, its recipe."""

    run: str
    name: str
    recipe: Recipe


def train_recipe(
    path: str | Path,
    overrides: Mapping[str, object] | None,
    draw: Draw,
    *,
    resume: bool = False,
    progress: TrainingProgress | None = None,
) -> Run:
    """Train what the recipe in a file says, and all of what it compares; with `resume` what is done is not done again.

    Raises what `train` raises; `BadRecipe` before the first step where any of the runs is none.
    """
    recipe, name = read_recipe(path, overrides), Path(path).stem
    if recipe.compare is None:
        return train(recipe, name, resume=resume, progress=progress)
    if launch() is not None:
        raise BadRecipe("A recipe that compares trains on one process: run it without torchrun.")
    folder = RunFolder.choose(recipe.out, name, resume=resume, check=lambda begun: None)
    planned = list(_planned(recipe, folder.path))
    with folder.held(recipe.to_toml()):
        return _compared(recipe, folder, planned, draw, resume=resume, progress=progress or silent)


def _compared(
    recipe: Recipe,
    folder: RunFolder,
    planned: Sequence[_Training],
    draw: Draw,
    *,
    resume: bool,
    progress: TrainingProgress,
) -> Comparison:
    assert recipe.compare is not None
    by, tried, best = recipe.compare.by, dict[str, float](), dict[str, tuple[str, Run]]()
    for one in planned:
        run = _trained(one, folder.path, resume, progress)
        tried[one.name] = _last(run, by)
        held = best.get(one.run)
        if held is None or tried[one.name] < tried[held[0]]:
            best[one.run] = one.name, run
    runs = dict(best.values())
    if not any(run.checkpoint.is_dir() for run in runs.values()):
        raise Diverged(f"Every run of {folder.path} diverged: lower optimizer.lr.")
    panels = [_panel(title, runs, recipe.compare.log) for title in recipe.compare.draw]
    with new_file(folder.path / NUMBERS) as fresh:
        written = {"by": by, "tried": tried, "panels": [panel.__dict__ for panel in panels]}
        fresh.write_text(json.dumps(finite(written), ensure_ascii=False), encoding="utf-8")
    with new_file(folder.path / PICTURE) as fresh:
        fresh.write_bytes(draw(panels))
    return Comparison(folder.path, runs[min(runs, key=tried.__getitem__)].checkpoint, runs, tried)


def finite(value: object) -> object:
    """What JSON can hold, which has no infinity: None in the place of what a run that diverged measured."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): finite(one) for key, one in value.items()}
        case list() | tuple():
            return [finite(one) for one in value]
    return value


def _trained(one: _Training, folder: Path, resume: bool, progress: TrainingProgress) -> Run:
    """The run of one training. One that diverges is a result, too: its curves end there."""
    path = folder / _slug(one.name)
    run = Run(path, path / "checkpoint")
    if resume and run.checkpoint.is_dir():
        return run
    try:
        return train(
            one.recipe,
            one.name,
            resume=resume,
            progress=lambda stage, done, total, detail: progress(f"{one.name}: {stage}", done, total, detail),
        )
    except Diverged as error:
        progress(f"{one.name}: diverged", 0, None, str(error))
        return run


def _last(run: Run, by: str) -> float:
    """The last value of a metric; infinite where the run diverged. Raises `BadRecipe` where it has none such."""
    if not run.checkpoint.is_dir():
        return math.inf
    values = [line[by] for line in run.metrics if by in line]
    if not values:
        raise BadRecipe(
            f"compare.by = {by!r}, which {run.path} did not record: set train.eval_every, or name one of "
            f"{', '.join(run.metrics[-1])}."
        )
    return float(values[-1])


def _panel(title: str, runs: Mapping[str, Run], logarithmic: Sequence[str]) -> Panel:
    """What all runs recorded by this name: a plot of their task's, or a metric by step."""
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    across, log, known = "step", "y" if title in logarithmic else "", dict[str, None]()
    for name, run in runs.items():
        plots = {line["title"]: line for line in read_lines(run.path / "plots.jsonl")}
        known |= dict.fromkeys([*plots, *(key for line in run.metrics for key in line)])
        if title in plots:
            drawn = plots[title]
            across, log = drawn.get("across", ""), drawn.get("log", "")
            parts = drawn["lines"]
            lines |= {
                (name if len(parts) == 1 else f"{name}: {key}"): points for key, points in parts.items()
            }
        elif found := [(line["step"], line[title]) for line in run.metrics if title in line]:
            lines[name] = [step for step, _ in found], [value for _, value in found]
    if not lines:
        raise BadRecipe(f"compare.draw names {title!r}, which no run recorded; they have {', '.join(known)}.")
    return Panel(title, across, log, lines)


def _planned(recipe: Recipe, folder: Path) -> Iterator[_Training]:
    """Every training of a comparison, in order. Raises `BadRecipe`."""
    assert recipe.compare is not None
    base = {key: value for key, value in recipe.values().items() if key != "compare"}
    slugs: dict[str, str] = {}
    for run, changes in recipe.compare.runs.items():
        grid = list(_leaves(changes.get("try", {}), f"compare.runs.{run}.try"))
        own = _merged(base, {key: value for key, value in changes.items() if key != "try"})
        for point in product(*(values for _, values in grid)):
            values, keys = own, [key for key, _ in grid]
            for key, value in zip(keys, point, strict=True):
                values = _merged(values, read_override(key, value))
            shown = [f"{key.rpartition('.')[2]} {value}" for key, value in zip(keys, point, strict=True)]
            name = ", ".join([run, *shown])
            slug = _slug(name)
            if slugs.setdefault(slug.lower(), name) != name:
                raise BadRecipe(
                    f"compare.runs: {name} and {slugs[slug.lower()]} would share a folder: rename one."
                )
            values = _merged(values, {"out": str(folder / slug)})
            yield _Training(run, name, parse_recipe(values, f"compare.runs.{run}"))


def _slug(name: str) -> str:
    """A run's name as that of a folder."""
    return "".join(
        letter if letter.isalnum() or letter in ".+-" else "-" for letter in name.replace(", ", "-")
    )


def _leaves(table: object, where: str, key: str = "") -> Iterator[tuple[str, list[object]]]:
    """Dotted keys of a grid and the values of each. Raises `BadRecipe` for one that is no list of some."""
    if isinstance(table, dict):
        for inner, value in table.items():
            yield from _leaves(value, where, f"{key}.{inner}" if key else inner)
    elif isinstance(table, list) and table:
        yield key, table
    else:
        raise BadRecipe(f"{where}.{key} is {table!r}: list the values to try, as in [0.1, 0.3].")


def _merged(base: Mapping[str, object], changes: Mapping[str, object]) -> Values:
    """Values with changes laid over them; a model of another origin takes the place of the whole table."""
    made = dict(base)
    for key, value in changes.items():
        inner = made.get(key)
        is_other = key == "model" and isinstance(value, dict) and {"family", "from"} & set(value)
        if isinstance(value, dict) and isinstance(inner, dict) and not is_other:
            made[key] = _merged(inner, value)
        else:
            made[key] = value
    return made

"""Trainings of one recipe that differ in a few keys, one after the other, and what they recorded next to each other.

A recipe's [compare] names the runs, each with what it has otherwise. Where a run has a grid (`try`), each point of it
is trained and the best is shown, so that rules of update, say, are compared at the rate that suits each.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from kun.atomic_files import new_file
from kun.errors import BadRecipe, Diverged
from kun.settings import launch
from kun.training import registry
from kun.training.progress import TrainingProgress, silent
from kun.training.recipe import Recipe, Values, parse_recipe, read_override, read_recipe
from kun.training.resolving import check_same, resolve
from kun.training.run import Run, RunFolder, read_lines
from kun.training.tables import Compare
from kun.training.task import Procedure
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
    _check(recipe.compare, [one.recipe for one in planned])
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
        known = _recorded([run]) if len(tried) == 1 and run.checkpoint.is_dir() else recipe.compare.draw
        if not set(known) & set(recipe.compare.draw):  # said before the others are trained for nothing
            break
    runs = dict(best.values())
    if not any(run.checkpoint.is_dir() for run in runs.values()):
        raise Diverged(f"Every run of {folder.path} diverged: lower optimizer.lr.")
    panels = [
        panel for title in recipe.compare.draw if (panel := _panel(title, runs, recipe.compare.log)).lines
    ]
    if len(panels) < len(recipe.compare.draw):
        missing = [title for title in recipe.compare.draw if title not in [panel.title for panel in panels]]
        told = f"compare.draw names {', '.join(map(repr, missing))}, which no run recorded; they have "
        told += f"{', '.join(_recorded(runs.values()))}."
        if not panels:
            raise BadRecipe(told)
        progress("left out of the picture", 0, None, told)
    with new_file(folder.path / NUMBERS) as fresh:
        written = {"by": by, "tried": tried, "panels": [panel.__dict__ for panel in panels]}
        fresh.write_text(json.dumps(finite(written), ensure_ascii=False), encoding="utf-8")
    with new_file(folder.path / PICTURE) as fresh:
        fresh.write_bytes(draw(panels))
    return Comparison(folder.path, runs[min(runs, key=tried.__getitem__)].checkpoint, runs, tried)


def _check(compare: Compare, recipes: Sequence[Recipe]) -> None:
    """Raise `BadRecipe` before the first step for what would be found out after the last."""
    for recipe in recipes:
        if all(issubclass(task, Procedure) for task in registry.of_stage(recipe.stage).values()):
            raise BadRecipe(f'stage = "{recipe.stage}" has no steps to compare: leave [compare] out.')
        held_out = recipe.data.eval is not None or not registry.wants_data(recipe.objective.name)
        if not compare.by.startswith("eval_") or (held_out and recipe.train.eval_every):
            continue
        raise BadRecipe(
            f"compare.by = {compare.by!r} needs evaluations: set data.eval and train.eval_every, or compare.by to "
            f'another metric, such as "loss".'
        )


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
        job, task = resolve(one.recipe)
        check_same(job, task, path / "recipe.toml")
        if job.toml == (path / "recipe.toml").read_text(encoding="utf-8"):
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
    """What all runs recorded by this name: a plot of their task's, or a metric by step; no lines where none did."""
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    across, log = "step", "y" if title in logarithmic else ""
    for name, run in runs.items():
        plots = {line["title"]: line for line in read_lines(run.path / "plots.jsonl")}
        if title in plots:
            drawn = plots[title]
            across, log = drawn.get("across", ""), drawn.get("log", "")
            parts = drawn["lines"]
            lines |= {
                (name if len(parts) == 1 else f"{name}: {key}"): points for key, points in parts.items()
            }
        elif found := [(line["step"], line[title]) for line in run.metrics if title in line]:
            lines[name] = [step for step, _ in found], [value for _, value in found]
    return Panel(title, across, log, lines)


def _recorded(runs: Iterable[Run]) -> list[str]:
    """The names of all that some runs recorded."""
    known = dict[str, None]()
    for run in runs:
        known |= dict.fromkeys(str(line["title"]) for line in read_lines(run.path / "plots.jsonl"))
        known |= dict.fromkeys(name for line in run.metrics for name in line)
    return list(known)


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
            if not any(letter.isalnum() for letter in slug):
                raise BadRecipe(
                    f"compare.runs: {name!r} makes no name of a folder: give it a letter or a digit."
                )
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

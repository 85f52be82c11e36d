"""From a recipe to its job and its task: which objective it is about, and whether family and stage fit that."""

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from kun.errors import BadRecipe
from kun.families import family_of, model_types, records
from kun.hub.opening import open_checkpoint
from kun.hub.pull import locate
from kun.networks.family import Family
from kun.training import registry
from kun.training.job import CHANGES_BITS, Job, flat
from kun.training.recipe import Objective, Recipe, parse_recipe
from kun.training.task import AnyTask, Task

_LENGTHS = ("steps", "tokens", "epochs", "minutes", "patience")
_LOOKS = ("snapshot_every", "keep_snapshots", "eval_every", "sample_every", "prompts", "log")
_MAY_CHANGE = {"out", *CHANGES_BITS, *(f"train.{key}" for key in (*_LENGTHS, *_LOOKS))}
"""What of a recipe a resumed run may have otherwise: how long, on what, with how much memory, and what is looked at."""


def resolve(recipe: Recipe) -> tuple[Job, AnyTask]:
    """The job that a recipe describes, and its task. Raises `BadRecipe`, and what opening a checkpoint raises."""
    family = _family(recipe)
    task = _task(recipe, family)
    settled = _settled(recipe, task)
    job = Job(
        stage=recipe.stage,
        out=recipe.out,
        seed=recipe.seed,
        model=recipe.model,
        data=recipe.data,
        train=settled.train,
        optimizer=recipe.optimizer,
        lora=recipe.lora,
        parallel=recipe.parallel,
        tokenizer=recipe.tokenizer,
        family=family,
        values=settled.values(),
        toml=settled.to_toml(),
    )
    return job, task(task.Options.model_validate(settled.objective.options))


def check_same(job: Job, task: AnyTask, begun: Path) -> None:
    """Raise `BadRecipe` where the run that wrote the recipe `begun` was another training than this job."""
    before = parse_recipe(tomllib.loads(begun.read_text(encoding="utf-8")), str(begun))
    old, new = flat(_settled(before, type(task)).values()), flat(job.values)
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key) and key not in _MAY_CHANGE:
            raise BadRecipe(
                f"{begun.parent} was begun with {key} = {old.get(key)!r}, and the recipe says {new.get(key)!r}: "
                f"resume with the recipe as it was, or start another run."
            )


def _settled(recipe: Recipe, task: type[AnyTask]) -> Recipe:
    """The recipe with all the options of its task and no others."""
    asked = recipe.objective
    given = {key: value for key, value in asked.options.items() if key in task.Options.model_fields}
    options = task.Options.model_validate(given).model_dump(exclude_none=True, mode="json")
    name = {} if asked.name is None else {"name": asked.name}
    train = recipe.train
    if issubclass(task, Task) and task.unit != "tokens" and train.batch is None:
        train = train.model_copy(update={"batch": task.batch})
    is_evaluated = train.eval_every is not None and recipe.data.eval is not None
    if issubclass(task, Task) and is_evaluated and "keep" not in train.model_fields_set:
        train = train.model_copy(update={"keep": task.keeps})
    objective = Objective.model_validate({**name, **options})
    return recipe.model_copy(update={"objective": objective, "train": train})


def _family(recipe: Recipe) -> Family | None:
    """The family of the network that a recipe names."""
    if recipe.model.source:
        return open_checkpoint(locate(recipe.model.source)).family
    return find_family(recipe.model.family) if recipe.model.family else None


def find_family(name: str) -> Family:
    """The family by its `model_type`, or by its usual name. Raises `BadRecipe` with the nearest name."""
    model_type, known = model_type_of(name), [*model_types(), *_aliases()]
    if model_type not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
        raise BadRecipe(f"model.family = {name!r} is no family; {hint}")
    return family_of({"model_type": model_type})


def _aliases() -> dict[str, str]:
    """Usual names of model types."""
    return {alias: model_type for family in records() for alias, model_type in family.aliases.items()}


def model_type_of(name: str) -> str:
    """The `model_type` that a recipe means by a family's name."""
    return name if name in model_types() else _aliases().get(name, name)


def _task(recipe: Recipe, family: Family | None) -> type[AnyTask]:
    """The task of a recipe. Raises `BadRecipe`, which says what would fit."""
    of_stage, asked = registry.of_stage(recipe.stage), recipe.objective.name
    fitting = [name for name, task in of_stage.items() if _fits(task, family)]
    if family is not None:  # the usual one of a family first
        usual = family.objectives
        fitting.sort(key=lambda name: usual.index(name) if name in usual else len(usual))
    else:
        fitting.sort(key=lambda name: not of_stage[name].is_usual)
    if asked is None and not fitting:
        learner = "which no network learns" if family is None else f"which {family.name} does not learn"
        raise BadRecipe(
            f'stage = "{recipe.stage}" is about {", ".join(of_stage)}, {learner}: '
            f"name a model of {_families(list(of_stage))}."
        )
    name = asked or fitting[0]
    if name not in of_stage:
        raise BadRecipe(
            f'objective.name = "{name}" is none of stage = "{recipe.stage}" ({", ".join(of_stage)}); it is one of '
            f"{', '.join(registry.tasks()[name].stages)}."
        )
    if name not in fitting:
        learner = "a task without a model" if family is None else family.name
        besides = f"; {learner} learns {', '.join(fitting)} in this stage" if fitting else ""
        raise BadRecipe(
            f'objective.name = "{name}" does not fit {learner}: it is for {_families([name])}{besides}.'
        )
    _check_unit(recipe, of_stage[name])
    return of_stage[name]


def _fits(task: type[AnyTask], family: Family | None) -> bool:
    return not task.has_model or (family is not None and task.fits(family))


def _check_unit(recipe: Recipe, task: type[AnyTask]) -> None:
    """Raise `BadRecipe` where a recipe counts what its task does not."""
    if not issubclass(task, Task):
        return
    if task.unit == "tokens" and recipe.train.batch:
        raise BadRecipe(
            f"train.batch is for what counts no tokens, and {task.name} does: set train.batch_tokens."
        )
    if task.unit != "tokens" and recipe.train.tokens:
        raise BadRecipe(
            f"train.tokens cannot end {task.name}, which counts {task.unit}: set train.steps or epochs."
        )


def _families(tasks: Sequence[str]) -> str:
    """The families that learn any of these."""
    learn = {name: [one.name for one in records() if name in one.objectives] for name in tasks}
    return ", ".join(dict.fromkeys(family for name in tasks for family in learn[name]))

"""The training tasks that there are: those of Kun's own rooms, one file each, and those of other packages.

A file of one of `ROOMS` that defines a task registers it by lying there. A package outside names its own in the
entry points group `kun.tasks`: `name = "module:Class"`.
"""

import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import getmembers, isabstract

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kun.errors import BadRecipe
from kun.training.task import AnyTask

ROOMS = ("kun.objectives", "kun.alignment.tasks", "kun.wordvectors.tasks")
GROUP = "kun.tasks"
_broken: dict[str, str] = {}
"""Why tasks of other packages could not be loaded, by their names."""


@cache
def tasks() -> dict[str, type[AnyTask]]:
    """Every task by its name. What another package registers and cannot load is left out until it is asked for."""
    found = {task.name: task for room in ROOMS for task in _of_room(room)}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:  # whatever a package of others may raise
            _broken[point.name] = f"{type(error).__name__}: {error}"
    return found


def _of_room(room: str) -> list[type[AnyTask]]:
    spec = find_spec(room)
    places = spec.submodule_search_locations if spec else None
    modules = [
        import_module(f"{room}.{file.name}") for file in pkgutil.iter_modules(places) if not file.ispkg
    ]
    return [
        task
        for module in modules
        for _, task in getmembers(module, lambda one: isinstance(one, type) and issubclass(one, AnyTask))
        if task.__module__ == module.__name__ and not isabstract(task)
    ]


def check_loaded(name: str) -> None:
    """Raise `BadRecipe` where a package registers a task of this name that cannot be loaded."""
    if name in _broken:
        raise BadRecipe(
            f"The task {name} of another package cannot be loaded ({_broken[name]}): fix or remove it."
        )


def stages() -> list[str]:
    """Every stage that a task belongs to."""
    return sorted({stage for task in tasks().values() for stage in task.stages})


def of_stage(stage: str) -> dict[str, type[AnyTask]]:
    """The tasks of a stage by their names."""
    return {name: task for name, task in tasks().items() if stage in task.stages}


def wants_model(stage: str) -> bool:
    """Whether every task of a stage trains what [model] names."""
    return all(task.has_model for task in of_stage(stage).values())


def wants_data(name: object) -> bool:
    """Whether the task of this name, if there is one, learns from what [data] names."""
    task = tasks().get(name) if isinstance(name, str) else None
    return task is None or task.has_data


def option_names() -> list[str]:
    """The keys of all tasks in [objective]."""
    return sorted({key for task in tasks().values() for key in task.Options.model_fields})


def faults(key: str, value: object, name: str | None) -> list[ErrorDetails]:
    """What is wrong with a key of [objective]; of several tasks that have it, `name` decides, else any will do."""
    having = [task for task in tasks().values() if key in task.Options.model_fields]
    own = [task for task in having if task.name == name]
    found: list[ErrorDetails] = []
    for task in own or having or [AnyTask]:
        try:
            task.Options.model_validate({key: value})
            return []
        except ValidationError as error:
            found = error.errors()
    return found

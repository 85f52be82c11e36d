"""The tasks that come with Kun: the five faults, and the break-in set, in English and in Chinese."""

import sys
from pathlib import Path

from kun.errors import NotFound

SETS = {"faults": ("faults-en", "faults-zh"), "safety": ("safety-en", "safety-zh")}
"""Tasks that one name stands for."""


def task_files(task: Path) -> list[Path]:
    """The files of a task: those that `task` names as a set or by itself, else the path as it is."""
    if task.exists() or len(task.parts) != 1:
        return [task]
    return [shipped(Path(name)) for name in SETS.get(task.name, (task.name,))]


def shipped(task: Path) -> Path:
    """The file of a task that comes with Kun, where `task` is its name and no file here; else the path as it is.

    Raises `NotFound` for the name of a set, which is several tasks.
    """
    if task.exists() or len(task.parts) != 1 or task.suffix:
        return task
    if task.name in SETS:
        names = " and ".join(SETS[task.name])
        raise NotFound(f"{task.name} is several tasks: name one of {names}.")
    if not any(task.name in names for names in SETS.values()):
        return task
    return _folder() / f"{task.name}.toml"


def _folder() -> Path:
    """In a checkout of the source, or where the installed package put them. Raises `NotFound`."""
    for folder in (
        Path(__file__).parents[3] / "examples" / "tasks",
        Path(sys.prefix) / "share" / "kun" / "tasks",
    ):
        if folder.is_dir():
            return folder
    raise NotFound("The tasks that come with Kun are not installed here: name a task's .toml file.")

"""Kun (鲲): one workshop for the whole GPT family.

Importing this package imports no torch: each name of the public face is fetched from `kun.api`
when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from kun import errors

if TYPE_CHECKING:
    from kun.api import evaluate, load, pull, save, speedrun, train
    from kun.generation import LanguageModel
    from kun.knowledge import Answer, Encoder, KnowledgeBase, Passage
    from kun.tasks import TaskModel
    from kun.training.run import Run

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Encoder",
    "KnowledgeBase",
    "LanguageModel",
    "Passage",
    "Run",
    "TaskModel",
    "errors",
    "evaluate",
    "load",
    "pull",
    "save",
    "speedrun",
    "train",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("kun.api"), name)
    raise AttributeError(f"module 'kun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

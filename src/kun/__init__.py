"""Kun (鲲): one workshop for the whole GPT family.

Importing this package imports no torch: each name of the public face is fetched from `kun.api`
when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from kun import errors
from kun.version import __version__ as __version__

if TYPE_CHECKING:
    from kun.api import classify, evaluate, load, pull, save, speedrun, train
    from kun.knowledge.answer import Answer
    from kun.knowledge.base import KnowledgeBase
    from kun.knowledge.passage import Passage
    from kun.models.encoder import Encoder
    from kun.models.language_model import LanguageModel
    from kun.models.task_model import TaskModel
    from kun.training.run import Run
    from kun.wordvectors.vectors import WordVectors


__all__ = [
    "Answer",
    "Encoder",
    "KnowledgeBase",
    "LanguageModel",
    "Passage",
    "Run",
    "TaskModel",
    "WordVectors",
    "classify",
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

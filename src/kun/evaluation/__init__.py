"""How good a model is, in numbers: a task is a small TOML file beside its data, a result says how sure it is.

And whether what left the house is what was in it: `fidelity`.

Nothing here imports torch before a model is run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kun.evaluation.result import Measure, Result, Sample
from kun.evaluation.task import AnyTask, read_task

if TYPE_CHECKING:
    from kun.evaluation.run import evaluate

__all__ = ["AnyTask", "Measure", "Result", "Sample", "evaluate", "read_task"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        return import_module("kun.evaluation.run").evaluate
    raise AttributeError(f"module 'kun.evaluation' has no attribute {name!r}")

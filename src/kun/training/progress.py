"""How a training tells of work that people wait for."""

from collections.abc import Callable

TrainingProgress = Callable[[str, int, int | None, str], None]
"""(stage, done, total, detail)."""


def silent(stage: str, done: int, total: int | None, detail: str) -> None:
    """A `TrainingProgress` that tells nobody."""

"""One model on one task."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kun.errors import BadInput
from kun.evaluation import labels, writing
from kun.evaluation.prepare import prepared
from kun.evaluation.progress import Tell, silent
from kun.evaluation.result import Measure, Result, Sample
from kun.evaluation.rewards import rewarded
from kun.evaluation.rows import TaskRow
from kun.evaluation.task import (
    AnyTask,
    Classification,
    MultipleChoice,
    Perplexity,
    Ruled,
    Summary,
    Translation,
)
from kun.models.ready import ReadyModel
from kun.models.task_model import TaskModel

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel


def evaluate(
    model: ReadyModel,
    task: str | Path | Mapping[str, object] | AnyTask,
    *,
    limit: int | None = None,
    shots: int | None = None,
    tell: Tell = silent,
) -> Result:
    """The result of `model` on `task`: its TOML file, or the values of one.

    Only the first `limit` rows are asked; `shots` stands in for the task's own.
    Raises `BadRecipe` for a task that cannot be, `DamagedFile` and `BadInput` for a row that cannot be used, by file
    and line, and `BadInput` for a model that does not do such a task.
    """
    read, rows = prepared(task, limit, shots)
    started = time.monotonic()
    found = _run(model, read, rows, tell)
    seconds = time.monotonic() - started
    shown = {"shots": str(read.shots)} if isinstance(read, MultipleChoice | Classification) else {}
    return Result(
        read.name or read.kind,
        read.kind,
        model.name,
        n=len(rows),
        seconds=seconds,
        measures=found.measures,
        samples=found.samples,
        cut=found.cut,
        confusion=found.confusion,
        notes=shown | found.notes,
    )


@dataclass(frozen=True)
class _Found:
    """The findings of one kind of task; each a field of `Result`."""

    measures: dict[str, Measure]
    samples: list[Sample]
    cut: int = 0
    confusion: dict[str, dict[str, int]] | None = None
    notes: dict[str, str] = field(default_factory=dict)


def _run(model: ReadyModel, task: AnyTask, rows: list[TaskRow], tell: Tell) -> _Found:
    if isinstance(task, Classification):
        wanted = labels.wanted_labels(task, rows)
        if isinstance(model, TaskModel):
            said, asked, cut = labels.by_classifier(model, task, rows, tell)
        else:
            from kun.evaluation.likelihood import Scorer

            said, asked, cut = labels.by_likelihood(Scorer(_writer(model)), task, rows, tell)
        measures, samples, confusion = labels.measured(rows, asked, wanted, said)
        return _Found(measures, samples, cut, confusion)
    lm = _writer(model)
    if isinstance(task, Ruled):
        from kun.evaluation.ruled import ruled

        measures, samples, cut, notes = ruled(lm, task, rows, tell)
        return _Found(measures, samples, cut, notes=notes)
    if isinstance(task, Translation | Summary):
        said, asked, cut = writing.written(lm, task, task.prompt, rows, tell)
        if isinstance(task, Translation):
            measures, samples, notes = writing.translated(task, rows, asked, said)
        else:
            measures, samples, notes = writing.summarized(task, rows, asked, said)
            measures |= rewarded(task, asked, said, [sample.wanted for sample in samples])
        return _Found(measures, samples, cut, notes=notes)
    from kun.evaluation.likelihood import Scorer

    if isinstance(task, Perplexity):
        from kun.evaluation.perplexity import perplexity

        measures, samples, notes = perplexity(Scorer(lm), task, rows, tell)
        return _Found(measures, samples, notes=notes)
    from kun.evaluation.choices import choose

    measures, samples, cut = choose(Scorer(lm), task, rows, tell)
    return _Found(measures, samples, cut)


def _writer(model: ReadyModel) -> "LanguageModel":
    """The model, which must be a language model."""
    from kun.models.language_model import LanguageModel

    if not isinstance(model, LanguageModel):
        raise BadInput(
            f"{model.name} is an encoder and writes no text: this task is for language models, and classification for "
            f"encoders that were saved with a classifier's head."
        )
    return model

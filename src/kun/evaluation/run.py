"""One model on one task."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.errors import BadInput
from kun.evaluation import labels, writing
from kun.evaluation.prepare import prepared
from kun.evaluation.progress import Tell, silent
from kun.evaluation.result import Result
from kun.evaluation.rows import Row
from kun.evaluation.task import (
    AnyTask,
    Classification,
    MultipleChoice,
    Perplexity,
    Summary,
    Translation,
)
from kun.models.task_model import TaskModel

if TYPE_CHECKING:
    from kun.models.encoder import Encoder
    from kun.models.language_model import LanguageModel


def evaluate(
    model: "LanguageModel | Encoder | TaskModel",
    task: str | Path | Mapping[str, Any] | AnyTask,
    *,
    limit: int | None = None,
    shots: int | None = None,
    tell: Tell = silent,
) -> Result:
    """How `model` does on `task`: its TOML file, or what such a file would say.

    Only the first `limit` rows are asked; `shots` stands in for the task's own.
    Raises `BadRecipe` for a task that cannot be, `DamagedFile` and `BadInput` for a row that cannot be used, by file
    and line, and `BadInput` for a model that does not do such a task.
    """
    read, rows = prepared(task, limit, shots)
    started = time.monotonic()
    found = _run(model, read, rows, tell)
    seconds = time.monotonic() - started
    shown = {"shots": str(read.shots)} if isinstance(read, MultipleChoice | Classification) else {}
    notes = shown | found.pop("notes", {})
    return Result(
        read.name or read.kind, read.kind, model.name, n=len(rows), seconds=seconds, notes=notes, **found
    )


def _run(
    model: "LanguageModel | Encoder | TaskModel", task: AnyTask, rows: list[Row], tell: Tell
) -> dict[str, Any]:
    """What the task's kind finds, as fields of a `Result`."""
    if isinstance(task, Classification):
        wanted = labels.wanted_labels(task, rows)
        if isinstance(model, TaskModel):
            said, asked, cut = labels.by_classifier(model, task, rows, tell)
        else:
            from kun.evaluation.likelihood import Scorer

            said, asked, cut = labels.by_likelihood(Scorer(_writer(model)), task, rows, tell)
        measures, samples, confusion = labels.judged(rows, asked, wanted, said)
        return {"measures": measures, "samples": samples, "cut": cut, "confusion": confusion}
    lm = _writer(model)
    if isinstance(task, Translation | Summary):
        said, asked, cut = writing.written(lm, task, task.prompt, rows, tell)
        judge: Any = writing.translated if isinstance(task, Translation) else writing.summarized
        measures, samples, notes = judge(task, rows, asked, said)
        return {"measures": measures, "samples": samples, "cut": cut, "notes": notes}
    from kun.evaluation.likelihood import Scorer

    if isinstance(task, Perplexity):
        from kun.evaluation.perplexity import perplexity

        measures, samples, notes = perplexity(Scorer(lm), task, rows, tell)
        return {"measures": measures, "samples": samples, "notes": notes}
    from kun.evaluation.choices import choose

    measures, samples, cut = choose(Scorer(lm), task, rows, tell)
    return {"measures": measures, "samples": samples, "cut": cut}


def _writer(model: Any) -> "LanguageModel":
    """The model, which must be a language model."""
    if not hasattr(model, "submit"):
        raise BadInput(
            f"{model.name} is an encoder and writes no text: this task is for language models, and classification for "
            f"encoders that were saved with a classifier's head."
        )
    lm: LanguageModel = model
    return lm

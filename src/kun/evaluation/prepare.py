"""A task with the rows that are asked, checked as far as it can be without a model."""

from collections.abc import Mapping
from pathlib import Path

from kun.errors import BadInput
from kun.evaluation.prompts import Template, example_rows
from kun.evaluation.rows import TABLES, TaskRow, read_rows, read_text
from kun.evaluation.ruled import questions
from kun.evaluation.task import AnyTask, MultipleChoice, Perplexity, Ruled, read_task

_PROSE = (".md", ".txt")
"""Files of a folder that are texts to foresee."""


def prepared(
    task: str | Path | Mapping[str, object] | AnyTask, limit: int | None = None, shots: int | None = None
) -> tuple[AnyTask, list[TaskRow]]:
    """The task, which shows `shots` examples where they are given, and its first `limit` rows.

    Raises `NotFound`, `BadRecipe` for a task that cannot be, `DamagedFile` that names the line, and `BadInput`.
    """
    read = read_task(task)
    if shots is not None:
        read = _with_shots(read, shots)
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}; it is how many rows are asked, at least 1.")
    if isinstance(read, Perplexity):
        return read, _texts(read)[:limit]
    if isinstance(read, Ruled):
        rows = read_rows(read.data, read.columns)
        questions(read, rows)
        return read, rows[:limit]
    if read.prompt is not None:
        Template(read.prompt, "prompt")
    if isinstance(read, MultipleChoice) and not isinstance(read.choices, str):
        for source in read.choices:
            Template(source, "choices")
    example_rows(read)
    return read, read_rows(read.data, read.columns)[:limit]


def _with_shots(task: AnyTask, shots: int) -> AnyTask:
    if isinstance(task, Perplexity | Ruled):
        shown = "Perplexity" if isinstance(task, Perplexity) else "A task of rules"
        raise BadInput(f"{shown} shows no examples: leave shots out.")
    if not 0 <= shots <= 1000:
        raise BadInput(f"shots is {shots}; it is a number from 0 to 1000.")
    return task.model_copy(update={"shots": shots})


def _texts(task: Perplexity) -> list[TaskRow]:
    """The texts to foresee: a column of a table's rows, each text of a folder, or another file as one text."""
    if task.data.is_dir():
        found = sorted(path for path in task.data.iterdir() if path.suffix in _PROSE)
        if not found:
            raise BadInput(f"The folder {task.data} holds no .md and no .txt file: name one that does.")
        return [TaskRow({task.text: read_text(path)}, path.name) for path in found]
    if task.data.suffix in (".jsonl", *TABLES):
        return read_rows(task.data, task.columns)
    return [TaskRow({task.text: read_text(task.data)}, task.data.name)]

"""Rows made into prompts: Jinja templates over the columns, and solved examples before the question."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kun.errors import BadInput, BadRecipe
from kun.evaluation.rows import TaskRow, read_rows
from kun.evaluation.task import Prompted

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


class Template:
    """A text with {{ columns }} in it. Raises `BadRecipe` for one that cannot be read."""

    def __init__(self, source: str, key: str) -> None:
        self._key = key
        try:
            self._template = _ENVIRONMENT.from_string(source)
        except TemplateError as error:
            raise BadRecipe(f"{key} is no template: {error}.") from error

    def of(self, row: TaskRow) -> str:
        """The text for a row. Raises `BadInput` that names the row and what it lacks."""
        try:
            return self._template.render(row.values)
        except UndefinedError as error:
            raise BadInput(
                f"{row.where}: {self._key} asks for what the row lacks ({error.message}); it has the columns "
                f"{', '.join(row.values)}."
            ) from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise BadInput(f"{row.where}: {self._key} cannot be filled in: {error}.") from error


def column(row: TaskRow, name: str) -> object:
    """The value of a row in a column. Raises `BadInput` that names the nearest one."""
    if name not in row.values:
        near = get_close_matches(name, list(row.values), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(row.values)}."
        raise BadInput(f"{row.where} has no column {name!r}: {hint}")
    return row.values[name]


def text_of(row: TaskRow, name: str) -> str:
    """A column that must be a text, or a number that can stand as one. Raises `BadInput`."""
    value = column(row, name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInput(f"{row.where}: {name} is {str(value)[:40]!r}; it must be a text.")
    return str(value)


def example_rows(task: Prompted) -> list[TaskRow]:
    """The rows that a task shows solved. Raises `BadRecipe` where there are fewer than asked for."""
    if not task.shots:
        return []
    if task.examples is None:
        raise BadRecipe(f"{task.name}: {task.shots} shots need rows to show: name a file in examples.")
    rows = read_rows(task.examples, task.columns)
    if len(rows) < task.shots:
        raise BadRecipe(f"{task.examples} has {len(rows)} rows, fewer than the {task.shots} shots.")
    return rows[: task.shots]


@dataclass(frozen=True)
class Examples:
    """Solved rows, shown before each question: `question` and `answer` make the two sides of a row."""

    task: Prompted
    question: Callable[[TaskRow], str]
    answer: Callable[[TaskRow], str]

    @cached_property
    def rows(self) -> list[TaskRow]:
        return example_rows(self.task)

    @cached_property
    def before(self) -> str:
        """Text before each question."""
        task = self.task
        solved = (
            f"{self.question(row)}{task.separator}{self.answer(row)}{task.between}" for row in self.rows
        )
        return task.preamble + "".join(solved)

    def prompt(self, row: TaskRow) -> str:
        """The question after the examples, as one text."""
        return self.before + self.question(row)

    def messages(self, row: TaskRow) -> list[dict[str, str]]:
        """The question after the examples, as a conversation."""
        turns: list[dict[str, str]] = []
        if self.task.preamble:
            turns.append({"role": "system", "content": self.task.preamble})
        for example in self.rows:
            turns.append({"role": "user", "content": self.question(example)})
            turns.append({"role": "assistant", "content": self.answer(example)})
        return [*turns, {"role": "user", "content": self.question(row)}]


def shown(rows: Sequence[str]) -> str:
    """A few names, for an error."""
    return ", ".join(repr(row) for row in rows[:8]) + (" …" if len(rows) > 8 else "")

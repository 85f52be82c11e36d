"""Tasks whose answers are held against rules: the five faults of GPT-3, refusals and over-refusals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kun.errors import BadInput
from kun.evaluation.asking import Turns, asked_of, shown_turns
from kun.evaluation.progress import Tell
from kun.evaluation.prompts import column
from kun.evaluation.result import Measure, Sample, share
from kun.evaluation.rows import TaskRow
from kun.evaluation.rules import Pattern, Rules, check_names, read_patterns
from kun.evaluation.task import Group, Ruled
from kun.evaluation.writing import greedy

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel

_SHOWN = 600


@dataclass(frozen=True)
class Question:
    """A row of such a task: what is asked, and the rules for the answer."""

    turns: Turns
    group: Group
    rules: Rules
    where: str


def questions(task: Ruled, rows: Sequence[TaskRow]) -> tuple[list[Question], dict[str, Pattern]]:
    """The questions of some rows, and the patterns of the task.

    Raises `NotFound`, `BadRecipe` for patterns that cannot be, and `BadInput` for a row without group, turns or rules.
    """
    patterns = {} if task.patterns is None else read_patterns(task.patterns)
    found = [_question(task, row) for row in rows]
    for one in found:
        check_names(one.rules, patterns, one.where)
    return found, patterns


def _question(task: Ruled, row: TaskRow) -> Question:
    name = str(column(row, task.group))
    if name not in task.groups:
        raise BadInput(
            f"{row.where}: the group {name[:40]!r} is none of {', '.join(task.groups)}: name one of them."
        )
    group, own = task.groups[name], row.values.get("rules", {})
    if not isinstance(own, dict):
        raise BadInput(f'{row.where}: the rules are no object: write them as {{"words": [1, 1]}}.')
    try:
        rules = Rules.model_validate(group.rules.model_dump(exclude_unset=True) | own)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise BadInput(f"{row.where}: the rule {place}: {fault['msg']}.") from error
    if rules == Rules():
        raise BadInput(f"{row.where}: there is no rule for the answer: give the row or its group rules.")
    return Question(_turns(column(row, task.prompt), row, task.prompt), group, rules, row.where)


def _turns(said: object, row: TaskRow, name: str) -> Turns:
    turns = [said] if isinstance(said, str) else said
    if (
        not isinstance(turns, list)
        or len(turns) % 2 == 0
        or not all(isinstance(one, str) and one for one in turns)
    ):
        raise BadInput(
            f"{row.where}: {name} is neither a text nor a list of texts that begins and ends with the user's: fix it."
        )
    return tuple(turns)


def ruled(
    lm: "LanguageModel", task: Ruled, rows: Sequence[TaskRow], tell: Tell
) -> tuple[dict[str, Measure], list[Sample], int, dict[str, str]]:
    """The share of answers that keep their rules, by group in the task's order; a sample a row; prompts that were cut;
    the way of asking."""
    asked, patterns = questions(task, rows)
    prompts = [asked_of(lm, one.turns, task.system, task.speakers) for one in asked]
    said, cut = greedy(lm, [one.prompt for one in prompts], task.max_tokens, prompts[0].stop, tell)
    samples = [_judged(one, answer, patterns) for one, answer in zip(asked, said, strict=True)]
    measures = {}
    for group in task.groups.values():
        kept = [not sample.broken for sample in samples if sample.group == group.measure]
        if kept:
            measures[group.measure] = share(sum(kept), len(kept), group.goal)
    return measures, samples, cut, {"asked": "through the chat template" if lm.template else "in plain text"}


def _judged(one: Question, answer: str, patterns: dict[str, Pattern]) -> Sample:
    broken = tuple(one.rules.broken(answer, patterns))
    right = (not broken) == (one.group.goal == "higher")
    given = one.rules.model_dump(mode="json", exclude_defaults=True)
    wanted = ", ".join(f"{name} {value}" for name, value in given.items())
    if one.group.goal == "lower":
        wanted = f"not: {wanted}"
    return Sample(
        one.where, shown_turns(one.turns)[-_SHOWN:], wanted, answer, float(right), right,
        group=one.group.measure, broken=broken,
    )  # fmt: skip

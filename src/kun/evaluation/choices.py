"""Multiple choice: the answer that a model holds likeliest after the question (Brown et al., arXiv:2005.14165, 2.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from kun.errors import BadInput
from kun.evaluation.likelihood import Likelihood, Question, Scorer
from kun.evaluation.progress import Tell
from kun.evaluation.prompts import Examples, Template, column
from kun.evaluation.result import Measure, Sample, mean
from kun.evaluation.rows import TaskRow
from kun.evaluation.task import MultipleChoice

_SHOWN = 400


@dataclass(frozen=True)
class Choice:
    """One question as text: the prompt, its answers, and the number of the right one."""

    prompt: str
    answers: list[str]
    right: int


class Choices:
    """The questions of a multiple-choice task."""

    def __init__(self, task: MultipleChoice) -> None:
        self._task = task
        self._prompt = Template(task.prompt, "prompt")
        listed = () if isinstance(task.choices, str) else task.choices
        self._answers = [Template(source, "choices") for source in listed]
        self._examples = Examples(task, self._prompt.of, self._answer)

    def of(self, row: TaskRow) -> Choice:
        """Raises `BadInput` that names the row where it has no answers, or none of them is right."""
        answers = self._listed(row)
        return Choice(self._examples.prompt(row), answers, _number(row, self._task.answer, answers))

    def _answer(self, row: TaskRow) -> str:
        answers = self._listed(row)
        return answers[_number(row, self._task.answer, answers)]

    def _listed(self, row: TaskRow) -> list[str]:
        if not isinstance(self._task.choices, str):
            return [template.of(row) for template in self._answers]
        listed = column(row, self._task.choices)
        if not isinstance(listed, list) or len(listed) < 2 or not all(isinstance(one, str) for one in listed):
            raise BadInput(f"{row.where}: {self._task.choices} must be a list of at least two texts.")
        return listed


def _number(row: TaskRow, name: str, answers: Sequence[str]) -> int:
    """Which answer the column names: by its text, its letter, or its number from 0."""
    said = column(row, name)
    text = str(said).strip()
    if not isinstance(said, int) and text in answers:
        return answers.index(text)
    if len(text) == 1 and text.upper() in ascii_uppercase[: len(answers)]:
        return ascii_uppercase.index(text.upper())
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(answers):
        return int(text)
    raise BadInput(
        f"{row.where}: {name} is {text[:40]!r}, which is none of its {len(answers)} answers: give the number from 0, "
        f"the letter or the text of one."
    )


def choose(
    scorer: Scorer, task: MultipleChoice, rows: Sequence[TaskRow], tell: Tell
) -> tuple[dict[str, Measure], list[Sample], int]:
    """Accuracy by the sum of log-probabilities, and by that sum for each character; samples; how many were cut."""
    choices = Choices(task)
    asked = [choices.of(row) for row in rows]
    questions, cut = weighable(scorer, [(one.prompt, one.answers) for one in asked], task.separator)
    weighed = scorer.weigh(questions, tell)
    plain = [_best([each.logprob for each in found]) for found in weighed]
    normed = [_best(_by_length(found, one.answers)) for found, one in zip(weighed, asked, strict=True)]
    measures = {
        "accuracy": mean([float(said == one.right) for said, one in zip(plain, asked, strict=True)]),
        "accuracy_norm": mean([float(said == one.right) for said, one in zip(normed, asked, strict=True)]),
    }
    samples = [
        Sample(
            row.where, one.prompt[-_SHOWN:], one.answers[one.right], one.answers[said], said == one.right,
            said == one.right,
        )
        for row, one, said in zip(rows, asked, plain, strict=True)
    ]  # fmt: skip
    return measures, samples, cut


def weighable(
    scorer: Scorer, asked: Sequence[tuple[str, Sequence[str]]], separator: str
) -> tuple[list[Question], int]:
    """Prompts with their answers as tokens, and how many prompts were too long and lost their beginning."""
    questions, cut = [], 0
    for prompt, answers in asked:
        pairs = [scorer.pair(prompt, separator + answer) for answer in answers]
        context, continuations = pairs[0][0], [after for _, after in pairs]
        room = scorer.room(max(map(len, continuations)))
        if room < 1:
            raise BadInput(
                f"An answer after {prompt[-40:]!r} is longer than the {scorer.longest} tokens that the model takes."
            )
        cut += len(context) > room
        questions.append(Question(context[-room:], continuations))
    return questions, cut


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def _by_length(found: Sequence[Likelihood], answers: Sequence[str]) -> list[float]:
    return [each.logprob / max(1, len(answer)) for each, answer in zip(found, answers, strict=True)]

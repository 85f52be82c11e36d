"""Verdicts on all answers, pair by pair in both orders and one by one, kept on disk as they come."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Generic, Literal, TypeVar

from kun.atomic_files import Progress, silent
from kun.data.kept_lines import KeptLines
from kun.evaluation.judging.answers import Answers
from kun.evaluation.judging.judges import Judge, Match, Ruling, Single
from kun.evaluation.judging.prompts import LETTERS, Letter
from kun.evaluation.judging.questions import Question, QuestionId
from kun.models.writers import short_digest

Ways = Literal["pairs", "score", "both"]
T = TypeVar("T")


@dataclass(frozen=True)
class Compared:
    """What a judge decided on two models' answers to one question.

    `forth` is its letter with `a` shown first, `back` the one with `b` first (the same, turned round, for a judge who
    sees no order); None where it gave no verdict. Of equal answers, which are a tie, it is not `asked`.
    """

    question: QuestionId
    a: str
    b: str
    forth: Letter | None
    back: Letter | None
    texts: tuple[str, str] = ("", "")
    cut: bool = False
    asked: bool = True

    @property
    def winners(self) -> tuple[str | None, str | None]:
        """The model that won in each order, "" for a tie."""
        of = {"A": self.a, "B": self.b, "C": ""}, {"A": self.b, "B": self.a, "C": ""}
        return (
            None if self.forth is None else of[0][self.forth],
            None if self.back is None else of[1][self.back],
        )


@dataclass(frozen=True)
class Scored:
    """The score of one model's answer to one question, None where the judge gave none."""

    question: QuestionId
    model: str
    score: float | None
    text: str = ""
    cut: bool = False


@dataclass
class Verdicts:
    """All that a judge decided."""

    compared: list[Compared] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)


@dataclass(frozen=True)
class _Case(Generic[T]):
    """What is to be decided, and the key under which the ruling is kept."""

    key: str
    given: T
    about: Mapping[str, object]


def judge_all(
    judge: Judge,
    questions: Sequence[Question],
    answers: Sequence[Answers],
    folder: Path,
    ways: Ways = "both",
    progress: Progress = silent,
) -> Verdicts:
    """Every pair of models on every question in both orders, and every answer by itself.

    What `folder` keeps of the same judge, question and answers is not asked again; a case without a verdict is. Two
    equal answers are a tie of which no judge is asked. Raises what stops the judge; what it decided is kept.
    """
    verdicts = Verdicts()
    with KeptLines(folder / "verdicts.jsonl") as kept:
        known = _known(kept)
        if ways != "score":
            verdicts.compared = _pairs(judge, questions, answers, kept, known, progress)
        if ways != "pairs":
            verdicts.scored = _scores(judge, questions, answers, kept, known, progress)
    return verdicts


def _pairs(
    judge: Judge,
    questions: Sequence[Question],
    answers: Sequence[Answers],
    kept: KeptLines,
    known: dict[str, Ruling],
    progress: Progress,
) -> list[Compared]:
    met = [(one, a, b) for one in questions for a, b in combinations(answers, 2)]
    cases: list[_Case[Match]] = []
    for question, a, b in met:
        one, other = (each.turns.get(question.id, ()) for each in (a, b))
        if one == other:
            continue
        cases.append(_pair_case(judge, question, (a.model, one), (b.model, other)))
        if judge.sees_order:
            cases.append(_pair_case(judge, question, (b.model, other), (a.model, one)))
    _decide(cases, judge.compare, kept, known, "comparing", progress)
    turned: dict[Letter | None, Letter | None] = {"A": "B", "B": "A", "C": "C", None: None}
    found = []
    for question, a, b in met:
        one, other = (each.turns.get(question.id, ()) for each in (a, b))
        if one == other:
            texts = ("equal answers", "equal answers")
            found.append(Compared(question.id, a.model, b.model, "C", "C", texts, asked=False))
            continue
        forth = known[_pair_key(judge, question, one, other)]
        back = forth if not judge.sees_order else known[_pair_key(judge, question, other, one)]
        letter = back.letter if judge.sees_order else turned[forth.letter]
        texts = (forth.text, back.text)
        found.append(
            Compared(question.id, a.model, b.model, forth.letter, letter, texts, forth.cut or back.cut)
        )
    return found


def _scores(
    judge: Judge,
    questions: Sequence[Question],
    answers: Sequence[Answers],
    kept: KeptLines,
    known: dict[str, Ruling],
    progress: Progress,
) -> list[Scored]:
    met = [(question, each) for question in questions for each in answers]
    cases = [_single_case(judge, question, each) for question, each in met]
    _decide(cases, judge.rate, kept, known, "scoring", progress)
    found = []
    for (question, each), case in zip(met, cases, strict=True):
        ruling = known[case.key]
        found.append(Scored(question.id, each.model, ruling.score, ruling.text, ruling.cut))
    return found


def _pair_key(judge: Judge, question: Question, first: tuple[str, ...], second: tuple[str, ...]) -> str:
    return short_digest(judge.identity, question.turns, question.reference, first, second)


def _pair_case(
    judge: Judge, question: Question, first: tuple[str, tuple[str, ...]], second: tuple[str, tuple[str, ...]]
) -> _Case[Match]:
    about = {"question_id": question.id, "judge": judge.name, "first": first[0], "second": second[0]}
    key = _pair_key(judge, question, first[1], second[1])
    return _Case(key, Match(question, first[1], second[1]), about)


def _single_case(judge: Judge, question: Question, each: Answers) -> _Case[Single]:
    turns = each.turns.get(question.id, ())
    key = short_digest(judge.identity, question.turns, question.reference, turns)
    about = {"question_id": question.id, "judge": judge.name, "model": each.model}
    return _Case(key, Single(question, turns), about)


def _decide(
    cases: Sequence[_Case[T]],
    rule: Callable[[Sequence[T]], Iterator[tuple[int, Ruling]]],
    kept: KeptLines,
    known: dict[str, Ruling],
    stage: str,
    progress: Progress,
) -> None:
    """Rulings of all cases in `known`; those that came are in `kept`."""
    fresh = list({case.key: case for case in cases if case.key not in known}.values())
    if fresh:
        progress(stage, 0, len(fresh))
    for done, (place, ruling) in enumerate(rule([case.given for case in fresh]), 1):
        case = fresh[place]
        known[case.key] = ruling
        if ruling.letter is not None or ruling.score is not None:
            kept.append({**case.about, **_as_record(ruling), "asked": case.key})
        progress(stage, done, len(fresh))


def _as_record(ruling: Ruling) -> dict[str, object]:
    verdict = {"letter": ruling.letter} if ruling.letter is not None else {"score": ruling.score}
    return {**verdict, "text": ruling.text, "cut": ruling.cut}


def _known(kept: KeptLines) -> dict[str, Ruling]:
    """Rulings of earlier runs by their keys; lines of another shape are passed over and asked anew."""
    known: dict[str, Ruling] = {}
    for record in kept.before:
        match record:
            case {"asked": str(key), "letter": str(letter), "text": str(text)} if letter in LETTERS:
                known[key] = Ruling(letter=LETTERS[letter], text=text, cut=record.get("cut") is True)
            case {"asked": str(key), "score": (int() | float()) as score, "text": str(text)}:
                known[key] = Ruling(score=float(score), text=text, cut=record.get("cut") is True)
    return known

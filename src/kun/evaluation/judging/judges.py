"""Judges: a model that reads two answers or one, here or at an endpoint, and a reward model that scores them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from kun.errors import BadInput
from kun.evaluation.judging.prompts import (
    PAIR_REGEX,
    SCORE_REGEX,
    Letter,
    letter_in,
    pair_prompt,
    reminder,
    score_in,
    score_prompt,
)
from kun.evaluation.judging.questions import Question
from kun.models.writers import Asked, ChatMessages, Writer

if TYPE_CHECKING:
    from kun.alignment.reward_model import RewardModel

Turns = tuple[str, ...]
_REMINDERS = 2
"""How often a judge who gives no verdict is asked for one again."""
_PLAIN_TOKENS, _EXPLAINED_TOKENS = 16, 512
_SHORTEST = 200
"""Characters below which no answer is cut to fit a judge's context."""


@dataclass(frozen=True)
class Match:
    """Two answers to one question, in the order in which a judge sees them."""

    question: Question
    first: Turns
    second: Turns


@dataclass(frozen=True)
class Single:
    """One answer to one question."""

    question: Question
    answer: Turns


@dataclass(frozen=True)
class Ruling:
    """What a judge decided: a letter of a match, a score of a single answer, neither where it gave no verdict.

    `cut` is whether the answers were shortened to fit the judge's context.
    """

    letter: Letter | None = None
    score: float | None = None
    text: str = ""
    cut: bool = False


class Judge(Protocol):
    """Decides on answers. `identity` changes with whatever may change what it decides."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def kind(self) -> str:
        """ "language model", "endpoint" or "reward model"."""
        ...

    @property
    def sees_order(self) -> bool:
        """Whether the order of two answers could change its verdict."""
        ...

    def compare(self, matches: Sequence[Match]) -> Iterator[tuple[int, Ruling]]:
        """A ruling for each match, with its place, as they are done."""
        ...

    def rate(self, answers: Sequence[Single]) -> Iterator[tuple[int, Ruling]]:
        """A ruling for each answer, with its place, as they are done."""
        ...

    def close(self) -> None: ...


class ReadingJudge:
    """A model that reads the answers and writes its verdict; it never sees a model's name.

    Without `explain` it writes nothing but the verdict, which a model of this process is held to by a regex: so a
    small model always gives one. With it the reasons come first. Who gives no verdict is asked again twice.
    """

    sees_order = True

    def __init__(self, writer: Writer, *, explain: bool | None = None) -> None:
        """`explain` is True for an endpoint and False for a model here where it is None."""
        self.writer = writer
        self.explain = not writer.can_constrain if explain is None else explain

    @property
    def name(self) -> str:
        return self.writer.name

    @property
    def identity(self) -> str:
        return f"{self.writer.identity} {'explains' if self.explain else 'after examples'}"

    @property
    def kind(self) -> str:
        return "language model" if self.writer.can_constrain else "endpoint"

    def compare(self, matches: Sequence[Match]) -> Iterator[tuple[int, Ruling]]:
        prompts = [self._fitting_pair(match) for match in matches]
        reminders = [reminder(match.question, "pair") for match in matches]

        def ruled(text: str, cut: bool) -> Ruling:
            return Ruling(letter=letter_in(text), text=text, cut=cut)

        return self._decide(prompts, reminders, PAIR_REGEX, ruled)

    def rate(self, answers: Sequence[Single]) -> Iterator[tuple[int, Ruling]]:
        prompts = [self._fitting_single(one) for one in answers]
        reminders = [reminder(one.question, "score") for one in answers]

        def ruled(text: str, cut: bool) -> Ruling:
            return Ruling(score=score_in(text), text=text, cut=cut)

        return self._decide(prompts, reminders, SCORE_REGEX, ruled)

    def close(self) -> None:
        self.writer.close()

    def _decide(
        self,
        prompts: Sequence[tuple[ChatMessages, bool]],
        reminders: Sequence[str],
        regex: str,
        ruled: Callable[[str, bool], Ruling],
    ) -> Iterator[tuple[int, Ruling]]:
        waiting = [(place, self._asked(messages, regex)) for place, (messages, _) in enumerate(prompts)]
        for left in reversed(range(_REMINDERS + 1)):
            again = []
            for number, reply in self.writer.write([asked for _, asked in waiting]):
                place, asked = waiting[number]
                if isinstance(reply, BadInput):
                    yield place, Ruling(text=str(reply))
                    continue
                ruling = ruled(reply.text.strip(), prompts[place][1])
                if not left or ruling.letter is not None or ruling.score is not None:
                    yield place, ruling
                    continue
                more = (
                    {"role": "assistant", "content": reply.text.strip() or "…"},
                    {"role": "user", "content": reminders[place]},
                )
                again.append((place, replace(asked, messages=(*asked.messages, *more))))
            waiting = again
            if not waiting:
                return

    def _asked(self, messages: ChatMessages, regex: str) -> Asked:
        if self.explain:
            return Asked(messages, _EXPLAINED_TOKENS)
        # a model that cannot be held to the form may say a few words around it
        most = _PLAIN_TOKENS if self.writer.can_constrain else 4 * _PLAIN_TOKENS
        return Asked(messages, most, regex=regex if self.writer.can_constrain else None)

    def _fitting_pair(self, match: Match) -> tuple[ChatMessages, bool]:
        def prompt(most: int | None) -> ChatMessages:
            first, second = (_cut(turns, most) for turns in (match.first, match.second))
            return pair_prompt(match.question, first, second, explain=self.explain)

        return self._fitting(prompt, (*match.first, *match.second), PAIR_REGEX)

    def _fitting_single(self, one: Single) -> tuple[ChatMessages, bool]:
        def prompt(most: int | None) -> ChatMessages:
            return score_prompt(one.question, _cut(one.answer, most), explain=self.explain)

        return self._fitting(prompt, one.answer, SCORE_REGEX)

    def _fitting(
        self, prompt: Callable[[int | None], ChatMessages], turns: Turns, regex: str
    ) -> tuple[ChatMessages, bool]:
        """A prompt that fits the context: the longest answers lose their ends first, both to the same length."""
        messages = prompt(None)
        most = max(map(len, turns), default=0)
        cut = False
        while most > _SHORTEST and not self.writer.fits(self._asked(messages, regex)):
            most, cut = max(_SHORTEST, most * 3 // 4), True
            messages = prompt(most)
        return messages, cut


class ScoringJudge:
    """A reward model: of two answers the one with the higher score is better, whichever comes first."""

    kind, sees_order = "reward model", False

    def __init__(self, model: "RewardModel") -> None:
        self.model = model
        self._known: dict[Single, float] = {}

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def identity(self) -> str:
        return self.model.checkpoint.identity if self.model.checkpoint is not None else self.model.name

    def compare(self, matches: Sequence[Match]) -> Iterator[tuple[int, Ruling]]:
        self._score([Single(one.question, turns) for one in matches for turns in (one.first, one.second)])
        for place, one in enumerate(matches):
            first, second = (self._known[Single(one.question, turns)] for turns in (one.first, one.second))
            letter: Letter = "C" if first == second else "A" if first > second else "B"
            yield place, Ruling(letter=letter, text=f"{first:.4f} against {second:.4f}")

    def rate(self, answers: Sequence[Single]) -> Iterator[tuple[int, Ruling]]:
        self._score(answers)
        for place, one in enumerate(answers):
            yield place, Ruling(score=self._known[one], text=f"{self._known[one]:.4f}")

    def close(self) -> None:
        self._known.clear()

    def _score(self, answers: Sequence[Single]) -> None:
        """Scores of whole conversations; equal ones are scored once, so that they are equal to the bit.

        Raises `BadInput` that names the question where a score is no number.
        """
        fresh = [one for one in dict.fromkeys(answers) if one not in self._known]
        talks = [_conversation(one) for one in fresh]
        for one, score in zip(fresh, self.model.score(talks).tolist() if talks else [], strict=True):
            if not math.isfinite(score):
                raise BadInput(
                    f"The score of an answer to question {one.question.id} ({one.question.where}) is {score}: look at "
                    f"the reward model {self.name}, or leave the question out."
                )
            self._known[one] = score


def _conversation(one: Single) -> list[dict[str, str]]:
    answers = [*one.answer, *[""] * (len(one.question.turns) - len(one.answer))]
    return [
        message
        for turn, answer in zip(one.question.turns, answers, strict=False)
        for message in ({"role": "user", "content": turn}, {"role": "assistant", "content": answer})
    ]


def _cut(turns: Turns, most: int | None) -> Turns:
    """Turns of at most so many characters each, an ellipsis where one was cut."""
    return tuple(turn if most is None or len(turn) <= most else turn[:most] + " […]" for turn in turns)

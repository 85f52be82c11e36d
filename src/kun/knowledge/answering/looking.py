"""A look at the documents for one question: the sections to show for it, their units, and how much each bears on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from kun.knowledge.adding import EncoderLike
from kun.knowledge.answering.context import Texts, shown
from kun.knowledge.answering.declining import answerable, gain
from kun.knowledge.answering.evidence import Evidence, Meaning, limited, weighed
from kun.knowledge.answering.identifiers import identifiers, mentions, spellings
from kun.knowledge.answering.phrases import Phrases
from kun.knowledge.answering.policy import Policy
from kun.knowledge.answering.units import Unit, units_of
from kun.knowledge.passage import Passage
from kun.text.fold import fold
from kun.text.language import language_of

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel


class Looked(Texts, Protocol):
    """The part of a knowledge base that is looked at."""

    @property
    def encoder(self) -> EncoderLike: ...


@dataclass(frozen=True)
class Look:
    """A question as it was asked, in the language of `told`, and what is shown for it."""

    question: str
    told: Phrases
    passages: list[Passage]
    units: list[Unit]
    meaning: Meaning
    evidence: list[Evidence]

    @cached_property
    def names(self) -> bool:
        """True where an identifier of the question is in what is shown: few words are shared with a row of a table."""
        return _mentioned(self.question, [passage.text for passage in self.passages])

    @cached_property
    def has_row(self) -> bool:
        """True where an identifier of the question is a cell of a row, which is about it then."""
        cells = [cell for unit in self.units for _, cell in unit.cells]
        wanted = {fold(each) for one in identifiers(self.question) for each in spellings(one)}
        return any(fold(cell) in wanted for cell in cells)

    @cached_property
    def likely(self) -> float:
        """The probability that passages in the question's own language answer it."""
        return answerable(self.question, *self._own())

    def gained(self, lm: "LanguageModel") -> float:
        """The same by all three signs, with how much likelier the units make the question."""
        passages, evidence = self._own()
        return answerable(
            self.question,
            passages,
            evidence,
            gain(self.question, evidence, lm, self.told) if evidence else None,
        )

    def _own(self) -> tuple[list[Passage], list[Evidence]]:
        """The passages and the evidence in the question's language."""
        language = self.told.language
        evidence = [one for one in self.evidence if _is_in(one.unit.text, language)]
        return [one for one in self.passages if is_of(one, language)], evidence


def look(
    question: str,
    found: Sequence[Passage],
    told: Phrases,
    base: Looked,
    lm: "LanguageModel",
    policy: Policy,
    written: int,
) -> Look | None:
    """The sections around `found` that leave room for `written` tokens; None where they say nothing."""
    room = lm.context_length - min(written, lm.context_length // 4) - lm.count(told.system)
    room -= lm.count(question) + 2 * lm.count(told.answer) + 200
    fitting = replace(policy, shown_tokens=max(64, min(policy.shown_tokens, room)))
    passages = shown(question, found, base, lm.count, fitting)
    units = limited(units_of(passages))
    if not units:  # nothing, or headings and pictures alone
        return None
    meaning = Meaning(units, base.encoder)
    return Look(question, told, passages, units, meaning, weighed(question, units, passages, meaning))


def is_of(passage: Passage, language: str) -> bool:
    """True for a passage in `language`; one of numbers alone is in every one."""
    return _is_in(passage.text, language)


def _is_in(text: str, language: str) -> bool:
    """Chinese or not: names and units of a row are taken for any language of the Latin script."""
    found = language_of(text)
    return found == "und" or (found == "zh") == (language == "zh")


def with_named(
    question: str, named: Sequence[Passage], found: Sequence[Passage], first: int
) -> list[Passage]:
    """`found`, led by the passages that hold an identifier of the question where none of the `first` does."""
    if not named or _mentioned(question, [one.text for one in found[:first]]):
        return list(found)
    score = max((one.score for one in found), default=1.0)
    ids = {one.id for one in named}
    return [
        *(replace(one, score=score) for one in named),
        *(one for one in found if one.id not in ids),
    ]


def _mentioned(question: str, texts: Sequence[str]) -> bool:
    folded = [fold(text) for text in texts]
    return any(
        mentions(text, fold(spelling))
        for one in identifiers(question)
        for spelling in spellings(one)
        for text in folded
    )

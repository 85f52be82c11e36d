"""Which passage carries a sentence of an answer, if any does: its words, numbers, names, units and negation, together.

A sentence is held against single units of the documents (a sentence, a list item, a row), never against a passage as
a whole: words of two rows are no statement about either. Where question and passage are in different languages,
nearness in meaning takes the place of shared words; numbers and names are compared either way.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.answering.identifiers import mentions
from kun.knowledge.answering.names import names, people, proper_names
from kun.knowledge.answering.numbers import numbers, telling
from kun.knowledge.answering.policy import Policy
from kun.knowledge.answering.relations import miscompared
from kun.knowledge.answering.row_asked import row_fault
from kun.knowledge.answering.terms import Weights, claims, terms
from kun.knowledge.answering.units import Unit
from kun.knowledge.answering.wanted import other_kind
from kun.text.fold import fold
from kun.text.language import language_of
from kun.text.words import words

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|without|forbidden|prohibited|except|excluded?)\b"
    r"|n't\b|n’t\b"
    r"|不|没|未|無|无|非(?!常)|禁止|别(?!人|的|处)|勿|除外",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[，；：。！？,;:!?]|\.\s")
_PARENTHESIS = re.compile(r"\s*[(（][^)）]*[)）]")
_DENYING = re.compile(
    r"\b(?:leaves? out|left out|exclud\w+|refus\w+|declin\w+|lacks?|miss(?:es|ing)|avoid\w*"
    r"|prevent\w*|instead|only|wrong|false|bad idea)"
    r"|拒绝|排除|缺|错|误|只|仅|除",
    re.IGNORECASE,
)
"""Words that deny without a negation, so that two texts may agree though only one of them has one."""
_HEDGED = re.compile(
    r"不仅|不只|不但|不同|不久|不少|不断|不过|无论|不论|未来|无线|not only|no matter|不得不|非常",
    re.IGNORECASE,
)
_ANSWERS_YES_NO = re.compile(
    r"^\s*(?:yes|no|是的|不是的?|对的?|不对|不会|不能|不可以|可以|能|会|有|没有)\s*[,，。.！!]\s*",
    re.IGNORECASE,
)
WHO = re.compile(r"\bwho(?:m|se)?\b|谁|誰|哪位|何人|哪些人", re.IGNORECASE)
_CALENDAR = frozenset(
    """january february march april may june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday""".split()
)


_OF_OWN_SCRIPT = frozenset(("zh", "ja", "ko", "ru", "ar", "th", "hi"))
_FEW = 24
UNCARRIED = "no sentence carries it"
"""The fault of a sentence that says nothing wrong, as far as can be seen, but has no support."""


@dataclass(frozen=True)
class Verdict:
    """The passage (from 0) and the unit that carry a sentence; `fault` where none does, naming the reason."""

    place: int = -1
    unit: Unit | None = None
    fault: str = ""

    @property
    def holds(self) -> bool:
        return not self.fault


class Checker:
    """Holds sentences against the units of the passages that a model read."""

    def __init__(
        self,
        question: str,
        units: Sequence[Unit],
        policy: Policy,
        meaning: Callable[[str], NDArray[np.float32]] | None = None,
        asked: Sequence[str] = (),
        strict: bool = False,
    ) -> None:
        """`meaning` gives how near a sentence is to each unit, 1 for the same; `asked` are its identifiers.

        `strict`: where the passages hardly answer the question, one unit must have nearly all of a sentence.
        """
        self._strict = strict
        self._units, self._policy, self._meaning = list(units), policy, meaning
        self.question = question
        self._asked_terms = terms(question)
        self._asked = {fold(one): tuple(map(fold, one.rsplit(" ", 1))) for one in asked}
        self._weights = Weights([unit.known for unit in self._units])
        self._numbers = [numbers(unit.claimed) for unit in self._units]
        self._head_numbers = [numbers(unit.head) for unit in self._units]
        self._folded = [fold(f"{unit.head} {unit.claimed}") for unit in self._units]
        whole: dict[int, str] = {}
        for unit in self._units:
            whole[unit.place] = f"{whole.get(unit.place, '')} {unit.claimed}"
        of_passage = {place: language_of(text) for place, text in whole.items()}
        self._languages = [_language(unit.claimed, of_passage[unit.place]) for unit in self._units]

    def check(self, sentence: str) -> Verdict:
        """The passage that carries `sentence`."""
        sentence = _ANSWERS_YES_NO.sub("", sentence) or sentence
        if not self._units:
            return Verdict(fault="nothing was read")
        stranger = self._stranger(sentence)
        if stranger:
            return Verdict(fault=f"{stranger} stands nowhere")
        said = claims(sentence)
        adds = said - self._asked_terms
        wanted = adds or said
        language = self._spoken(sentence)
        near = self._meaning(sentence) if self._meaning and self._is_across(language) else None
        own = [self._weights.share(said, unit.known) for unit in self._units]
        best, most = -1, -1.0
        faults: list[str] = []
        for number in range(len(self._units)):
            share = self._share(number, wanted, said)
            if near is not None and self._languages[number] not in (language, "und"):
                share = max(share, near[number] / self._policy.near)
                if self._strict or not self._is_anchored(sentence, number, language):
                    continue
            elif own[number] < (self._policy.strict if self._strict else self._policy.own * share):
                continue
            if share + own[number] <= most or share < self._policy.carried:
                continue
            if not adds and own[number] < self._policy.repeated:
                continue
            fault = self._fault(sentence, number, bool(adds))
            if fault:
                faults.append(fault)
            else:
                best, most = number, share + own[number]
        if best < 0:
            return Verdict(fault=faults[0] if faults else UNCARRIED)
        if self._is_denied(sentence, best, own):
            return Verdict(fault="one denies it, the other does not")
        return Verdict(self._units[best].place, self._units[best])

    def is_off(self, sentence: str, verdict: Verdict) -> bool:
        """True for a carried sentence that answers another question: its unit shares nothing with this one.

        The words that a sentence has from its question must be about its unit; one without any needs a unit that has
        some itself, or is among the nearest in meaning. Across languages words tell nothing.
        """
        if verdict.unit is None:
            return False
        number = self._units.index(verdict.unit)
        if self._languages[number] != self._spoken(self.question):
            return False
        led = f"{verdict.unit.head} {verdict.unit.claimed}"
        around = " ".join(self._units[place].claimed for place in self._near(number))
        if other_kind(self.question, led, f"{led} {around}"):
            return True
        echoed = claims(sentence) & self._asked_terms
        if echoed:
            return not echoed & (verdict.unit.known | self._around(number))
        if verdict.unit.terms & self._asked_terms:
            return False
        if (
            max(self._weights.share(self._asked_terms, unit.terms) for unit in self._units)
            >= self._policy.asked
        ):
            return True
        if self._strict:
            return True
        nearest = (
            np.argsort(-self._meaning(self.question))[: self._policy.nearest] if self._meaning else [number]
        )
        return number not in nearest

    def _is_anchored(self, sentence: str, number: int, language: str) -> bool:
        """True where names or numbers tie a sentence to a unit of another language, or no unit is in its own.

        Nearness in meaning alone is a sign of the same subject, not of the same statement.
        """
        if language not in self._languages:
            return True
        there = " ".join(self._folded[place] for place in self._near(number))
        named = names(sentence)
        return bool(named or telling(sentence)) and all(
            fold(name).removesuffix("s") in there for name in named
        )

    def _spoken(self, sentence: str) -> str:
        """The language of a sentence; that of the passages where only a few words tell two of one script apart."""
        language = language_of(sentence)
        if language in _OF_OWN_SCRIPT or len(words(sentence)) > _FEW:
            return language
        return next((one for one in self._languages if one not in _OF_OWN_SCRIPT and one != "und"), language)

    def _is_across(self, language: str) -> bool:
        return any(one != language for one in self._languages)

    def _share(self, number: int, wanted: frozenset[str], said: frozenset[str]) -> float:
        """The share of a sentence's new terms that a unit has, with its neighbours' where they belong together.

        A fifth of the weight are all terms, so that of two units with the new ones the one with the subject counts.
        """
        known = self._units[number].known | self._around(number)
        return self._weights.share(wanted, known) * 0.8 + self._weights.share(said, known) * 0.2

    def _around(self, number: int) -> frozenset[str]:
        """Terms of the sentences next to a unit of running text: a sentence may sum up two."""
        unit = self._units[number]
        if unit.cells:
            return frozenset()
        near = [other for other in self._units[max(0, number - 1) : number + 2] if other.place == unit.place]
        return frozenset().union(*(other.terms for other in near if not other.cells))

    def _stranger(self, sentence: str) -> str:
        """A number or a name of the sentence that is neither in the units nor in the question."""
        known = "".join(self._folded) + fold(self.question)
        for name in (*names(sentence), *(people(sentence) if WHO.search(self.question) else ())):
            if fold(name) not in known and fold(name).removesuffix("s") not in known:
                return name
        values = {
            value
            for each in (*self._numbers, *self._head_numbers)
            for one in each
            for value in (one.value, one.scaled)
        }
        values |= {value for one in numbers(self.question) for value in (one.value, one.scaled)}
        for one in telling(sentence):
            if one.value not in values and one.scaled not in values:
                return one.value
        return ""

    def _fault(self, sentence: str, number: int, adds: bool) -> str:
        """The first reason for which a unit that shares the words does not carry the sentence.

        Numbers of the question need not be there where the sentence adds something to it.
        """
        unit, near = self._units[number], self._near(number)
        question = self.question if adds else ""
        asked = {value for one in numbers(question) for value in (one.value, one.scaled)}
        for one in telling(sentence):
            if one.value in asked or one.scaled in asked:
                continue
            there = [other for place in near for other in (*self._numbers[place], *self._head_numbers[place])]
            same = [other for other in there if one.is_said_by(other)]
            if not same:
                return f"{one.value} is not there"
            if one.kind and all(other.kind and other.unit != one.unit for other in same):
                return f"{one.value} has another unit"
        if self._asked and not any(self._bears(number, name) for name in self._asked):
            return "the identifier is not there"
        absent = self._absent(sentence, number)
        if absent:
            return f"{absent} is not there"
        astray = row_fault(self.question, sentence, unit, self._units)
        if astray:
            return astray
        if self._is_other_row(sentence, unit):
            return "it is another row's"
        around = " ".join(self._units[place].claimed for place in near)
        return self._wrong_column(sentence, unit) or miscompared(
            sentence, unit.claimed, around, self.question
        )

    def _absent(self, sentence: str, number: int) -> str:
        """A name that the sentence has from the question alone: the passage, in the same language, has it not."""
        if self._languages[number] != self._spoken(sentence):
            return ""
        place = self._units[number].place
        there = "".join(
            text for unit, text in zip(self._units, self._folded, strict=True) if unit.place == place
        )
        asked = fold(self.question)
        for name in (*names(sentence), *proper_names(sentence)):
            plain = fold(name).removesuffix("'s").removesuffix("’s")
            if plain in asked and plain.removesuffix("s") not in there and plain not in _CALENDAR:
                return name
        return ""

    def _near(self, number: int) -> list[int]:
        unit = self._units[number]
        if unit.cells:
            return [number]
        low, high = max(0, number - 1), min(len(self._units), number + 2)
        return [place for place in range(low, high) if self._units[place].place == unit.place]

    def _bears(self, number: int, name: str) -> bool:
        """True where a unit is about an identifier; a name and its version may lead it from two headings."""
        bearers = self._bearers(number)
        if any(mentions(self._folded[place], name) for place in bearers):
            return True
        parts = self._asked[name]
        is_led = len(parts) > 1 and mentions(self._units[number].head.casefold(), parts[-1])
        return is_led and any(parts[0] in self._folded[place] for place in bearers)

    def _bearers(self, number: int) -> list[int]:
        """The units that may name the subject of a unit: its passage; of a table of subjects the row alone."""
        unit = self._units[number]
        passage = [place for place, other in enumerate(self._units) if other.place == unit.place]
        table = [
            place for place in passage if self._units[place].cells and self._units[place].head == unit.head
        ]
        lists = unit.cells and any(
            mentions(self._folded[place], name) for name in self._asked for place in table
        )
        return [number] if lists else passage

    def _is_other_row(self, sentence: str, unit: Unit) -> bool:
        """True for a row that differs from another of its table in a word that the sentence names, and has not."""
        said = fold(sentence)
        own = {column: fold(cell) for column, cell in unit.cells if column}
        rows = [
            other for other in self._units if other.place == unit.place and other.cells and other is not unit
        ]
        return any(
            column in own
            and (value := fold(cell))
            and not value[0].isdigit()
            and own[column] not in said
            and value not in own[column]
            and value in said
            for row in rows
            for column, cell in row.cells
        )

    def _wrong_column(self, sentence: str, unit: Unit) -> str:
        """A value in another column of the row than those that question or sentence name."""
        columns = [column for column, _ in unit.cells if column]
        if len(columns) < 3:
            return ""
        text = fold(f"{self.question} {sentence}")
        named = {column for column in columns if fold(_PARENTHESIS.sub("", column)) in text}
        if not named:
            return ""
        values = {one.value for column, cell in unit.cells if column in named for one in numbers(cell)}
        if not values:
            return ""
        asked = {one.value for one in numbers(self.question)}
        for one in telling(sentence):
            holders = {
                column for column, cell in unit.cells for other in numbers(cell) if other.value == one.value
            }
            if one.value not in asked and holders and not holders & named:
                return f"{one.value} is {sorted(holders)[0]}"
        return ""

    def _is_denied(self, sentence: str, best: int, own: Sequence[float]) -> bool:
        """True where units that make the same statement differ from a sentence in a negation.

        Of those that share its words none may agree with it; a denial needs one nearby in any case.
        """
        negated = is_negated(sentence)
        if _DENYING.search(sentence):
            return False
        same = [number for number, share in enumerate(own) if share >= self._policy.same_statement]
        if same:
            most = max(own[number] for number in same)
            nearest = [number for number in same if own[number] >= most - self._policy.as_near]
            texts = [self._clauses(sentence, self._units[number].claimed, negated) for number in nearest]
            return all(is_negated(text) != negated and not _DENYING.search(text) for text in texts)
        return negated and not any(is_negated(self._units[number].claimed) for number in self._near(best))

    def _clauses(self, sentence: str, text: str, negated: bool) -> str:
        """The clauses of a text that an affirmation is made of; a denial is looked for in all of it.

        A clause that has no more of its words than better ones have is about something else.
        """
        if negated:
            return text
        said = claims(sentence)
        clauses = [(self._weights.share(said, terms(one)), one) for one in _CLAUSE.split(text) if one.strip()]
        most = max((share for share, _ in clauses), default=0.0)
        had: frozenset[str] = frozenset()
        kept = []
        for share, one in sorted(clauses, key=lambda clause: -clause[0]):
            new = (terms(one) & said) - had
            if new and share >= most / 2:
                kept.append(one)
                had |= new
        return " ".join(kept)


def _language(text: str, of_passage: str) -> str:
    """The language of a unit; where only the words could tell languages of one script apart, that of its passage."""
    language = language_of(text)
    is_guess = not {language, of_passage} & _OF_OWN_SCRIPT and of_passage != "und"
    return of_passage if is_guess else language


def is_negated(text: str) -> bool:
    """True for a text that denies something."""
    return bool(_NEGATION.search(_HEDGED.sub("", text)))

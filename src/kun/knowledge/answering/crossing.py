"""A question in one language of documents in the other: put into theirs, answered there, and the answer put back.

Small models follow a text in its own language far better than across two, and words, numbers and negation can only be
compared within one. So the question is translated (once, briefly) where the documents of the other language may hold
its answer and those of its own do not, everything is done as if it had been asked so, and each sentence that
passed its checks is translated, and held against what it was translated from.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import zip_longest
from threading import Lock
from typing import TYPE_CHECKING

from kun.knowledge.answering.checking import WHO, is_negated
from kun.knowledge.answering.identifiers import identifiers
from kun.knowledge.answering.looking import Look, is_of
from kun.knowledge.answering.names import people
from kun.knowledge.answering.numbers import numbers, telling
from kun.knowledge.answering.phrases import Phrases, phrases
from kun.knowledge.answering.policy import Policy
from kun.knowledge.passage import Passage
from kun.text.fold import fold
from kun.text.language import language_of
from kun.text.words import words

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel

_LONGER, _MORE = 2, 8
"""Words that a translation has at most: so many times those of its original, and so many more."""
_KEPT = 256
"""Translated questions that are remembered."""
_MONTHS = {
    month: str(number)
    for number, month in enumerate(
        """january february march april may june july august september october november december""".split(), 1
    )
}
_MONTH = re.compile(
    rf"\b({'|'.join(one[:3] for one in _MONTHS)})[a-z]*\b(?=\.?,? \d)|(?<=\d )({'|'.join(_MONTHS)})\b",
    re.IGNORECASE,
)
_DAY = re.compile(
    rf"(\d{{1,2}})\s*月\s*\d{{1,2}}\s*[日号]"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)? (?:of )?({'|'.join(one[:3] for one in _MONTHS)})[a-z]*"
    rf"|\b({'|'.join(one[:3] for one in _MONTHS)})[a-z]*\.? \d{{1,2}}(?!\d)",
    re.IGNORECASE,
)
"""A day of a year, in either language."""
_ORDINALS = {
    word: str(number)
    for number, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), 1
    )
}
_ORDINAL = re.compile(rf"\b(?:{'|'.join(_ORDINALS)})\b", re.IGNORECASE)
_IN_WORDS = re.compile(
    r"(?:没有|没|未|无|不)[\u4e00-\u9fff]{1,6}?的(?=[\u4e00-\u9fff])|[未无非][\u4e00-\u9fff]"
    r"|\b(?:un\w{3,}|(?:in|im)(?:valid|complete|possible|correct)|\w+less|free|without|except)\b",
    re.IGNORECASE,
)
"""Denials that are part of a word or of what describes a thing, for which the other language may have a plain word."""
_PARTIES = re.compile("[甲乙]方")
"""The parties of a contract in Chinese law, which models take for all sorts of people."""
_ENGLISH = re.compile(r"\b[a-z]+ [a-z]+ [a-z]+\b")
"""Words that are no name, which begins with a capital."""
_LATIN = re.compile(r"[A-Za-z][\w.-]*\w", re.ASCII)
_MARKER = re.compile(r"\s*(?:(?:[-*•]|\d{1,2}[.)、])\s*)?")
_MARKS = ".!?…。！？；"


class _Memory:
    """The latest translations of questions, by model, language and question."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[str, str, str]) -> str | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def put(self, key: tuple[str, str, str], text: str) -> None:
        with self._lock:
            self._known[key] = text
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)


_MEMORY = _Memory()


def other_language(language: str) -> str:
    """The language that a question in `language` may be put into; "" where there is none."""
    return {"en": "zh", "zh": "en"}.get(language, "")


def may_be_across(home: Look | None, found: Sequence[Passage], language: str, policy: Policy) -> bool:
    """True where documents in the question's own language may not answer it, and those in the other one may."""
    if home is not None and (home.has_row or home.likely >= policy.at_home):
        return False
    best = max((one.score for one in found if is_of(one, language)), default=0.0)
    rival = max((one.score for one in found if not is_of(one, language)), default=0.0)
    return rival > 0 and rival >= policy.rival * best


def surer(away: Look, home: Look | None, lm: "LanguageModel", policy: Policy) -> float:
    """The probability that documents in the other language answer, where they are clearly the likelier ones; 0 else.

    A translated question shares fewer words with them than they with one of their own: how much likelier they make it
    tells the most.
    """
    sure = away.gained(lm)
    if home is None or (away.names, away.has_row) > (home.names, home.has_row):
        return sure
    if (home.names, home.has_row) != (away.names, away.has_row):
        return 0.0
    return sure if _odds(sure) > policy.nearer * _odds(home.gained(lm)) else 0.0


def _odds(probability: float) -> float:
    return probability / max(1.0 - probability, 1e-9)


def together(there: Sequence[Passage], found: Sequence[Passage]) -> list[Passage]:
    """The passages that a translated question found, between them those that the question found by its meaning."""
    both = zip_longest(there, found)
    unique: dict[str, Passage] = {}
    for one in (one for pair in both for one in pair if one is not None):
        unique.setdefault(one.id, one)
    return list(unique.values())


def translated(question: str, language: str, lm: "LanguageModel", policy: Policy) -> str:
    """`question` in `language`; "" where what was written is none, or lost a number or an identifier.

    The model is shown none of the documents for it: with their sentences before it, a small one answers instead.
    """
    if len(question) > policy.longest_translated:
        return ""
    key = lm.name, language, question
    known = _MEMORY.get(key)
    if known is None:
        request = phrases(language).translate_question.format(text=question)
        written = lm.generate(
            [{"role": "user", "content": request}], max_tokens=policy.translation_tokens, temperature=0
        )
        text = str(written).strip().split("\n")[0].strip().strip('"“”')
        known = text if _is_sound(question, text, language) else ""
        _MEMORY.put(key, known)
    return known


def _is_sound(question: str, text: str, language: str) -> bool:
    if language_of(text) != language or len(text) > 8 * len(question) + 40:
        return False
    folded = fold(text)
    kept = all(fold(one) in folded for one in identifiers(question))
    return kept and not _lost_numbers(question, text) and not _lost_numbers(text, question)


class Rendering:
    """Sentences of the documents' language in that of the question."""

    def __init__(self, question: str, told: Phrases, lm: "LanguageModel", policy: Policy) -> None:
        self._question, self._told, self._lm, self._policy = question, told, lm, policy

    def __call__(self, sentence: str) -> str:
        """`sentence` in the question's language, names as they are written; as it is where that changes it."""
        marker = _MARKER.match(sentence)
        start = marker.end() if marker else 0
        body = sentence[start:].strip()
        if self._told.language == "en":
            body = _PARTIES.sub(lambda match: f" Party {'A' if match[0] == '甲方' else 'B'} ", body)
        for request in (self._told.translate_answer, self._told.translate):
            asked = request.format(text=body, question=self._question)
            written = self._lm.generate(
                [{"role": "user", "content": asked}], max_tokens=self._policy.answer_tokens, temperature=0
            )
            text = str(written).strip().split("\n")[0].strip()
            if text and not rendering_fault(body, text, self._question, self._told.language):
                return sentence[:start] + self._with_names(body, text) + _end_of(sentence)
        return sentence

    def _with_names(self, sentence: str, text: str) -> str:
        """`text` with the Chinese names of people that it writes in letters alone, where people are asked for."""
        if not WHO.search(self._question) or self._told.language == "zh":
            return text
        lost = [name for name in dict.fromkeys(people(sentence)) if fold(name) not in fold(text)]
        mark = text[-1] if text[-1] in _MARKS else ""
        return f"{text[: len(text) - len(mark)]} ({', '.join(lost)}){mark}" if lost else text

    def cited(self, text: str) -> str:
        """A text with its citations at the end, which stay as they are."""
        body, _, marks = text.partition(" [")
        return f"{self(body).rstrip()} [{marks}" if marks else self(body)


def rendering_fault(sentence: str, text: str, question: str, language: str) -> str:
    """The first thing in which a translated sentence differs from its original; "" where nothing is seen."""
    if language_of(text) not in (language, "und"):
        return "another language"
    if language == "zh" and _ENGLISH.search(text):
        return "a part is not translated"
    if len(words(text)) > _LONGER * len(words(sentence)) + _MORE:
        return "it is longer"
    lost = _lost_numbers(sentence, text) or _lost_numbers(text, f"{sentence} {question}")
    if lost:
        return f"{lost} differs"
    if _months(sentence) != _months(text):
        return "a month differs"
    if _is_denied(sentence, text) or _is_denied(text, sentence):
        return "one denies it, the other does not"
    source, known = fold(text), fold(f"{sentence} {question}")
    missing = [
        word for word in _LATIN.findall(sentence) if re.search(r"\d", word) and fold(word) not in source
    ]
    strange = [word for word in _LATIN.findall(text) if language == "zh" and fold(word) not in known]
    return f"{(missing or strange)[0]} differs" if missing or strange else ""


def _is_denied(sentence: str, text: str) -> bool:
    """True where `text` denies something and `sentence` does not, not even within a word: 未用的 is unused."""
    return (
        is_negated(_IN_WORDS.sub(" ", text)) and not is_negated(sentence) and not _IN_WORDS.search(sentence)
    )


def _lost_numbers(source: str, text: str) -> str:
    """The first number of `source` that is not in `text`, or has another unit there."""
    there = numbers(_in_digits(text))
    for one in telling(_in_digits(source)):
        same = [other for other in there if one.is_said_by(other) or other.is_said_by(one)]
        if not same:
            return one.value
        if one.kind and all(other.kind == one.kind and other.unit != one.unit for other in same):
            return one.value
    return ""


def _months(text: str) -> set[str]:
    """The months of the days of a text: their numbers alone are those of another day, the other way round."""
    found = (next(filter(None, match.groups())) for match in _DAY.finditer(text))
    return {month.lstrip("0") if month.isdigit() else _month(month) for month in found}


def _in_digits(text: str) -> str:
    """`text` with ordinal numbers, and the names of months next to a number, as numbers."""
    text = _MONTH.sub(lambda match: _month(match[1] or match[2]), text)
    return _ORDINAL.sub(lambda match: _ORDINALS[match.group().casefold()], text)


def _month(name: str) -> str:
    return next(number for month, number in _MONTHS.items() if month.startswith(name[:3].casefold()))


def _end_of(sentence: str) -> str:
    """The space after a sentence."""
    return sentence[len(sentence.rstrip()) :] or " "

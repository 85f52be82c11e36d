"""Yes and no, and what else a sentence must have to be whole: the word that fits it, and all values of a cell."""

import re
from collections.abc import Sequence

from kun.knowledge.answering.checking import is_negated
from kun.knowledge.answering.evidence import Evidence
from kun.knowledge.answering.numbers import numbers, telling
from kun.knowledge.answering.terms import claims, terms
from kun.knowledge.answering.units import Unit
from kun.text.fold import fold
from kun.text.language import language_of

_YES = re.compile(
    r"^\s*(?:yes|是的?|对的?|可以的?|能|会的?|有|需要)\s*(?P<mark>[,，。.:：!！])\s*", re.IGNORECASE
)
_NO = re.compile(r"^\s*(?:no|不是的?|不对|不)\s*(?P<mark>[,，。.:：!！])\s*", re.IGNORECASE)
_MARKER = re.compile(
    r"^\s*(?:[-*•+]\s+|\d{1,2}[.)、]\s*|[（(]\d{1,2}[)）]\s*)?(?:[A-Z][\w ]{2,24}\.\s+(?=[A-Z]))?"
)
_DENIES = re.compile(
    r"\b(?:forbidden|prohibited|not|no|without|unless|wrong|false|myth|stop|avoid|refuse)\b|n['’]t\b|不|没|无|非|禁",
    re.IGNORECASE,
)
_LEANS = re.compile(
    r"(?:it|its|they|their|this|that|these|those|he|she|such|but|so|then|therefore)\b|它|其|这|那|他|她|此|因此|所以|但|而",
    re.IGNORECASE,
)
"""Beginnings of a sentence that cannot stand without the one before."""
_HOW_LARGE = re.compile(r"\bhow \w+", re.IGNORECASE)
_READ = 4
"""Units that are looked through for a correction."""
_LONGEST = 240
"""Characters of a statement that is given whole."""
_MOST = 60
"""Characters of a cell that is given whole."""
_MOSTLY = 0.5
"""Share of a sentence's words that it took from the statement which carries it."""
_CLAUSE = re.compile(r"[，；：。！？,;:!?]|\.\s")
_LABELS = re.compile(r"[,，、;；/]|\band\b|和|与")


def agreeing(sentence: str, question: str) -> str:
    """A sentence whose “yes” or “no” fits what it says after it, where the two plainly do not fit each other."""
    if _DENIES.search(question):
        return sentence
    yes, no = _YES.match(sentence), _NO.match(sentence)
    if yes and is_negated(sentence[yes.end() :]):
        return _led(sentence, yes, is_yes=False)
    rest = sentence[no.end() :] if no else ""
    if no and rest and not is_negated(rest) and claims(rest) <= terms(question) | claims(question):
        return _led(sentence, no, is_yes=True)
    return sentence


def _led(sentence: str, found: re.Match[str], is_yes: bool) -> str:
    rest = sentence[found.end() :]
    if language_of(sentence) == "zh":
        return f"{'是的' if is_yes else '不'}{found['mark']}{rest}"
    return f"{'Yes' if is_yes else 'No'}{found['mark']} {rest}"


def correction(question: str, evidence: Sequence[Evidence], least: float) -> tuple[str, Unit] | None:
    """A “no” with the sentence that denies what a question asks, from the units that share `least` of its words.

    None where no such unit denies it, or where the question denies something itself.
    """
    if _DENIES.search(question):
        return None
    for one in sorted(evidence[:_READ], key=lambda one: -one.words):
        if one.words < least:
            return None
        text = " ".join(one.unit.claimed.split())
        if language_of(text) != language_of(question) or one.unit.cells:
            continue
        if is_negated(text) and len(text) <= _LONGEST:
            said = _NO.sub("", _MARKER.sub("", text))
            return (f"不：{said}" if language_of(question) == "zh" else f"No: {said}"), one.unit
    return None


def whole_statement(sentence: str, unit: Unit) -> str:
    """The text of the unit that carries `sentence`, after its yes or no, where the sentence left out a clause of it.

    A correction without what is right instead, or one side of a comparison without its other half, is half an answer.
    """
    text = " ".join(_MARKER.sub("", unit.claimed).replace("**", "").split())
    if unit.cells or len(text) > _LONGEST or language_of(text) != language_of(sentence):
        return sentence
    if _LEANS.match(text):
        return sentence
    led = _YES.match(sentence) or _NO.match(sentence)
    said = claims(sentence[led.end() :] if led else sentence)
    clauses = [claims(clause) for clause in _CLAUSE.split(text)]
    is_from_it = len(said) > 1 and len(said & terms(text)) >= _MOSTLY * len(said)
    if not is_from_it or not any(
        len(clause) > 2 and 2 * len(clause & said) <= len(clause) for clause in clauses
    ):
        return sentence
    return f"{led.group() if led else ''}{text}"


def whole_cell(sentence: str, unit: Unit, question: str) -> str:
    """`sentence` with all values of a cell of which it took one, unless the question names one."""
    for _, cell in unit.cells:
        values = numbers(cell)
        if len(values) < 2 or len(cell) > _MOST or len(_LABELS.split(cell)) != len(values):
            continue
        if _names_one(question, cell):
            continue
        mine = [one for one in telling(sentence) if any(one.is_said_by(other) for other in values)]
        if len(mine) == 1 and fold(cell) not in fold(sentence):
            value = next(other for other in values if mine[0].is_said_by(other))
            return (
                f"{sentence[: mine[0].start]}{cell}{sentence[_end(sentence, mine[0].end, cell, value.end) :]}"
            )
    return sentence


def _names_one(question: str, cell: str) -> bool:
    labels = terms(cell) - {one.value for one in numbers(cell)}
    return bool(labels & terms(_HOW_LARGE.sub("", question)))


def _end(sentence: str, end: int, cell: str, place: int) -> int:
    """The end of a value in a sentence with the words that follow it in the cell too."""
    follows = _LABELS.split(cell[place:])[0].strip()
    rest = sentence[end:]
    taken = rest.lstrip()
    return end + len(rest) - len(taken) + len(follows) if follows and taken.startswith(follows) else end

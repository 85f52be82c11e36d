"""The row of a table that a question names, and sentences that take their value from another."""

import re
from collections.abc import Sequence

from kun.knowledge.answering.units import Unit
from kun.knowledge.computation.doubts import GENERIC
from kun.knowledge.computation.matching import TOTALS
from kun.knowledge.computation.question import kinds_in
from kun.text.fold import fold
from kun.text.words import STOP_WORDS

_LONGEST_VALUE = 30
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w'’-]*[a-z][\w'’-]*")


def row_fault(question: str, sentence: str, unit: Unit, units: Sequence[Unit]) -> str:
    """The reason why the row `unit` does not carry a sentence that answers `question`; "" where there is none.

    A value of the table that the question names chooses the row; a total is no row of a name; a name of the
    question that stands nowhere in what was read has no row.
    """
    if not unit.cells:
        return ""
    asked, said = fold(question), fold(sentence)
    table = [one for one in units if one.cells and one.place == unit.place and one.head == unit.head]
    for number, (column, cell) in enumerate(unit.cells):
        own = fold(cell)
        named = _named(question, {value for one in table for name, value in one.cells if name == column})
        if named and own not in named and own not in said and not any(one in own for one in named):
            return "the question names another row"
        if number == 0 and TOTALS.fullmatch(cell) and "sum" not in kinds_in(question) and own not in asked:
            return "it is the total of all rows"
    return _unknown_name(question, sentence, units)


def _named(question: str, values: set[str]) -> set[str]:
    """The folded values among `values`, of one column, that stand in a question, none within another."""
    small = question.casefold().replace("’", "'")
    found = {
        fold(value)
        for value in values
        if _stands(value.strip().casefold().replace("’", "'"), small, question)
    }
    return {one for one in found if not any(one != other and one in other for other in found)}


def _stands(value: str, small: str, question: str) -> bool:
    """True for a value in a question: one of Latin letters as words by itself, Chinese anywhere."""
    if (
        not 1 < len(value) <= _LONGEST_VALUE
        or value.replace(".", "").isdigit()
        or value in STOP_WORDS
        or value in GENERIC
    ):
        return False
    if not value.isascii():
        return fold(value) in fold(question)
    return re.search(rf"(?<![a-z0-9-]){re.escape(value)}(?:'s)?(?![a-z0-9-])", small) is not None


def _unknown_name(question: str, sentence: str, units: Sequence[Unit]) -> str:
    """A name that a sentence about a table takes over from the question though nothing that was read has it."""
    known = "".join(fold(f"{one.head} {one.text}") for one in units)
    if not re.search(r"[a-z]{3}", known):
        return ""
    asked = set(_NAME.findall(question))
    for name in _NAME.findall(sentence):
        plain = fold(name).removesuffix("'s").removesuffix("’s")
        if name in asked and plain not in known:
            return f"{name} is in no row"
    return ""

"""Which of a table's numbers a question is about."""

import re
from collections.abc import Sequence

from kun.knowledge.computation.concepts import unit_kind, units_asked
from kun.knowledge.computation.matching import column_score, latin_words
from kun.knowledge.computation.question import Asked, Kind, kinds_in
from kun.knowledge.computation.sheets import Quantity
from kun.tools.columns import TypedTable

_LEAST = 0.5
_OF_ALL = re.compile(
    r"一共|总共|合计|总价|总额|\btotal\b|\bcomes? to\b|\baltogether\b|\bVAT\b|\binvoice|\bquot|\boffer|\bbill\b",
    re.IGNORECASE,
)


def without_names(text: str, table: TypedTable) -> str:
    """A question without the names of columns: 最高气温 asks for no extreme, "average price" for no mean."""
    for column in sorted(table.columns, key=lambda one: -len(one.name)):
        if len(column.name) >= 3 and kinds_in(column.name):
            text = re.sub(re.escape(column.name), " ", text, flags=re.IGNORECASE)
    return text


def counts_a_unit(asked: Asked, given: Sequence[Quantity]) -> bool:
    """ "How many hours": the sum of a measure, not a number of rows."""
    units = [unit for unit in units_asked(asked.text) if unit != "piece"]
    if any(unit_kind(one.measure.unit) in units for one in given):
        return True
    wanted = re.search(r"\bhow many ([a-z]+)", asked.text, re.IGNORECASE)
    if wanted:
        return any(column_score(name, "", wanted[1]) >= 1 for one in given for name in one.names)
    return False


def measure_for(
    asked: Asked, given: Sequence[Quantity], rest: str, kind: Kind
) -> tuple[Quantity | None, float]:
    """The measure that the question names most surely, and how surely."""
    units = units_asked(asked.text)
    multiplied = any("×" in one.measure.formula for one in given)
    best, chosen = 0.0, None
    names = [name for one in given for name in one.names[:1]]
    for one in given:
        unit = one.measure.unit
        others = [name for name in names if name != one.names[0]]
        score = max(column_score(name, unit, rest, others) for name in one.names)
        score += 0.02 * _n_words(one.names[0], rest) if score >= _LEAST else 0
        if score < _LEAST and kind == "sum" and "×" in one.measure.formula and _OF_ALL.search(asked.text):
            score = 0.62
        if unit and unit_kind(unit) in units:
            score += 0.8
        elif units and "money" not in units and unit_kind(unit) == "money":
            score -= 0.4
        by_name = one.is_price and kind == "extreme" and column_score(one.names[0], "", rest) >= 0.9
        score += 0.3 if by_name else 0
        if (
            one.is_price
            and not by_name
            and multiplied
            and kind in ("sum", "extreme", "compare", "percent")
            and not asked.on_price
        ):
            score -= 0.5
        if "×" in one.measure.formula and (kind == "mean" or asked.on_price):
            score -= 0.1
        if asked.on_price and one.is_price:
            score += 0.5
        if "−" in one.measure.formula:
            score += 0.02 * one.measure.formula.count("−")
        if score > best:
            best, chosen = score, one
    return (chosen, best) if best >= _LEAST else (None, best)


def _n_words(name: str, text: str) -> int:
    """The words or Chinese characters of a name that stand in a text: of two columns the longer is meant."""
    said = {word.stem for word in latin_words(text)}
    return sum(word.stem in said for word in latin_words(name)) + sum(
        letter in text for letter in name if letter >= "\u3400"
    )

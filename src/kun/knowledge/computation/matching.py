"""Which columns and which values of a table a question names."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kun.knowledge.computation.concepts import CONCEPTS, GENERAL, unit_kind
from kun.text.words import STOP_WORDS, stem
from kun.tools.columns import Column, TypedTable

_MOST_VALUES = 5_000
"""Distinct values of one column that a question is searched for; a column of more names its rows by codes."""
_LATIN = re.compile(r"[a-z0-9]+(?:[.'’-][a-z0-9]+)*", re.IGNORECASE)
_HAN = re.compile(r"[\u3400-\u9fff]+")
_IRREGULAR = {
    "took": "take", "taken": "take", "taking": "take", "sold": "sell", "spent": "spend", "bought": "buy", "paid": "pay", "drew": "draw",
    "drawn": "draw", "drove": "drive", "driven": "drive", "gave": "give", "given": "give", "lent": "lend", "ran": "run", "held": "hold",
    "cost": "cost", "weigh": "weight", "weighed": "weight", "worked": "work", "earnings": "earn", "people": "person", "children": "child",
}  # fmt: skip
_PLAIN = frozenset(
    "the and for all any are was were how many much what which who with without from into than that this have has had did does "
    "number value values total average mean per each every date name type kind time more less most least not one two three its their out "
    "day days week month year on in of to a an at by is it or no yes did be".split()
)
_CHANGES = re.compile(r"^(?:已经|尚未|还未|已|未|待|被|不|没有|没)")
_NOT_YET = re.compile(r"(?:没有?|还没有?|尚未|未|待|不)\s*(?:被)?$")
TOTALS = re.compile(
    r"\s*(?:合计|总计|小计|共计|总和|汇总|totals?|sub-?totals?|sum|grand total|all)\s*[:：]?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ValueHit:
    """A value of a column that the question names, at `[start, end)`; `part` where it is a part of the cells."""

    column: Column
    values: tuple[str, ...]
    start: int
    end: int
    part: bool = False

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Word:
    """A word of a text, as stemmed, and its place."""

    stem: str
    start: int
    end: int


def latin_words(text: str) -> list[Word]:
    return [Word(_stem(match[0].lower()), *match.span()) for match in _LATIN.finditer(text)]


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("’s")
    return stem(_IRREGULAR.get(word, word))


def alike(one: str, other: str) -> bool:
    """True for two stems of one word, as far as spelling tells ("take", "tak")."""
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    return (
        len(short) >= 3 and long.startswith(short) and len(long) - len(short) <= (1 if len(short) < 5 else 3)
    )


def folded(text: str) -> str:
    """NFKC in small letters, character by character: places stay."""
    return "".join(
        one if len(one) == 1 else letter
        for letter in text
        for one in [unicodedata.normalize("NFKC", letter).lower()]
    )


def value_hits(question: str, table: TypedTable, taken: Iterable[tuple[int, int]] = ()) -> list[ValueHit]:
    """The values of text columns that stand in the question, longest first, none over another or over `taken`."""
    plain = folded(question)
    said = latin_words(plain)
    found: list[ValueHit] = []
    for column in table.columns:
        if column.kind != "text" or len(column.distinct) > _MOST_VALUES:
            continue
        found += _hits_of(column, plain, said)
    found.sort(key=lambda hit: (hit.part, -hit.length, len(hit.column.distinct)))
    kept: list[ValueHit] = []
    spans = list(taken)
    for hit in found:
        same = [one for one in kept if one.start < hit.end and hit.start < one.end]
        if any(start < hit.end and hit.start < end for start, end in spans) or same:
            continue
        kept.append(hit)
    return sorted(kept, key=lambda hit: hit.start)


def _hits_of(column: Column, plain: str, said: Sequence[Word]) -> list[ValueHit]:
    found = []
    parts: dict[tuple[int, int], list[str]] = {}
    own = {word.stem for word in latin_words(column.name.lower())}
    for value in column.distinct:
        if TOTALS.fullmatch(value) or len(value) > 80:
            continue
        spans = _places(folded(value), plain, said)
        if spans and len(value) == 1 and (len(column.distinct) > 12 or value in column.name):
            continue
        if spans:
            found += [ValueHit(column, (value,), *span) for span in spans]
            continue
        for piece in _pieces(folded(value)):
            if {word.stem for word in latin_words(piece)} & own and _HAN.search(piece) is None:
                continue
            for span in _places(piece, plain, said, exact=True)[:1]:
                parts.setdefault(span, []).append(value)
    for span, values in parts.items():
        kept = _by_negation(values, plain, span)
        if kept and len(kept) <= max(1, len(column.distinct) - 1):
            found.append(ValueHit(column, tuple(kept), *span, part=True))
    return found


def _by_negation(values: list[str], plain: str, span: tuple[int, int]) -> list[str]:
    """Of 已付款 and 未付款, the one that the word before 付款 means."""
    if not any(_CHANGES.match(value) for value in values) or len(values) == 1:
        return values
    negated = bool(_NOT_YET.search(plain[: span[0]]))
    kept = [value for value in values if bool(re.match(r"未|待|不|没|尚", value)) == negated]
    return kept or values


def _places(value: str, plain: str, said: Sequence[Word], exact: bool = False) -> list[tuple[int, int]]:
    """Places of a value: Chinese as it is, Latin words by their stems, one after the other."""
    if not value:
        return []
    if _HAN.search(value):
        if len(value) < 2 and value in _SMALL:
            return []
        return [match.span() for match in re.finditer(re.escape(value), plain)]
    wanted = [word.stem for word in latin_words(value)]
    if not wanted or (len(wanted) == 1 and (len(value) < 2 or value in _PLAIN or value in STOP_WORDS)):
        return []
    if len(wanted) == 1 and wanted[0].isdigit():
        return []
    return [
        (said[place].start, said[place + len(wanted) - 1].end)
        for place in range(len(said) - len(wanted) + 1)
        if all(
            a == b.stem or (not exact and _same(a, b.stem))
            for a, b in zip(wanted, said[place:], strict=False)
        )
    ]


_SMALL = frozenset("的了是有在和与多少大小高低长短天日月年周个一二三四五六七八九十百千上中下前后人次元无否不")
"""Characters that are too common to be a value that a question names."""


def _same(value: str, word: str) -> bool:
    return len(value) >= 4 and not value.isdigit() and alike(value, word)


def _pieces(value: str) -> list[str]:
    """The parts of a value that may stand for it: before a colon, a comma or brackets, without 已 or 未."""
    pieces = re.split(r"\s*[:：,，;；/、|（(]\s*", value)
    first = pieces[0]
    bare = _CHANGES.sub("", first)
    found = [piece.rstrip(")） ") for piece in pieces] if len(pieces) > 1 else []
    if bare != first and len(bare) >= 2:
        found.append(bare)
    return [piece for piece in dict.fromkeys(found) if 2 <= len(piece) <= 40 and not piece.isdigit()]


def column_score(column_name: str, unit: str, question: str, others: Sequence[str] = ()) -> float:
    """The certainty that the question names a column: 1 by its whole name, less by a part, its unit or its concept.

    `others` are the names of the table's other columns: a single Chinese character counts where none has it.
    """
    plain, name = folded(question), folded(column_name)
    best = 0.0
    han = "".join(_HAN.findall(name))
    if han:
        best = _han_score(han, plain, others)
    words = [word.stem for word in latin_words(name) if word.stem not in _PLAIN and len(word.stem) > 1]
    if words and not han:
        said = [word.stem for word in latin_words(plain)]
        held = sum(any(alike(word, one) for one in said) for word in words)
        best = max(best, held / len(words) if held else 0.0)
        best = max(
            best, 0.75 if held and alike(words[0], next((s for s in said if alike(words[0], s)), "")) else 0.0
        )
    return max(best, 0.62 * concept_score(column_name, unit, question))


def concept_score(column_name: str, unit: str, question: str) -> float:
    """1 where a concept that measures something is named by both the column and the question."""
    own = f"{column_name} {unit}"
    shared = [name for name, pattern in CONCEPTS.items() if pattern.search(own) and pattern.search(question)]
    return 1.0 if any(name not in GENERAL for name in shared) else 0.0


def label_score(column: Column, question: str) -> float:
    """The certainty that the question names a column that groups or labels rows."""
    own = concept_labels(column.name)
    asked = concept_labels(question)
    score = column_score(column.name, "", question)
    return max(score, 0.7 if own & asked else 0.0)


def concept_labels(text: str) -> set[str]:
    return {name for name, pattern in CONCEPTS.items() if pattern.search(text)}


def _han_score(name: str, plain: str, others: Sequence[str]) -> float:
    if name in plain:
        return 1.0
    longest = max(
        (
            end - start
            for start in range(len(name))
            for end in range(start + 2, len(name) + 1)
            if name[start:end] in plain
        ),
        default=0,
    )
    if longest:
        return 0.5 + 0.5 * longest / len(name)
    single = [
        letter
        for letter in name
        if letter in plain and letter not in "的是有和数量日期号名年月时间总一第个每"
    ]
    alone = [letter for letter in single if not any(letter in folded(other) for other in others)]
    return 0.55 if alone else 0.0


def same_unit(one: str, other: str) -> bool:
    return bool(one) and bool(other) and unit_kind(one) == unit_kind(other)

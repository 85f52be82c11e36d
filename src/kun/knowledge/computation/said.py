"""A question as words with places, and which of them a cell or a column's name has."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache

from kun.knowledge.computation.glossary import in_other_language, same_meaning
from kun.knowledge.computation.matching import Word, alike, folded, latin_words
from kun.knowledge.computation.ranges import UNIT, length_unit
from kun.text.fold import simplified
from kun.text.words import STOP_WORDS
from kun.tools.periods import Period, periods_in
from kun.tools.values import NUMBER_WORD, quantity_of

Places = frozenset[int]

_HAN = re.compile(r"[\u3400-\u9fff]+")
_NUMBER = re.compile(
    rf"(?<![\w.-])(?:第\s*)?(?:[€$£¥￥]\s*)?(?P<number>{NUMBER_WORD})(?:st|nd|rd|th)?\s*-?(?P<unit>(?:{UNIT})(?![A-Za-z]))?(?![\w-]*\d|[A-Za-z])"
    rf"|(?<=[\u3400-\u9fff])(?:第\s*)?(?P<number2>{NUMBER_WORD})\s*(?P<unit2>(?:{UNIT})(?![A-Za-z]))?",
    re.IGNORECASE,
)
_SMALL_CELLS = frozenset(
    "的了是有在和与大小高低长短天日月年周个一二三四五六七八九十百千上中下前后人次元无否不能可"
)


def plain(text: str) -> str:
    """Small letters, NFKC and simplified Chinese, character by character: places stay."""
    return simplified(folded(text)).replace("’", "'").replace("_", " ")


@dataclass(frozen=True)
class Amount:
    """A number of a question with its unit's plain name, "" where it has none."""

    value: Decimal
    unit: str
    start: int
    end: int

    @property
    def places(self) -> Places:
        return frozenset(range(self.start, self.end))


@dataclass(frozen=True)
class Cover:
    """Where a question has words of a text; `is_full` where it has all of them, `n` of `of` words."""

    places: Places
    n: float
    of: int

    @property
    def is_full(self) -> bool:
        return 0 < self.of <= self.n


_NONE = Cover(frozenset(), 0.0, 0)


@lru_cache(maxsize=65_536)
def _features(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The stems and the runs of Chinese of a text."""
    small = plain(text)
    stems = tuple(
        dict.fromkeys(
            word.stem for word in latin_words(small) if not (word.stem in STOP_WORDS and len(word.stem) > 1)
        )
    )
    return stems, tuple(_HAN.findall(small))


class Said:
    """A question read for look-ups."""

    def __init__(self, text: str) -> None:
        self.text, self.plain = text, plain(text)
        self.words: list[Word] = latin_words(self.plain)
        self._stems: dict[str, list[Places]] = {}
        for word in self.words:
            self._add(word.stem, word.start, word.end)
        self._others: list[tuple[str, Places]] = []
        for start, end, others in [*in_other_language(self.plain), *same_meaning(self.plain)]:
            place = frozenset(range(start, end))
            for other in others:
                if _HAN.match(other):
                    self._others.append((other, place))
                else:
                    self._others_latin(other, place)

    def _add(self, stem: str, start: int, end: int) -> None:
        self._stems.setdefault(stem, []).append(frozenset(range(start, end)))

    def _others_latin(self, other: str, place: Places) -> None:
        for word in latin_words(other):
            self._stems.setdefault(word.stem, []).append(place)

    @cached_property
    def is_chinese(self) -> bool:
        from kun.text.language import language_of

        return language_of(self.text) == "zh"

    @cached_property
    def periods(self) -> list[Period]:
        return periods_in(self.text)

    @cached_property
    def amounts(self) -> list[Amount]:
        """The numbers that are no part of a date or a code."""
        found = []
        dated = [(one.start, one.end) for one in self.periods]
        for match in _NUMBER.finditer(self.plain):
            number, unit = match["number"] or match["number2"], match["unit"] or match["unit2"] or ""
            value = quantity_of(number)
            if value is None or any(start < match.end() and match.start() < end for start, end in dated):
                continue
            end = match.start() + len(match[0].rstrip(" -"))
            found.append(Amount(value, length_unit(unit), match.start(), end))
        return found

    @cached_property
    def _pairs(self) -> dict[str, list[Places]]:
        found: dict[str, list[Places]] = {}
        for run in _HAN.finditer(self.plain):
            for place in range(run.start(), run.end() - 1):
                found.setdefault(self.plain[place : place + 2], []).append(frozenset((place, place + 1)))
        for other, place_set in self._others:
            for place in range(len(other) - 1):
                found.setdefault(other[place : place + 2], []).append(place_set)
        return found

    @cached_property
    def _stem_set(self) -> frozenset[str]:
        return frozenset(self._stems)

    def cover(self, text: str, loose: bool = False) -> Cover:
        """Where the question has `text`, a cell or a name; `loose` lets two forms of a word meet."""
        stems, runs = _features(text)
        if not stems and not runs:
            return _NONE
        if not loose and not runs and self._stem_set.isdisjoint(stems):
            return _NONE
        places: set[int] = set()
        n, of = 0.0, 0
        for one in stems:
            of += 1
            found = self._stems.get(one) or (self._alike(one) if loose and len(one) > 3 else [])
            if found:
                n += 1
                places.update(*found)
        for run in runs:
            got, share = self._han(run)
            words = 1 if len(run) < 4 else len(run) // 2
            of += words
            n += words * share
            places |= got
        return Cover(frozenset(places), n, of) if places else _NONE

    def _alike(self, stem: str) -> list[Places]:
        return [places for other, found in self._stems.items() if alike(stem, other) for places in found]

    def _han(self, run: str) -> tuple[set[int], float]:
        """The places of a run of Chinese, and the share of it that is there."""
        if len(run) == 1:
            if run in _SMALL_CELLS:
                return set(), 0.0
            at = {match.start() for match in re.finditer(run, self.plain)}
            return at, 1.0 if at else 0.0
        at = {place for match in re.finditer(run, self.plain) for place in range(*match.span())}
        at.update(*(place for other, place in self._others if other == run))
        if at:
            return at, 1.0
        places: set[int] = set()
        held = [False] * len(run)
        for place in range(len(run) - 1):
            for found in self._pairs.get(run[place : place + 2], ()):
                places |= found
                held[place] = held[place + 1] = True
        return places, sum(held) / len(run)

    def names(self, run: str) -> bool:
        return run in self.plain


def union(covers: Iterable[Cover]) -> Places:
    return frozenset().union(*(one.places for one in covers))

"""Rules of running text that depend on a number ("up to 10 days …"): the one that holds a question's."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kun.knowledge.computation.leftovers import leftovers, n_content, title_places
from kun.knowledge.computation.ranges import holding, ranges_in
from kun.knowledge.computation.said import Amount, Said, plain
from kun.knowledge.computation.sheets import Sheet
from kun.knowledge.computation.targets import WH

_PIECE = re.compile(r"[^\n。；;]+(?:[。；;]|(?=\n)|$)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MARK = re.compile(r"^\s*(?:#{1,6}\s+|[-*•+]\s+|\d{1,2}[.)、]\s*|[（(]\d{1,2}[)）]\s*)?")
_HEADING = re.compile(r"\s*(#{1,6})\s+(.+)")
_LONGEST = 400
_MOST_TEXT = 400_000
_MOST_LEFT = 0.34
"""The share of a question's words that neither the rules nor the headings above them need to have."""
_LEAST_KNOWN = 2
_OTHER_THINGS = re.compile(r"\b(?:who|whom|where|when)\b|谁|哪里|在哪|什么时候|何时", re.IGNORECASE)
_IN_SMALLER = {"h": ("min", 60), "week": ("d", 7), "year": ("month", 12), "t": ("kg", 1000)}


@dataclass(frozen=True)
class Clause:
    """The rule that holds a number: its words, the heading above, its place in the document."""

    sheet: Sheet
    text: str
    heading: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class _Piece:
    text: str
    heading: str
    section: int


def clauses(said: Said, sheet: Sheet) -> list[Clause]:
    """The rules of a document that may answer a question with a number in it, best first."""
    amounts = [one for one in said.amounts if one.unit]
    amounts += [
        Amount(one.value * factor, unit, one.start, one.end)
        for one in amounts
        for unit, factor in [_IN_SMALLER.get(one.unit, ("", 1))]
        if unit
    ]
    if not amounts or len(sheet.around) > _MOST_TEXT or _OTHER_THINGS.search(said.plain):
        return []
    pieces = list(_pieces(sheet.around))
    found = [clause for amount in amounts for clause in _of_amount(said, amount, pieces, sheet)]
    return sorted(found, key=lambda one: -one.score)


def _pieces(text: str) -> Iterator[_Piece]:
    path: list[str] = []
    section = 0
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            level = len(heading[1])
            path = [*path[: level - 1], heading[2].strip()]
            section += 1
            continue
        for found in _PIECE.finditer(line):
            for sentence in _SENTENCE.split(found[0]):
                for part in _at_ranges(_MARK.sub("", sentence).strip()):
                    if part:
                        yield _Piece(part, path[-1] if path else "", section)


def _at_ranges(sentence: str) -> list[str]:
    """A sentence of several ranges, cut at the commas before them."""
    places = [one.start for one in ranges_in(sentence)] if len(sentence) <= _LONGEST else []
    cuts = []
    for place in places[1:]:
        comma = max(sentence.rfind(mark, 0, place) for mark in "，,")
        if comma > places[0]:
            cuts.append(comma + 1)
    edges = [0, *cuts, len(sentence)]
    return [sentence[a:b].strip(" ，,") for a, b in pairwise(edges)]


def _of_amount(said: Said, amount: Amount, pieces: Sequence[_Piece], sheet: Sheet) -> Iterator[Clause]:
    """The pieces that hold the number, of those sections where two or more have a range of its unit."""
    sections: dict[int, list[_Piece]] = {}
    for piece in pieces:
        sections.setdefault(piece.section, []).append(piece)
    for own in sections.values():
        ranges = [
            next((one for one in ranges_in(piece.text) if one.unit == amount.unit), None)
            if len(piece.text) <= _LONGEST
            else None
            for piece in own
        ]
        if sum(one is not None for one in ranges) < 2:
            continue
        places = holding(amount.value, amount.unit, ranges)
        if len(places) != 1:
            continue
        piece = own[places[0]]
        together = " ".join(one.text for one, held in zip(own, ranges, strict=True) if held)
        explained = set(amount.places) | title_places(said, f"{piece.heading} {together}")
        for match in WH.finditer(said.plain):
            explained.update(range(*match.span()))
        left = leftovers(said, frozenset(explained) | title_places(said, sheet.title))
        n_left, n_all = len(left), n_content(said)
        n_known = n_all - len(leftovers(said, frozenset(explained)))
        if any(one.is_name for one in left) or n_left > _MOST_LEFT * n_all or n_known < _LEAST_KNOWN:
            continue
        start = sheet.text.find(piece.text)
        if start >= 0:
            score = n_known / max(1, n_all)
            yield Clause(sheet, piece.text, piece.heading, start, start + len(piece.text), score)


def clause_answer(found: Clause, chinese: bool) -> str:
    """The rule as a sentence, with the heading above it where that says what it is about."""
    bare = re.sub(r"^[\d.、\s一二三四五六七八九十]+(?=\D)", "", found.heading).strip()
    lead = bare if bare and plain(bare) not in plain(found.text) else ""
    text = found.text.rstrip("；;，, ")
    text = text if text.endswith(("。", ".", "!", "！")) else text + ("。" if chinese else ".")
    return f"{lead}：{text}" if lead and chinese else f"{lead}: {text}" if lead else text

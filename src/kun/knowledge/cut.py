"""Cutting a text into passages: along its structure, each within a budget of tokens, nothing lost.

The text is tokenized once; where the tokens begin then tells how many any stretch of it has. Blocks (see
`blocks.py`) that fit are packed together under one heading; one that does not fit is cut at its sentences, a
sentence at its commas, and an endless word wherever the budget ends.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from kun.knowledge.blocks import Block, blocks
from kun.knowledge.rows import Span, TextKind
from kun.text.sentences import sentences

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUDGET = 256
_ROWS = 48
"""Tokens of rows that are packed together: a row is looked for by itself, and drowns among many."""
_MANY_ROWS = 20_000
"""Rows of which no more than the budget asks for are kept apart: a million passages help nobody."""
_SLACK = 8  # tokens that a passage may have more by itself than it has in its place
_WINDOW = 1_000_000  # characters tokenized and cut at a time, which bounds the memory
_PIECE = 16_384  # characters given to the tokenizer at a time
_CHARACTERS_PER_TOKEN = 12  # a word too long for the vocabulary is one unknown token, however long
_SMALL_CODE = 64  # tokens of a function that is packed together with its neighbours
_BREAKS = "\n。！？；;!?.…，,、：: \t　)）]】」』”"


def cut_passages(
    text: str,
    tokenizer: "Tokenizer",
    *,
    kind: TextKind = "text",
    pages: Sequence[int] = (),
    budget: int = BUDGET,
) -> list[Span]:
    """The passages of `text`, in order and without overlap: every character but white space is in one of them.

    Each has at most `budget` tokens of `tokenizer`, special ones not counted. `pages` are the places where
    pages begin; no passage crosses one. `Span.heading` is the path of headings, joined by " > ".
    """
    budget = max(budget, 2)
    spans: list[Span] = []
    limit = max(1, budget - _SLACK)
    packed = min(limit, _ROWS) if kind == "rows" and text.count("\n") <= _MANY_ROWS else limit
    for window in _windows(blocks(text, kind, pages)):
        ruler = _Ruler(text, window[0].start, window[-1].end, tokenizer, limit)
        for section in _sections(window):
            spans += _pack(section, ruler, packed)
        spans = _join_small(spans, ruler) if kind == "code" else spans
    return [part for span in spans for part in _within(text, span, tokenizer, budget)]


class _Ruler:
    """How many tokens any stretch of a window of the text has."""

    def __init__(self, text: str, start: int, end: int, tokenizer: "Tokenizer", limit: int) -> None:
        self.text, self.limit, self.first = text, limit, start
        edges = _edges(text, start, end)
        pieces = [text[a:b] for a, b in pairwise(edges)]
        encodings = tokenizer.encode_batch(pieces, add_special_tokens=False)
        begins = [
            np.array([begin for begin, _ in encoding.offsets], dtype=np.int64) + edge
            for edge, encoding in zip(edges, encodings, strict=False)
        ]
        places = np.sort(np.concatenate(begins)) if begins else np.zeros(0, dtype=np.int64)
        self._places: list[int] = places.tolist()

    def count(self, start: int, end: int) -> int:
        """Tokens that begin in `[start, end)`; more where they are too few to be true for so many characters."""
        tokens = bisect_left(self._places, end) - bisect_left(self._places, start)
        return max(tokens, (end - start) // _CHARACTERS_PER_TOKEN)

    def fits(self, start: int, end: int) -> bool:
        return self.count(start, end) <= self.limit

    def reach(self, start: int, end: int) -> int:
        """The farthest place up to `end` that the budget reaches from `start`; one character at least."""
        place = bisect_left(self._places, start) + self.limit
        farthest = self._places[place] if place < len(self._places) else end
        return max(start + 1, min(end, farthest, start + self.limit * _CHARACTERS_PER_TOKEN))


def _edges(text: str, start: int, end: int) -> list[int]:
    """Where to part a window for the tokenizer: at the ends of lines, or of words, some `_PIECE` apart."""
    edges = [start]
    while end - edges[-1] > _PIECE:
        low, high = edges[-1] + _PIECE // 2, edges[-1] + _PIECE
        place = max(
            text.rfind("\n", low, high), text.rfind(" ", low, high) if "\n" not in text[low:high] else -1
        )
        edges.append(place + 1 if place > low else high)
    return [*edges, end]


def _windows(all_blocks: Iterator[Block]) -> Iterator[list[Block]]:
    """Blocks, some `_WINDOW` characters at a time."""
    window: list[Block] = []
    for block in all_blocks:
        for part in _bounded(block):
            window.append(part)
            if part.end - window[0].start >= _WINDOW:
                yield window
                window = []
    if window:
        yield window


def _bounded(block: Block) -> Iterator[Block]:
    for start in range(block.start, block.end, _WINDOW):
        yield replace(block, start=start, end=min(block.end, start + _WINDOW))


def _sections(window: list[Block]) -> Iterator[list[Block]]:
    """Blocks under one heading on one page. A heading with nothing below it goes with what follows."""
    section: list[Block] = []
    for block in window:
        if section and _parts(section, block):
            yield section
            section = []
        section.append(block)
    if section:
        yield section


def _parts(section: list[Block], block: Block) -> bool:
    last = section[-1]
    if block.page != last.page:
        return True
    if last.is_heading:
        return False
    return block.is_heading or block.heading != last.heading


def _pack(section: list[Block], ruler: _Ruler, limit: int) -> Iterator[Span]:
    """Passages of about equal length, at most `limit` tokens where single blocks allow, from a section's blocks."""
    atoms = [atom for block in section for atom in _atoms(block.start, block.end, ruler)]
    total = ruler.count(atoms[0][0], atoms[-1][1])
    aim = total / -(-total // limit) if total else 0
    start, end = atoms[0]
    heading, page = section[-1].heading, section[-1].page
    for atom_start, atom_end in atoms[1:]:
        if ruler.count(start, atom_end) > limit or ruler.count(start, end) >= aim:
            yield from _trimmed(ruler.text, start, end, heading, page)
            start = atom_start
        end = atom_end
    yield from _trimmed(ruler.text, start, end, heading, page)


def _trimmed(text: str, start: int, end: int, heading: str, page: int) -> Iterator[Span]:
    """The span without white space around it; none where nothing is left."""
    shown = text[start:end]
    start, end = end - len(shown.lstrip()), start + len(shown.rstrip())
    if start < end:
        yield Span(start, end, heading, page)


def _atoms(start: int, end: int, ruler: _Ruler) -> Iterator[tuple[int, int]]:
    """Stretches that fit: the block itself, its sentences, or parts of a sentence that is too long."""
    if ruler.fits(start, end):
        yield start, end
        return
    for first, last in sentences(ruler.text[start:end]):
        if ruler.fits(start + first, start + last):
            yield start + first, start + last
        else:
            yield from _parts_of(start + first, start + last, ruler)


def _parts_of(start: int, end: int, ruler: _Ruler) -> Iterator[tuple[int, int]]:
    """What the budget holds, back to the last line end, comma or space in the farther half of it."""
    while start < end:
        reach = ruler.reach(start, end)
        if reach < end:
            window = ruler.text[start:reach]
            places = (window.rfind(mark, len(window) // 2) + 1 for mark in _BREAKS)
            reach = start + (next((place for place in places if place), 0) or len(window))
        yield start, reach
        start = reach


def _join_small(spans: list[Span], ruler: _Ruler) -> list[Span]:
    """Short functions together, named by all of them."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if (
            last
            and last.start >= ruler.first
            and ruler.fits(last.start, span.end)
            and min(ruler.count(last.start, last.end), ruler.count(span.start, span.end)) < _SMALL_CODE
        ):
            joined[-1] = replace(last, end=span.end, heading=_both(last.heading, span.heading))
        else:
            joined.append(span)
    return joined


def _both(one: str, other: str) -> str:
    names = [*one.split(", "), other] if other and other not in one.split(", ") else one.split(", ")
    return ", ".join(name for name in names if name)[:160]


def _within(text: str, span: Span, tokenizer: "Tokenizer", budget: int) -> Iterator[Span]:
    """The span, halved as long as it has more tokens by itself than it had in its place.

    Only a stretch that was cut inside a word can have so many more; the others need no second look.
    """
    if not _cuts_word(text, span) or _tokens(text, span, tokenizer) <= budget or span.end - span.start < 2:
        yield span
        return
    middle = (span.start + span.end) // 2
    for start, end in ((span.start, middle), (middle, span.end)):
        for half in _trimmed(text, start, end, span.heading, span.page):
            yield from _within(text, half, tokenizer, budget)


def _cuts_word(text: str, span: Span) -> bool:
    before = span.start > 0 and not text[span.start - 1].isspace()
    after = span.end < len(text) and not text[span.end].isspace()
    return before or after


def _tokens(text: str, span: Span, tokenizer: "Tokenizer") -> int:
    return len(tokenizer.encode(text[span.start : span.end], add_special_tokens=False))

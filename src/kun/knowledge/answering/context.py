"""The part of the documents that the model reads: found small, shown large.

Passages that a search found lead to the sections around them: a whole document where it is short, else the largest
section with its heading that has room, else as many blocks around the passage as fit. Of a table too long for that
the rows that share most with the question are shown. Sections of one document stand in its order.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kun.knowledge.answering.policy import Policy
from kun.knowledge.blocks import blocks
from kun.knowledge.orders import asks_about_orders, without_orders
from kun.knowledge.passage import Passage
from kun.knowledge.rows import StoredText

Count = Callable[[str], int]


class Texts(Protocol):
    """The whole texts of documents."""

    def text_of(self, source: str) -> StoredText: ...


@dataclass(frozen=True)
class _Stretch:
    """`[start, end)` of a document that is to be shown, and the found passage that led there."""

    start: int
    end: int
    lead: Passage
    rank: int


def shown(
    question: str, found: Sequence[Passage], texts: Texts, count: Count, policy: Policy
) -> list[Passage]:
    """The sections around `found` passages, the best document's first, within `policy.shown_tokens`.

    Their `text` is what is shown, `[start, end)` their place in the document.
    """
    documents: dict[str, _Document] = {}
    chosen: dict[str, list[_Stretch]] = {}
    left = policy.shown_tokens
    best = max((passage.score for passage in found), default=0.0)
    for rank, passage in enumerate(found):
        here = chosen.get(passage.source, [])
        if any(one.start <= passage.start and passage.end <= one.end for one in here):
            continue
        total = sum(map(len, chosen.values()))
        if total >= policy.shown_passages or (total and passage.score < policy.close * best):
            break
        if passage.source not in documents:
            documents[passage.source] = _Document(texts.text_of(passage.source), count)
        document = documents[passage.source]
        share = policy.next_share if total else policy.first_share
        cap = min(left, int(policy.shown_tokens * share))
        stretch = document.around(passage, cap)
        if stretch is None:
            continue
        start, end = stretch
        kept = [one for one in here if not (start <= one.start and one.end <= end)]
        left += sum(document.tokens(one.start, one.end) for one in here) - sum(
            document.tokens(one.start, one.end) for one in kept
        )
        left -= document.tokens(start, end)
        chosen[passage.source] = [*kept, _Stretch(start, end, passage, rank)]
    return [
        replace(
            one.lead,
            text=shown_text,
            heading=_readable(one.lead.heading, question),
            start=one.start,
            end=one.end,
        )
        for source, stretches in chosen.items()
        for one in _merged(stretches)
        if (shown_text := _readable(documents[source].text, question, one.start, one.end)).strip()
    ]


def _readable(text: str, question: str, start: int = 0, end: int | None = None) -> str:
    """`text[start:end]` without the orders that are hidden in it, unless the question is about them."""
    return text[start:end] if asks_about_orders(question) else without_orders(text, start, end)


def _merged(stretches: list[_Stretch]) -> list[_Stretch]:
    """In the document's order, those that touch or overlap as one."""
    ordered = sorted(stretches, key=lambda one: one.start)
    merged: list[_Stretch] = []
    for one in ordered:
        if merged and one.start <= merged[-1].end:
            last = merged[-1]
            lead = last if last.rank < one.rank else one
            merged[-1] = _Stretch(last.start, max(last.end, one.end), lead.lead, lead.rank)
        else:
            merged.append(one)
    return merged


class _Document:
    """A stored text with its blocks and what they weigh in tokens."""

    def __init__(self, stored: StoredText, count: Count) -> None:
        self.text, self._count = stored.text, count
        self._blocks = list(blocks(stored.text, stored.kind, stored.pages))
        self._starts = [block.start for block in self._blocks]
        self._weights: dict[int, int] = {}

    def tokens(self, start: int, end: int) -> int:
        first, last = self._range(start, end)
        return sum(self._weight(place) for place in range(first, last))

    def around(self, passage: Passage, cap: int) -> tuple[int, int] | None:
        """The largest section around a passage that has at most `cap` tokens; None where not even it has room."""
        first, last = self._range(passage.start, passage.end)
        best = None
        if self._fits(first, last, cap):
            best = self._grown(first, last, cap)
        for low, high in self._sections(first, last):
            if not self._fits(low, high, cap):
                break
            best = low, high
        if best is None:
            return None
        return self._blocks[best[0]].start, self._blocks[best[1] - 1].end

    def _range(self, start: int, end: int) -> tuple[int, int]:
        first = max(0, bisect_right(self._starts, start) - 1)
        return first, max(first + 1, bisect_right(self._starts, max(start, end - 1)))

    def _weight(self, place: int) -> int:
        if place not in self._weights:
            block = self._blocks[place]
            self._weights[place] = self._count(self.text[block.start : block.end])
        return self._weights[place]

    def _fits(self, first: int, last: int, cap: int) -> bool:
        total = 0
        for place in range(first, last):
            total += self._weight(place)
            if total > cap:
                return False
        return True

    def _sections(self, first: int, last: int) -> list[tuple[int, int]]:
        """The sections that hold blocks `first` to `last`, the innermost first, the whole document at the end."""
        path = self._blocks[first].heading.split(" > ")
        found = []
        for depth in range(len(path), 0, -1):
            head = path[:depth]

            def inside(place: int, head: list[str] = head) -> bool:
                return self._blocks[place].heading.split(" > ")[: len(head)] == head

            low, high = first, last
            if not all(inside(place) for place in range(first, last)):
                continue
            while low > 0 and inside(low - 1):
                low -= 1
            while high < len(self._blocks) and inside(high):
                high += 1
            found.append((low, high))
        return [*found, (0, len(self._blocks))]

    def _grown(self, first: int, last: int, cap: int) -> tuple[int, int]:
        """Blocks around a passage: those after it first, for what it begins goes on there."""
        grows = True
        while grows:
            grows = False
            if last < len(self._blocks) and self._fits(first, last + 1, cap):
                last, grows = last + 1, True
            if first > 0 and self._fits(first - 1, last, cap):
                first, grows = first - 1, True
        return first, last

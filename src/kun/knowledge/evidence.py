"""Which sentences of the passages bear on a question: by the words they share with it, and by meaning.

They narrow what a small model reads, they are what its answer is held against, and they are quoted where it fails.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.adding import EncoderLike
from kun.knowledge.commonplaces import CHINESE, ENGLISH
from kun.knowledge.passage import Passage
from kun.text.sentences import sentences
from kun.text.words import STOP_WORDS, words

_SPREADS = 4.0
"""How many standard deviations of cosine weigh as much as all of a question's words."""
_MOST = 64
"""Sentences that are compared by meaning; a page of a long list has no end of them."""
_SHORT = 300
"""Characters of a list item, or of what a bold label leads, that are one piece: "*It is so.* No: it is not." """
_HEADING = re.compile(r"\s*#{1,6}\s")
_ITEM = re.compile(r"\s*(?:[-*•]\s|\d{1,2}[.)、]\s|\*\*)")
_COMPOUND = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)+")
_KNOWN: dict[str, NDArray[np.float32]] = {}
"""Their vectors, by the encoder's identity."""


@dataclass(frozen=True)
class Evidence:
    """A sentence `text[start:end]` of passage number `place` (from 0).

    `words` is the share of the question's words that it has, rare ones weighing more. `meaning` is how near it is:
    its cosine, so that 1 is the question itself and 0 as near as a sentence about anything else.
    """

    place: int
    start: int
    end: int
    text: str
    words: float
    meaning: float


def evidence(question: str, passages: Sequence[Passage], encoder: EncoderLike) -> list[Evidence]:
    """The sentences of `passages`, those that bear most on `question` first; headings stand for those below them."""
    found = [
        (place, start, end, passage.text[start:end].strip())
        for place, passage in enumerate(passages)
        for start, end in _units(passage.text)
    ][:_MOST]
    if not found:
        return []
    texts = [text for *_, text in found]
    shares = _shares(question, [_terms(text, passages[place].heading) for place, _, _, text in found])
    asked = encoder.embed([question], kind="query")[0]
    cosines = encoder.embed(texts, kind="passage") @ asked
    zero = float((_commonplaces(encoder) @ asked).mean())
    meanings = (cosines - zero) / max(1.0 - zero, 1e-6)
    best = max(*(passage.score for passage in passages), 1e-9)
    rank = shares + (cosines - cosines.max()) / (_SPREADS * cosines.std() + 1e-6)
    rank += np.array([passages[place].score / best for place, *_ in found], np.float32)
    weighed = [
        Evidence(place, start, end, text, float(share), float(meaning))
        for (place, start, end, text), share, meaning in zip(found, shares, meanings, strict=True)
    ]
    return [weighed[row] for row in np.argsort(-rank, kind="stable")]


def _units(text: str) -> list[tuple[int, int]]:
    """The spans of the sentences of `text`; those of a short list item are one, headings are none."""
    spans: list[tuple[int, int]] = []
    for start, end in sentences(text):
        line = text[text.rfind("\n", 0, start) + 1 : end]
        if not text[start:end].strip() or _HEADING.match(line):
            continue
        goes_on = bool(spans) and spans[-1][1] == start and "\n" not in text[spans[-1][0] : start]
        if goes_on and _ITEM.match(line) and len(line) <= _SHORT:
            spans[-1] = spans[-1][0], end
            continue
        spans.append((start, end))
    return spans


def _commonplaces(encoder: EncoderLike) -> NDArray[np.float32]:
    """Vectors of sentences that bear on nothing: cosines of some encoders never come near 0."""
    if encoder.identity not in _KNOWN:
        _KNOWN[encoder.identity] = encoder.embed([*ENGLISH, *CHINESE], kind="passage")
    return _KNOWN[encoder.identity]


def _shares(question: str, known: Sequence[set[str]]) -> NDArray[np.float32]:
    """For each set of terms the share of the question's that it has, weighed by how few of the sets have them."""
    wanted = _terms(question)
    holders = Counter(term for some in known for term in some & wanted)
    weight = {term: math.log(1 + len(known) / max(holders[term], 0.5)) for term in wanted}
    total = sum(weight.values())
    return np.array(
        [sum(weight[term] for term in some & wanted) / total if total else 0.0 for some in known], np.float32
    )


def _terms(text: str, heading: str = "") -> set[str]:
    """The words of a text and the headings above it that say something, and its compounds: "GPT-2" is one.

    Compounds only of the last heading: the title of a page may well name GPT-1, GPT-2 and GPT-3.
    """
    plain = {word for word in words(f"{heading}\n{text}") if word not in STOP_WORDS}
    last = heading.rsplit(" > ", 1)[-1]
    return plain | set(_COMPOUND.findall(f"{last}\n{text}".casefold()))


def extract(passage: str, kept: Sequence[Evidence]) -> str:
    """The sentences `kept` of a passage in their order, with an ellipsis where others stood between them."""
    parts: list[str] = []
    end = 0
    for one in sorted(kept, key=lambda one: one.start):
        parts.append(" … " if parts and one.start != end else "")
        parts.append(passage[one.start : one.end])
        end = one.end
    return "".join(parts).strip()

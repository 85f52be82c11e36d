"""Which units of the passages bear on a question: by the words they share with it, and by meaning.

They tell how likely it is that the documents answer at all, they are what a model is pointed to when its first
answer failed, and they are quoted where it fails again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.adding import EncoderLike
from kun.knowledge.answering.terms import shared, terms
from kun.knowledge.answering.units import Unit
from kun.knowledge.commonplaces import CHINESE, ENGLISH
from kun.knowledge.passage import Passage
from kun.knowledge.products import product
from kun.text.language import language_of

_SPREADS = 4.0
"""Standard deviations of cosine that weigh as much as all of a question's words."""
_MOST = 96
"""Units that are compared by meaning; a page of a long list has no end of them."""
_KNOWN: dict[str, NDArray[np.float32]] = {}
"""Vectors of the commonplaces, English ones first, by the encoder's identity."""


@dataclass(frozen=True)
class Evidence:
    """A unit and how much it bears on a question.

    `words` is the share of the question's terms that it has, rare ones weighing more. `meaning` is how near it is:
    its cosine, so that 1 is the question itself and 0 as near as a sentence about anything else.
    """

    unit: Unit
    words: float
    meaning: float


class Meaning:
    """The nearness of texts to the units, by an encoder's vectors; the units are embedded once."""

    def __init__(self, units: Sequence[Unit], encoder: EncoderLike) -> None:
        self._encoder = encoder
        self._vectors = encoder.embed([f"{unit.head} {unit.text}".strip() for unit in units], kind="passage")
        self._is_chinese = np.array([language_of(unit.text) == "zh" for unit in units], np.bool_)
        if encoder.identity not in _KNOWN:
            _KNOWN[encoder.identity] = encoder.embed([*ENGLISH, *CHINESE], kind="passage")

    def near(self, text: str) -> NDArray[np.float32]:
        """For each unit how near `text` is: 1 for the same, 0 for as near as a sentence about anything else."""
        asked = self._encoder.embed([text], kind="query")[0]
        common = product(_KNOWN[self._encoder.identity], asked)
        english, chinese = float(common[: len(ENGLISH)].mean()), float(common[len(ENGLISH) :].mean())
        zero = np.where(self._is_chinese, chinese, english)
        near: NDArray[np.float32] = (
            (product(self._vectors, asked) - zero) / np.maximum(1.0 - zero, 1e-6)
        ).astype(np.float32)
        return near


def weighed(
    question: str, units: Sequence[Unit], passages: Sequence[Passage], meaning: Meaning
) -> list[Evidence]:
    """The units, those that bear most on `question` first."""
    if not units:
        return []
    shares = np.array(shared(terms(question), [unit.known for unit in units]), np.float32)
    near = meaning.near(question)
    best = max(*(passage.score for passage in passages), 1e-9)
    rank = shares + (near - near.max()) / (_SPREADS * near.std() + 1e-6)
    rank += np.array([passages[unit.place].score / best for unit in units], np.float32)
    order = np.argsort(-rank, kind="stable")
    return [Evidence(units[row], float(shares[row]), float(near[row])) for row in order]


def limited(units: Sequence[Unit]) -> list[Unit]:
    """As many units as are compared by meaning."""
    return list(units[:_MOST])

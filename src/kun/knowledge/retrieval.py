"""Finding passages: by meaning, by words, and word for word, in one score.

Ranks throw away how much better the first was than the second, so scores are fused, not ranks: each kind is put
on a scale of its own best, and added. The best passages are then looked at token by token, which is too dear for
all. What stands word for word goes before everything else.

Texts in the question's language come nearer to it whatever they say, and share words with it by chance: nearness is
measured from commonplaces of each text's own language, and words count for no more than the share of the question
that some passage has.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.commonplaces import Commonplaces
from kun.knowledge.exact import Held
from kun.knowledge.index import Hit, Query
from kun.knowledge.interaction import max_sims
from kun.knowledge.lexical import search_words
from kun.knowledge.passage import Reasons
from kun.knowledge.rows import TokenReader
from kun.knowledge.segment import Segment

Floats = NDArray[np.float32]

_SPREAD = 0.12
"""How far below the best a cosine is nothing: cosines of text encoders lie close together."""
_TOKEN_SPREAD = 0.06
"""The same for the mean of many tokens' nearest, which lie closer."""
_WORDS = 1.0
_MEANING = 1.0
_COVERAGE = 0.5
_MET = 0.5
"""The share of a question's words from which the passage that has most of them gets the full score for words."""
_ROWS = 512
"""Passages whose vectors are multiplied at a time."""
_CANDIDATES = 32
"""Passages that are looked at token by token."""
_OF_EACH = 8
"""So many of each language are among them, by meaning alone."""
_COMMON = 32
"""Passages of a language that weigh as much as its commonplaces in telling how near anything comes."""
_USUAL = 0.03
"""The most that a passage may be nearer than a commonplace to a question about nothing before that counts against it:
two standard deviations of XQuAD's paragraphs, which rows of names and numbers leave far behind."""
_SURROUNDING = 0.6
"""The part that is left of the score of a bibliography, a table of contents or a menu."""


@dataclass(frozen=True)
class Rows:
    """The passages of several segments, one after the other, as they are at one moment."""

    segments: Sequence[Segment]
    firsts: Sequence[int]
    is_open: NDArray[np.bool_]
    is_chinese: NDArray[np.bool_]
    is_apparatus: NDArray[np.bool_]

    @classmethod
    def of(cls, segments: Sequence[Segment], gone: Collection[str]) -> "Rows":
        """All passages but those of documents that are `gone`."""
        firsts = np.cumsum([0, *map(len, segments)]).tolist()
        none = np.zeros(0, np.bool_)
        return cls(
            segments,
            firsts,
            np.concatenate([none, *(_is_of(part, lambda name: name not in gone) for part in segments)]),
            np.concatenate([none, *(part.is_chinese for part in segments)]),
            np.concatenate([none, *(part.is_apparatus for part in segments)]),
        )

    def __len__(self) -> int:
        return len(self.is_open)

    def within(self, documents: Collection[str]) -> NDArray[np.bool_]:
        """Which passages are of these documents."""
        return np.concatenate([_is_of(part, lambda name: name in documents) for part in self.segments])

    def passage(self, row: int) -> tuple[str, int]:
        """The document of a row, and the passage's place in it."""
        part = int(np.searchsorted(self.firsts, row, side="right")) - 1
        return self.segments[part].passage_of(row - self.firsts[part])

    def search(
        self, query: Query, k: int, tokens: TokenReader | None, documents: Collection[str] | None = None
    ) -> list[Hit]:
        """The `k` best passages for `query`, of these documents or of all; best first.

        Scores lie between 2 and 3 for passages that hold the query word for word, between 1 and 2 for those that hold
        it within longer words, and between 0 and 1 for all others; of those that hold it, also by how much of it they
        hold.
        """
        is_open = self.is_open if documents is None else self.is_open & self.within(documents)
        if not is_open.any():
            return []
        cosine, near, groups = self._nearness(query, is_open)
        found = search_words([part.words for part in self.segments], query.text)
        held = self._held(query.text)
        weight = np.where(self.is_apparatus, np.float32(_SURROUNDING), np.float32(1))
        scores: Floats = weight * fused(
            near, np.where(is_open, found.scores, 0), np.where(is_open, found.coverage, 0)
        )
        scores[~is_open] = -np.inf
        nearest = np.zeros_like(scores)
        if tokens is not None and query.states is not None and len(query.states):
            chosen = [_best(np.where(group, near, -np.inf), _OF_EACH) for group in groups]
            best = sorted({*_best(scores, _CANDIDATES), *(row for rows in chosen for row in rows)})
            packed = tokens([self.passage(row) for row in best])
            nearest[best], above = self._looked_at(best, packed, query.states, query.common, bool(groups))
            closeness = np.where(nearest[best] > 0, _closeness(above, _TOKEN_SPREAD), scores[best])
            scores /= 2
            scores[best] += weight[best] * closeness / 2
        within = np.where(held.letters > 0, 1 + (scores + held.letters) / 2, scores)
        scores = np.where(held.words > 0, 2 + (scores + held.words) / 2, within).astype(np.float32)

        def reasons(row: int) -> Reasons:
            exact = bool(held.words[row])
            return Reasons(
                exact,
                float(found.coverage[row]),
                float(cosine[row]),
                within=bool(held.letters[row]) and not exact,
                tokens=float(nearest[row]),
            )

        return [Hit(*self.passage(row), float(scores[row]), reasons(row)) for row in _best(scores, k)]

    def _nearness(
        self, query: Query, is_open: NDArray[np.bool_]
    ) -> tuple[Floats, Floats, list[NDArray[np.bool_]]]:
        """The cosines [n]; how near passages are above what is usual, -inf for those left out; and the languages.

        A language is the passages of it that are `is_open`; there are none where all are of one.
        """
        common = query.common
        wanted = np.stack([query.vector, common.question if common else 0 * query.vector], axis=1)
        products = np.concatenate([_products(part.vectors, wanted) for part in self.segments])
        cosine = products[:, 0]
        near = cosine - products[:, 1]
        groups = [is_open & (self.is_chinese == chinese) for chinese in (False, True)] if common else []
        groups = groups if all(group.any() for group in groups) else []
        for group, level in zip(groups, common.levels if common else (), strict=False):
            near[group] -= (near[group].sum() + _COMMON * level.meaning) / (np.count_nonzero(group) + _COMMON)
        near[~is_open] = -np.inf
        return cosine, near, groups

    def _held(self, query: str) -> Held:
        held = [part.exact.search(query) for part in self.segments]
        return Held(
            np.concatenate([one.words for one in held]), np.concatenate([one.letters for one in held])
        )

    def _looked_at(
        self,
        best: Sequence[int],
        packed: Sequence[bytes],
        states: Floats,
        common: Commonplaces | None,
        apart: bool,
    ) -> tuple[Floats, Floats]:
        """The nearness of the tokens of the `best` rows, and by how much it is above the usual, both [b].

        `apart`: there are passages in both languages, which are not held against each other.
        """
        if common is None:
            found = max_sims([states], packed)[0]
            return found, found
        found, to_asked = max_sims([states, common.asked], packed)
        first, second = common.levels
        chinese = self.is_chinese[best]
        above = found - np.maximum(0, to_asked - np.where(chinese, second.asked, first.asked) - _USUAL)
        if apart:
            above -= np.where(chinese, second.tokens, first.tokens)
        return found, above.astype(np.float32)


def _products(vectors: Floats, wanted: Floats) -> Floats:
    """`vectors @ wanted`, some rows at a time: in one piece BLAS copies them first, and starts threads."""
    products = np.empty((len(vectors), wanted.shape[1]), np.float32)
    for start in range(0, len(vectors), _ROWS):
        np.matmul(vectors[start : start + _ROWS], wanted, out=products[start : start + _ROWS])
    return products


def _is_of(part: Segment, holds: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Which rows of a segment are of documents for which `holds`."""
    return np.array([holds(name) for name in part.documents], np.bool_)[part.document]


def fused(cosine: Floats, words: Floats, coverage: Floats) -> Floats:
    """One score in [0, 1] for each passage, from its nearness, its BM25 score and its coverage, all [n]."""
    if not len(cosine):
        return cosine
    best = words.max()
    lexical = words / best * min(1.0, coverage.max() / _MET) if best > 0 else words
    total = _MEANING * _closeness(cosine, _SPREAD) + _WORDS * lexical + _COVERAGE * coverage
    return (total / (_MEANING + _WORDS + _COVERAGE)).astype(np.float32)


def _closeness(cosine: Floats, spread: float) -> Floats:
    """1 for the nearest, falling to 0 at `spread` below it."""
    near: Floats = np.maximum(0.0, 1.0 - (cosine.max() - cosine) / spread).astype(np.float32)
    return near


def _best(scores: Floats, k: int) -> list[int]:
    """The rows of the `k` largest scores, best first, the earlier row first among equals."""
    count = min(k, len(scores))
    if count < len(scores):
        edge = np.partition(scores, len(scores) - count)[len(scores) - count]
        rows = np.flatnonzero(scores >= edge)
    else:
        rows = np.arange(len(scores))
    ordered = rows[np.argsort(-scores[rows], kind="stable")][:count]
    return [int(row) for row in ordered if np.isfinite(scores[row])]

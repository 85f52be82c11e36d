"""Finding passages: by meaning, by words, and word for word, in one score.

Ranks throw away how much better the first was than the second, so scores are fused, not ranks: each kind is put
on a scale of its own best, and added. The best passages are then looked at token by token, which is too dear for
all. What stands word for word goes before everything else.

Texts in the question's language come nearer to it whatever they say, and share words with it by chance: nearness is
measured from commonplaces of each text's own language, and words count for no more than the share of the question
that some passage has.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.commonplaces import Commonplaces
from kun.knowledge.exact import ExactText
from kun.knowledge.interaction import max_sims
from kun.knowledge.lexical import BM25Index
from kun.knowledge.passage import Reasons
from kun.knowledge.rows import Table
from kun.text.language import language_of

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
_CANDIDATES = 32
"""Passages that are looked at token by token."""
_OF_EACH = 8
"""So many of each language are among them, by meaning alone."""
_COMMON = 32
"""Passages of a language that weigh as much as its commonplaces in telling how near anything comes."""
_USUAL = 0.03
"""How much nearer than a commonplace a passage may be to a question about nothing before that counts against it:
two standard deviations of XQuAD's paragraphs, which rows of names and numbers leave far behind."""
_LOOKED_AT = 600
"""Characters of a passage that tell its language."""


class Index:
    """The passages of a knowledge base, ready to be searched. Nothing changes after `build`."""

    def __init__(self, table: Table, lexicon: BM25Index, exact: ExactText) -> None:
        self._table, self._lexicon, self._exact = table, lexicon, exact
        chinese = [language_of(text[:_LOOKED_AT]) == "zh" for text in table.texts]
        self._is_chinese = np.array(chinese, dtype=np.bool_)
        self.is_bilingual = any(chinese) and not all(chinese)

    @classmethod
    def build(cls, table: Table, documents: dict[str, str]) -> "Index":
        """An index of `table`, whose passages are cut from `documents` (the whole texts, by name)."""
        texts = [
            f"{source} {heading} {text}"
            for source, heading, text in zip(table.sources, table.headings, table.texts, strict=True)
        ]
        return cls(table, BM25Index(texts), ExactText(documents, table.sources, table.starts, table.ends))

    def search(
        self,
        query: str,
        vector: Floats,
        k: int,
        allowed: Collection[str] | None = None,
        states: Floats | None = None,
        common: Commonplaces | None = None,
    ) -> list[tuple[int, float, Reasons]]:
        """The `k` best rows for `query`, its unit `vector` [d] and its tokens' `states` [t, d]: score and reasons.

        `common` is what is no news of the query; `allowed` are the names of the documents to look in, None means all.
        Scores lie between 2 and 3 for passages that hold the query word for word, between 1 and 2 for those that hold
        it within longer words, and between 0 and 1 for all others; of those that hold it, also by how much of it they
        hold.
        """
        cosine = self._table.vectors @ vector
        found = self._lexicon.search(query)
        held = self._exact.search(query)
        groups: list[NDArray[np.bool_]] = []
        near = cosine.copy()
        if common:
            near -= self._table.vectors @ common.question
            groups = [self._is_chinese == chinese for chinese in (False, True)] if self.is_bilingual else []
        for group, level in zip(groups, common.levels if common else (), strict=False):
            count = np.count_nonzero(group)
            near[group] -= (near[group].sum() + _COMMON * level.meaning) / (count + _COMMON)
        scores = fused(near, found.scores, found.coverage)
        if allowed is not None:
            outside = [row for row, source in enumerate(self._table.sources) if source not in allowed]
            scores[outside] = -np.inf
        nearest = np.zeros_like(scores)
        if states is not None and len(states):
            is_open = np.isfinite(scores)
            chosen = [_best(np.where(group & is_open, near, -np.inf), _OF_EACH) for group in groups]
            best = sorted({*_best(scores, _CANDIDATES), *(row for rows in chosen for row in rows)})
            scores = self._looked_at(scores, best, states, nearest, common)
        within = np.where(held.letters > 0, 1 + (scores + held.letters) / 2, scores)
        scores = np.where(held.words > 0, 2 + (scores + held.words) / 2, within)

        def reasons(row: int) -> Reasons:
            exact = bool(held.words[row])
            return Reasons(
                exact,
                float(found.coverage[row]),
                float(cosine[row]),
                within=bool(held.letters[row]) and not exact,
                tokens=float(nearest[row]),
            )

        return [(row, float(scores[row]), reasons(row)) for row in _best(scores, k)]

    def _looked_at(
        self,
        scores: Floats,
        best: Sequence[int],
        states: Floats,
        nearest: Floats,
        common: Commonplaces | None,
    ) -> Floats:
        """Half of each score, and for the `best` of them as much again by how near their tokens come.

        So the best stay before all others. One whose tokens were not kept has its score for both halves. The
        cosines of tokens are put into `nearest` [n].
        """
        if not best:
            return scores
        asked = common.asked if common else states[:0]
        found, to_asked = max_sims([states, asked], self._table.tokens(best))
        nearest[best] = found
        above = found.copy()
        if common:
            first, second = common.levels
            chinese = self._is_chinese[best]
            if self.is_bilingual:
                above -= np.where(chinese, second.tokens, first.tokens)
            above -= np.maximum(0, to_asked - np.where(chinese, second.asked, first.asked) - _USUAL)
        halves = scores / 2
        halves[best] += np.where(found > 0, _nearness(above, _TOKEN_SPREAD), scores[best]) / 2
        return halves


def fused(cosine: Floats, words: Floats, coverage: Floats) -> Floats:
    """One score in [0, 1] for each passage, from its nearness, its BM25 score and its coverage, all [n]."""
    if not len(cosine):
        return cosine
    best = words.max()
    lexical = words / best * min(1.0, coverage.max() / _MET) if best > 0 else words
    total = _MEANING * _nearness(cosine, _SPREAD) + _WORDS * lexical + _COVERAGE * coverage
    return (total / (_MEANING + _WORDS + _COVERAGE)).astype(np.float32)


def _nearness(cosine: Floats, spread: float) -> Floats:
    """1 for the best, falling to 0 at `spread` below it."""
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

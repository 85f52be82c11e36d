"""A second look at the best passages: a model that reads question and passage together puts them in order.

Any sequence classifier does it (Nogueira and Cho, arXiv:1901.04085): one that gives a number by the number, one with
labels by the probability of the last, which is where models of relevance keep "relevant". None is used by default.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kun.errors import BadInput, ContextOverflow
from kun.knowledge.passage import Passage

if TYPE_CHECKING:
    from kun.models.classifier import Classifier

LOOKED_AT = 24
"""Passages that are put in order."""
_LENGTHS = (4_000, 1_000, 250)
"""Characters of a passage that are read, fewer where they don't fit."""


@runtime_checkable
class Reranker(Protocol):
    """A model that puts passages in order."""

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """A number for each text, larger for one that answers the query better."""


class ClassifierReranker:
    """A sequence classifier of pairs as a reranker."""

    def __init__(self, classifier: "Classifier") -> None:
        self._classifier = classifier

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """See `Reranker.scores`. Raises `ContextOverflow` for a query that leaves no room for a text."""
        for length in _LENGTHS:
            try:
                judged = self._classifier.classify([(query, text[:length]) for text in texts])
                break
            except ContextOverflow:
                if length == _LENGTHS[-1]:
                    raise
        return [list(one.probabilities.values())[-1] if one.probabilities else one.score for one in judged]


def opened_reranker(model: "Reranker | Classifier | str | Path") -> Reranker:
    """A reranker as it is, a classifier as one, or that of a name or a folder. Raises `BadInput` for anything else."""
    from kun.models.classifier import Classifier

    if isinstance(model, str | Path):
        model_or_other = Classifier.open(model)
        if not isinstance(model_or_other, Classifier):
            raise BadInput(
                f"{model} is no sequence classifier: name one, such as a cross-encoder of relevance."
            )
        return ClassifierReranker(model_or_other)
    if isinstance(model, Classifier):
        return ClassifierReranker(model)
    if isinstance(model, Reranker):
        return model
    raise BadInput(
        f"{type(model).__name__} cannot rerank: give a sequence classifier, its name, or a Reranker."
    )


def reranked(query: str, found: Sequence[Passage], reranker: Reranker, k: int) -> list[Passage]:
    """The `k` best of `found` as `reranker` orders them. What holds the query word for word stays before the others.

    The scores are those that stood at these places, so that they mean what they did.
    """
    first = [p for p in found if p.reasons and (p.reasons.exact or p.reasons.within)]
    rest = [p for p in found if p not in first]
    if rest:
        scores = reranker.scores(query, [p.text for p in rest])
        order = sorted(range(len(rest)), key=lambda place: -scores[place])
        rest = [replace(rest[place], score=before.score) for place, before in zip(order, rest, strict=True)]
    return [*first, *rest][:k]

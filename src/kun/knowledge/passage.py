"""A stretch of a document that a search found, and the reasons."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reasons:
    """The reasons for which a passage was found.

    `exact`: the query stands in it word for word; `within`: it does, but as a part of longer words. `words` is the
    share of the query's words that it has, `meaning` its cosine, and `tokens` the mean over the query's tokens of
    the nearest one's cosine, 0 where they were not compared.
    """

    exact: bool
    words: float
    meaning: float
    within: bool = False
    tokens: float = 0.0


@dataclass(frozen=True)
class Passage:
    """A stretch of a document; `page` counts from 1 where the document has pages. `reasons` say why it was found.

    `[start, end)` is its place in the document's extracted text, `KnowledgeBase.document(source)`.
    """

    text: str
    source: str
    heading: str
    page: int | None
    score: float
    id: str
    reasons: Reasons | None = None
    start: int = 0
    end: int = 0

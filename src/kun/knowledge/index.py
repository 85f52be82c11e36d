"""The interface of whatever searches a knowledge base, with its inputs and results.

The store keeps documents, passages and vectors; an index finds among them, and can always be made again from it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.commonplaces import Commonplaces
from kun.knowledge.passage import Reasons
from kun.knowledge.rows import Span, StoredText, Table

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Query:
    """A query's text, its unit vector [d], its tokens' states [t, d], and what is no news of it."""

    text: str
    vector: Floats
    states: Floats | None = None
    common: Commonplaces | None = None


@dataclass(frozen=True)
class Hit:
    """The passage number `place` of the document of identity `document`, its score and the reasons."""

    document: str
    place: int
    score: float
    reasons: Reasons


class Index(Protocol):
    """Passages that can be searched. Documents go by their identities, which a changed document changes."""

    @property
    def documents(self) -> Collection[str]:
        """The identities of the documents in it."""

    def add(self, passages: Table, documents: Sequence[StoredText]) -> None:
        """Take in documents with all of their `passages`."""

    def remove(self, documents: Collection[str]) -> None:
        """Leave out documents from now on."""

    def search(self, query: Query, k: int, documents: Collection[str] | None = None) -> list[Hit]:
        """The `k` best passages, best first, of these documents or of all."""

    def passage(self, document: str, place: int) -> tuple[str, Span] | None:
        """A passage's text and place, None where there is none."""

    def persist(self) -> None:
        """Keep what was added and removed, so that opening it again takes no longer than reading."""

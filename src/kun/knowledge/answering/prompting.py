"""The messages that a model reads: instructions, the numbered documents, the question."""

from collections.abc import Sequence
from dataclasses import dataclass

from kun.knowledge.answering.phrases import Phrases
from kun.knowledge.answering.understanding import ChatTurn
from kun.knowledge.answering.units import as_records
from kun.knowledge.passage import Passage


@dataclass(frozen=True)
class Reading:
    """The text that comes before any request. Every request about it begins alike, so that the engine reads it once."""

    system: str
    text: str

    def asking(self, request: str) -> list[ChatTurn]:
        """The messages that ask for `request` about what was read."""
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": f"{self.text}\n{request}"},
        ]


def reading(question: str, passages: Sequence[Passage], told: Phrases) -> Reading:
    """The numbered passages, then the question."""
    blocks = [
        told.document.format(number=number, title=title(passage), text=as_records(passage.text).strip())
        for number, passage in enumerate(passages, 1)
    ]
    return Reading(told.system, "\n\n".join([*blocks, told.question.format(question=question)]))


def title(passage: Passage) -> str:
    """Where a passage comes from, in one line."""
    page = f"p. {passage.page}" if passage.page else ""
    return " · ".join(part for part in (passage.source, passage.heading, page) if part)

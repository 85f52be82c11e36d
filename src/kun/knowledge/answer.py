"""Answers from documents: the names that others use of `kun.knowledge.answering`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from kun.knowledge.answering.answerer import Answerer, SamplingChoice, Searchable
from kun.knowledge.answering.stream import Answer, AnswerStream
from kun.knowledge.answering.understanding import ChatTurn

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel

__all__ = ["Answer", "AnswerStream", "Answerer", "AskOptions", "SamplingChoice", "ask_stream"]


class AskOptions(SamplingChoice, total=False):
    """The options of asking: the conversation so far, how many passages are found, in which documents, the model's."""

    history: Sequence[ChatTurn]
    k: int | None
    sources: Sequence[str] | None


def ask_stream(
    base: Searchable, question: str, lm: "LanguageModel", **options: Unpack[AskOptions]
) -> AnswerStream:
    """Answer `question` from `base`; see `Answerer.stream`."""
    return Answerer(base, lm).stream(question, **options)

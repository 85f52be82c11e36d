"""Knowledge bases: documents, cut into passages, embedded, stored; found again, and answered from with citations."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kun.knowledge.answer import Answer, AnswerStream
    from kun.knowledge.base import KnowledgeBase, Passage, Report, Source, delete, knowledge_bases
    from kun.knowledge.encoder import Encoder
    from kun.knowledge.retrieval import Reasons

_HOMES = {
    "Answer": "answer",
    "AnswerStream": "answer",
    "Encoder": "encoder",
    "KnowledgeBase": "base",
    "Passage": "base",
    "Reasons": "retrieval",
    "Report": "base",
    "Source": "base",
    "delete": "base",
    "knowledge_bases": "base",
}

__all__ = [
    "Answer",
    "AnswerStream",
    "Encoder",
    "KnowledgeBase",
    "Passage",
    "Reasons",
    "Report",
    "Source",
    "delete",
    "knowledge_bases",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

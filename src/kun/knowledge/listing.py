"""The knowledge bases under KUN_HOME, as rows of a table."""

from typing import TypedDict

from kun.errors import KunError
from kun.knowledge.base import KnowledgeBase, knowledge_bases
from kun.settings import settings


class KnowledgeBaseRow(TypedDict):
    """One knowledge base; of one that cannot be read `fault` says why, and what is not known is None."""

    name: str
    path: str
    encoder: str | None
    documents: int | None
    passages: int | None
    fault: str | None


def rows() -> list[KnowledgeBaseRow]:
    """Every knowledge base, by name."""
    return [_row(name) for name in knowledge_bases()]


def _row(name: str) -> KnowledgeBaseRow:
    row = KnowledgeBaseRow(
        name=name,
        path=str(settings().knowledge / name),
        encoder=None,
        documents=None,
        passages=None,
        fault=None,
    )
    try:
        base = KnowledgeBase.open(name, create=False)
        row["encoder"] = base.encoder_name
        sources = base.sources()
        row.update({"documents": len(sources), "passages": sum(source.passages for source in sources)})
    except KunError as error:
        row["fault"] = str(error)
    return row

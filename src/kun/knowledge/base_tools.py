"""Knowledge bases as tools of a chat: a search in one, and a question to its tables, which Kun calculates."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from kun.errors import BadInput
from kun.knowledge.computation.sheets import Computable, Sheet
from kun.knowledge.computing import compute, sheets_for
from kun.knowledge.orders import without_orders
from kun.knowledge.passage import Passage
from kun.tools.tool import Tool

_SECONDS = 60.0
"""Time of a call: a first one loads the encoder."""
_PASSAGES = 5
_LONGEST_PASSAGE = 1_500
_TABLES = 6
_COLUMNS = 12
_LONGEST_LABEL = 60
_LONGEST_ROW = 240


class BaseTools:
    """Tools over the bases that are there: chosen as `base:NAME`, and each opened when it is first asked."""

    prefix = "base"

    def __init__(self, names: Callable[[], Sequence[str]], opened: Callable[[str], Computable]) -> None:
        self._names, self._opened = names, opened

    @classmethod
    def here(cls) -> "BaseTools":
        """Over the bases under KUN_HOME; each that was opened stays so."""
        from kun.knowledge.base import KnowledgeBase, knowledge_bases

        return cls(knowledge_bases, cache(partial(KnowledgeBase.open, create=False)))

    def names(self) -> Sequence[str]:
        return self._names()

    def tools(self, names: Sequence[str]) -> list[Tool]:
        """One search and one question for all bases named. Their results are text of strangers: documents."""
        shown = ", ".join(f"“{name}”" for name in names)
        return [
            Tool(
                "search",
                f"Search the documents of the knowledge base {shown}; gives the passages that fit best.",
                _schema(names, "query", "what to look for, in the person's own words"),
                lambda given: self._search(_base_of(given, names), _text(given, "query")),
                seconds=_SECONDS,
            ),
            Tool(
                "tables",
                f"Calculate over the tables in the documents of the knowledge base {shown}: a sum, count, mean, "
                "largest or smallest, with conditions.",
                _schema(names, "question", "what to calculate, in the person's own words"),
                lambda given: self._calculate(_base_of(given, names), _text(given, "question")),
                seconds=_SECONDS,
            ),
        ]

    def _search(self, name: str, query: str) -> str:
        found = self._opened(name).search(query, _PASSAGES)
        texts = [(passage, without_orders(passage.text).strip()) for passage in found]
        kept = [(passage, text) for passage, text in texts if text]
        if not kept:
            return f"Nothing in the knowledge base {name} fits."
        return "\n\n".join(
            f"[{number}] {_place(passage)}\n{_cut(text, _LONGEST_PASSAGE)}"
            for number, (passage, text) in enumerate(kept, start=1)
        )

    def _calculate(self, name: str, question: str) -> str:
        base = self._opened(name)
        computed = compute(question, base, [])
        if computed is not None:
            steps = [f"Calculation: {computed.calculation}"] if computed.calculation else []
            rows = [
                f"[{number}] {_place(one)}: {_cut(' '.join(one.text.split()), _LONGEST_ROW)}"
                for number, one in enumerate(computed.passages, start=1)
            ]
            return without_orders("\n".join([computed.text, *steps, *rows]))
        # a small model asks here for what it should have searched: it gets what a search finds
        tables = [line for sheet in sheets_for(question, base) for line in _described(sheet)][:_TABLES]
        nearest = without_orders("\n".join(["The tables that come nearest:", *tables])) if tables else ""
        parts = [
            "No calculation fits this question. The passages that fit:",
            self._search(name, question),
            nearest,
        ]
        return "\n\n".join(part for part in parts if part)


def _schema(names: Sequence[str], key: str, about: str) -> Mapping[str, object]:
    """The arguments: a text, and which base where there are several."""
    text = {key: {"type": "string", "description": about}}
    if len(names) == 1:
        return {"type": "object", "properties": text, "required": [key]}
    base = {"base": {"type": "string", "enum": list(names)}}
    return {"type": "object", "properties": base | text, "required": ["base", key]}


def _base_of(given: Mapping[str, object], names: Sequence[str]) -> str:
    name = given.get("base", names[0])
    if name not in names:
        raise BadInput(f"There is no base {str(name)[:100]!r} in this chat; there are {', '.join(names)}.")
    return str(name)


def _text(given: Mapping[str, object], key: str) -> str:
    text = given.get(key)
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f"{key} is missing, or no text.")
    return text


def _place(passage: Passage) -> str:
    page = f"page {passage.page}" if passage.page else ""
    return without_orders(" › ".join(part for part in (passage.source, passage.heading, page) if part))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} …"


def _described(sheet: Sheet) -> list[str]:
    """The tables of a document, each on a line with its columns."""
    lines = []
    for table in sheet.tables:
        labels = [_cut(column.label, _LONGEST_LABEL) for column in table.columns[:_COLUMNS]]
        more = " …" if len(table.columns) > _COLUMNS else ""
        lines.append(f"{sheet.source}: {'; '.join(labels)}{more} ({table.n:,} rows)")
    return lines

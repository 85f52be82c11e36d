"""The rows of a knowledge base's two tables, and what they look like outside of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

TextKind = Literal["text", "markdown", "code", "rows"]


Vectors = NDArray[np.float32]
Packed = bytes
"""A passage's token states, as `interaction.pack` leaves them."""
TokenReader = Callable[[Sequence[tuple[str, int]]], list[bytes]]
"""Gives the packed token states of passages, each a document's identity and a place; b"" where none were kept."""


@dataclass(frozen=True)
class Span:
    """A passage as cut: `[start, end)` into the document's text, the headings above it, its page from 1 or 0."""

    start: int
    end: int
    heading: str = ""
    page: int = 0


@dataclass(frozen=True)
class DocumentInfo:
    """What is known of a stored document without reading its text."""

    id: str
    source: str
    path: str
    digest: str
    bytes: int
    modified_ns: int
    added_at: float


@dataclass(frozen=True)
class StoredText:
    """A document's extracted text, how it is to be cut, and the places where its pages begin."""

    id: str
    source: str
    text: str
    kind: TextKind
    pages: list[int]


@dataclass(frozen=True)
class NewDocument:
    """A document to store. `source` is the name it would like; `fallback` leads it where that is taken.

    `tokens` are those of each passage; there are none where the encoder gives none.
    """

    source: str
    fallback: str
    path: str
    digest: str
    bytes: int
    modified_ns: int
    text: str
    kind: TextKind
    pages: Sequence[int]
    spans: Sequence[Span]
    vectors: Vectors
    tokens: Sequence[Packed] = ()
    id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True)
class Table:
    """Passages, one a row: `vectors` is float32 [n, dimensions], `pages` are from 1 and 0 for none."""

    ids: list[str]
    texts: list[str]
    sources: list[str]
    headings: list[str]
    pages: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    vectors: Vectors

    def __len__(self) -> int:
        return len(self.ids)


def documents_schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("path", pa.string()),
            ("digest", pa.string()),
            ("bytes", pa.int64()),
            ("modified_ns", pa.int64()),
            ("added_at", pa.float64()),
            ("kind", pa.string()),
            ("pages", pa.list_(pa.int64())),
            ("text", pa.large_string()),
        ]
    )


def passages_schema(dimensions: int) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            ("document", pa.string()),
            ("place", pa.int32()),
            ("places", pa.int32()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("heading", pa.string()),
            ("page", pa.int32()),
            ("vector", pa.list_(pa.float32(), dimensions)),
            ("tokens", pa.large_binary()),
        ]
    )


def span_rows(
    document: str, spans: Sequence[Span], vectors: Vectors, tokens: Sequence[bytes], dimensions: int
) -> "pa.Table":
    import pyarrow as pa

    schema = passages_schema(dimensions)
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns = [
        pa.array([document] * len(spans), pa.string()),
        pa.array(np.arange(len(spans), dtype=np.int32)),
        pa.array([len(spans)] * len(spans), pa.int32()),
        pa.array([span.start for span in spans], pa.int64()),
        pa.array([span.end for span in spans], pa.int64()),
        pa.array([span.heading for span in spans], pa.string()),
        pa.array([span.page for span in spans], pa.int32()),
        pa.FixedSizeListArray.from_arrays(flat, dimensions),
        pa.array(tokens or [b""] * len(spans), pa.large_binary()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def passage_rows(documents: Sequence[NewDocument], dimensions: int) -> "pa.Table":
    import pyarrow as pa

    return pa.concat_tables(span_rows(d.id, d.spans, d.vectors, d.tokens, dimensions) for d in documents)


def document_rows(documents: Sequence[NewDocument], names: dict[str, str]) -> "pa.Table":
    import pyarrow as pa

    now = time.time()
    rows = [
        {
            "id": document.id,
            "source": names[document.path],
            "path": document.path,
            "digest": document.digest,
            "bytes": document.bytes,
            "modified_ns": document.modified_ns,
            "added_at": now,
            "kind": document.kind,
            "pages": list(document.pages),
            "text": document.text,
        }
        for document in documents
    ]
    return pa.Table.from_pylist(rows, schema=documents_schema())


def assign_names(new: Sequence[NewDocument], known: dict[str, DocumentInfo]) -> dict[str, str]:
    """path -> name: the one it has, else the one it would like, else led by its folder's name and a number."""
    taken = {info.source for info in known.values()}
    names: dict[str, str] = {}
    for document in new:
        if document.path in known:
            names[document.path] = known[document.path].source
            continue
        name, number = document.source, 1
        while name in taken:
            lead = document.fallback if number == 1 else f"{document.fallback} ({number})"
            name, number = f"{lead}/{document.source}", number + 1
        taken.add(name)
        names[document.path] = name
    return names


def visible(rows: "pa.Table", texts: list[StoredText], dimensions: int) -> Table:
    """The passages that committed documents name, each with its text, by document and place.

    Raises `Incomplete` when a document misses passages.
    """
    order = {text.id: place for place, text in enumerate(texts)}
    columns = {
        name: rows.column(name).to_numpy()
        for name in ("document", "place", "places", "start", "end", "heading", "page")
    }
    which = np.array([order.get(identity, -1) for identity in columns["document"]], dtype=np.int64)
    chosen = np.lexsort((columns["place"], which))
    chosen = chosen[which[chosen] >= 0]
    which, starts, ends = which[chosen], columns["start"][chosen], columns["end"][chosen]
    flat = rows.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if not _is_complete(which, columns["places"][chosen], len(texts)):
        raise Incomplete
    documents = [texts[place] for place in which]
    places = columns["place"][chosen].tolist()
    return Table(
        ids=[f"{document.id}-{place}" for document, place in zip(documents, places, strict=True)],
        texts=[d.text[a:b] for d, a, b in zip(documents, starts.tolist(), ends.tolist(), strict=True)],
        sources=[document.source for document in documents],
        headings=columns["heading"][chosen].tolist(),
        pages=columns["page"][chosen].astype(np.int32),
        starts=starts.astype(np.int64),
        ends=ends.astype(np.int64),
        vectors=flat.reshape(-1, dimensions)[chosen],
    )


class Incomplete(Exception):
    """A document is named, but not all of its passages are there."""


def _is_complete(which: NDArray[np.int64], places: NDArray[np.int32], n_documents: int) -> bool:
    """True if every document has as many rows as each of its rows says; none has no rows at all."""
    counts = np.bincount(which, minlength=n_documents)
    return bool((counts > 0).all() and (counts[which] == places).all())

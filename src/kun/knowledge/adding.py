"""From files to stored passages: what changed is read, cut, embedded across files, and committed in batches."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import DetailedProgress
from kun.errors import EncoderMismatch, HoldsNoText, KunError
from kun.knowledge.cut import BUDGET, cut_passages
from kun.knowledge.folder import Found, find, path_key, printable
from kun.knowledge.interaction import pack
from kun.knowledge.manifest import Manifest
from kun.knowledge.rows import DocumentInfo, NewDocument, Span, StoredText, Vectors
from kun.knowledge.store import Store
from kun.knowledge.tables import names_above

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")

BATCH = 256  # passages committed at a time
INDEXED_AT_ONCE = 4_000  # passages indexed at a time, a second's work: what an interruption leaves at most
_STEP = 64  # passages embedded at a time, after which progress is told
_HEADING_TOKENS = 96  # what the headings above a passage may take of the encoder's context
_RACY_NS = 2_000_000_000  # a file changed this shortly before it was stored may change again unnoticed


class EncoderLike(Protocol):
    """What a knowledge base needs of an encoder: see `kun.models.encoder.Encoder`."""

    name: str
    identity: str
    dimensions: int
    max_tokens: int

    @property
    def tokenizer(self) -> "Tokenizer": ...

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors, float32 [n, dimensions]."""


@runtime_checkable
class TokenEncoder(Protocol):
    """An encoder that gives the states of single tokens too."""

    def embed_tokens(
        self, texts: Sequence[str], kind: Literal["query", "passage"] | None = None
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """Unit vectors, float32 [n, dimensions], and each text's states, float32 [t, dimensions]."""


@dataclass
class Report:
    """The outcome of adding, by document: `failed` says why for each, and nothing already stored was lost by it.

    `skipped` names what was left out on purpose, with the kind of thing that it is: an archive in a folder, say, or
    a film attached to a mail.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Draft:
    """A document that was read, not yet embedded."""

    found: Found
    digest: str
    bytes: int
    modified_ns: int
    text: StoredText


class Adding:
    """One call of `KnowledgeBase.add`."""

    def __init__(
        self,
        store: Store,
        encoder: Callable[[], EncoderLike],
        progress: DetailedProgress | None,
        index: Callable[[], None],
    ) -> None:
        """`index` is called from time to time, to index what was committed."""
        self._store, self._open_encoder, self._progress, self._index = store, encoder, progress, index
        self._known = {info.path: info for info in store.documents_info()}
        self._report = Report()
        self._restamped: list[DocumentInfo] = []
        self._done = self._total = self._embedded = 0
        self._began = time.monotonic()

    def run(self, paths: Iterable[Path]) -> Report:
        """Add files and folders. Raises `NotFound` before anything is written, `NoSpace`, `Busy`."""
        paths = list(paths)
        listings = [find(path) for path in paths]
        found = {item.key: item for listing in listings for item in listing.found}
        closed = {folder: why for listing in listings for folder, why in listing.closed.items()}
        for listing in listings:
            self._report.skipped |= listing.skipped
        self._total = len(found)
        self._tell("")
        unindexed = 0
        for batch in in_batches(self._drafts(found.values())):
            self._commit(batch)
            unindexed += sum(len(spans) for _, spans in batch)
            if unindexed >= INDEXED_AT_ONCE:
                self._index()
                unindexed = 0
        self._store.restamp(self._restamped)
        self._remove_vanished(paths, found, closed)
        for folder, why in closed.items():
            name = printable(folder)
            self._report.failed[name] = (
                f"{name} cannot be listed: {why}. What was stored of its files is still there."
            )
        self._store.compact()
        self._tell("")
        return self._report

    def _drafts(self, found: Iterable[Found]) -> Iterator[tuple[_Draft, list[Span]]]:
        for item in found:
            draft = self._drafted(item)
            if draft:
                yield draft
            else:
                self._done += 1
            self._tell(item.name)

    def _drafted(self, item: Found) -> tuple[_Draft, list[Span]] | None:
        """The document, read and cut; None when it is as it was, or cannot be read: one file never ends an add."""
        try:
            draft = self._draft(item)
        except Exception as error:
            self._fail(item, error)
            return None
        if draft is None:
            return None
        encoder = self._open_encoder()  # not the file's fault: whatever this raises ends the add
        try:
            return draft, spans_of(draft.text, encoder)
        except Exception as error:
            self._fail(item, error)
            return None

    def _draft(self, item: Found) -> _Draft | None:
        from kun.knowledge.read.reading import read

        status = item.file.stat()
        known = self._known.get(item.key)
        if known and _looks_unchanged(known, status):
            self._report.unchanged.append(known.source)
            return None
        digest = _digest(item.file)
        twin = known or self._moved(item, digest)
        if twin and twin.digest == digest:
            self._restamped.append(
                replace(twin, path=item.key, bytes=status.st_size, modified_ns=status.st_mtime_ns)
            )
            self._report.unchanged.append(twin.source)
            return None
        extracted = read(item.file)
        for part, what in extracted.skipped.items():
            self._report.skipped[f"{item.name}: {part}"] = what
        text = StoredText("", item.name, extracted.text, extracted.kind, extracted.pages)
        return _Draft(item, digest, status.st_size, status.st_mtime_ns, text)

    def _moved(self, item: Found, digest: str) -> DocumentInfo | None:
        """The stored document of this name and content whose file is gone: its folder was moved."""
        for info in self._known.values():
            if info.source == item.name and info.digest == digest and not Path(info.path).exists():
                return info
        return None

    def _fail(self, item: Found, error: Exception) -> None:
        known = self._known.get(item.key)
        if isinstance(error, HoldsNoText) and item.in_folder and known is None:
            self._report.skipped[item.name] = error.what
            return
        why = str(error) if isinstance(error, KunError) else f"{item.name} cannot be read: {_reason(error)}."
        self._report.failed[known.source if known else item.name] = (
            f"{why} What it held before is still there." if known else why
        )

    def _commit(self, batch: Sequence[tuple[_Draft, Sequence[Span]]]) -> None:
        encoder = self._open_encoder()
        embedded = embed([(draft.text, spans) for draft, spans in batch], encoder, self._tell_embedded)
        documents = [
            NewDocument(
                source=draft.found.name,
                fallback=draft.found.folder,
                path=draft.found.key,
                digest=draft.digest,
                bytes=draft.bytes,
                modified_ns=draft.modified_ns,
                text=draft.text.text,
                kind=draft.text.kind,
                pages=draft.text.pages,
                spans=spans,
                vectors=rows,
                tokens=tokens,
            )
            for (draft, spans), (rows, tokens) in zip(batch, embedded, strict=True)
        ]
        names = self._store.commit(documents, lambda manifest: check_encoder(manifest, encoder))
        for document in documents:
            known = document.path in self._known
            (self._report.replaced if known else self._report.added).append(names[document.path])
        self._done += len(batch)
        self._tell(batch[-1][0].found.name)

    def _remove_vanished(self, paths: Sequence[Path], found: Iterable[str], closed: Iterable[str]) -> None:
        """Remove what was once added from these folders and is no longer there, as far as they could be listed."""
        roots = _beginnings(path_key(path.expanduser().resolve()) for path in paths)
        hidden = _beginnings(closed)
        moved = {info.id for info in self._restamped}
        gone = [
            info
            for key, info in self._known.items()
            if key not in found
            and info.id not in moved
            and key.startswith(roots)
            and not key.startswith(hidden)
        ]
        self._store.remove(info.id for info in gone)
        self._report.removed += sorted(info.source for info in gone)

    def _tell_embedded(self, count: int, name: str) -> None:
        self._embedded += count
        self._tell(name)

    def _tell(self, name: str) -> None:
        if self._progress:
            rate = self._embedded / max(time.monotonic() - self._began, 1e-3)
            detail = f"{rate:.0f} passages/s {name}" if self._embedded else name
            self._progress("adding", self._done, self._total, detail.strip())


def spans_of(text: StoredText, encoder: EncoderLike) -> list[Span]:
    """The passages of a document, short enough for the encoder with the headings above them."""
    budget = max(16, min(BUDGET, encoder.max_tokens - _HEADING_TOKENS))
    return cut_passages(text.text, encoder.tokenizer, kind=text.kind, pages=text.pages, budget=budget)


def in_batches(documents: Iterable[tuple[T, Sequence[Span]]]) -> Iterator[list[tuple[T, Sequence[Span]]]]:
    """Documents with their passages, some `BATCH` passages together."""
    batch: list[tuple[T, Sequence[Span]]] = []
    count = 0
    for document in documents:
        batch.append(document)
        count += len(document[1])
        if count >= BATCH:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def embed(
    documents: Sequence[tuple[StoredText, Sequence[Span]]],
    encoder: EncoderLike,
    tell: Callable[[int, str], None],
) -> list[tuple[Vectors, list[bytes]]]:
    """The vectors and packed tokens of each document's passages, `_STEP` at a time whichever documents they are of."""
    texts = [text for stored, spans in documents for text in _embedded_texts(stored, spans)]
    owners = [text.source for text, spans in documents for _ in spans]
    vectors = np.empty((len(texts), encoder.dimensions), dtype=np.float32)
    tokens: list[bytes] = []
    for start in range(0, len(texts), _STEP):
        part = texts[start : start + _STEP]
        vectors[start : start + len(part)], states = states_of(part, "passage", encoder)
        tokens += [pack(rows) for rows in states]
        tell(len(part), owners[start])
    ends = np.cumsum([0, *(len(spans) for _, spans in documents)])
    return [(vectors[start:end], tokens[start:end]) for start, end in pairwise(ends)]


def embedded_again(
    texts: list[StoredText], encoder: EncoderLike, report: Report, progress: DetailedProgress | None
) -> Iterator[tuple[str, Sequence[Span], Vectors, Sequence[bytes]]]:
    """Stored documents cut and embedded anew: each one's identity, spans, vectors and tokens. `report` names them."""
    for batch in in_batches((text, spans_of(text, encoder)) for text in texts):
        if progress:
            progress("indexing", len(report.replaced), len(texts), batch[0][0].source)
        embedded = embed(batch, encoder, lambda count, name: None)
        for (text, spans), (rows, tokens) in zip(batch, embedded, strict=True):
            yield text.id, spans, rows, tokens
            report.replaced.append(text.source)
    if progress:
        progress("indexing", len(texts), len(texts), "")


def encoded(query: str, encoder: EncoderLike) -> tuple[Vectors, Vectors]:
    """The unit vector [d] of a query, and the states [t, d] of its tokens (t is 0 where the encoder gives none)."""
    vectors, states = states_of([query], "query", encoder)
    return vectors[0], states[0]


def states_of(
    texts: Sequence[str], kind: Literal["query", "passage"], encoder: EncoderLike
) -> tuple[Vectors, list[Vectors]]:
    """Unit vectors [n, d], and of each text its tokens' states [t, d]: t is 0 where the encoder gives none."""
    if isinstance(encoder, TokenEncoder):
        return encoder.embed_tokens(texts, kind)
    none = np.empty((0, encoder.dimensions), dtype=np.float32)
    return encoder.embed(texts, kind=kind), [none] * len(texts)


def _beginnings(folders: Iterable[str]) -> tuple[str, ...]:
    """What the keys of all files under these folders begin with."""
    return tuple(folder.rstrip(os.sep) + os.sep for folder in folders)


def check_encoder(manifest: Manifest, encoder: EncoderLike) -> None:
    """Raises `EncoderMismatch` unless the vectors of this knowledge base are that encoder's."""
    if manifest.identity != encoder.identity:
        raise EncoderMismatch(
            f"The knowledge base {manifest.name} was indexed by {manifest.encoder}, not by this {encoder.name}:"
            f" use that encoder, or index it again with `kun kb reindex {manifest.name} --encoder {encoder.name}`."
        )


def _embedded_texts(stored: StoredText, spans: Sequence[Span]) -> list[str]:
    """The passages under their headings, and rows of a piped table under the names of its columns."""
    names = names_above(stored, [span.start for span in spans])
    texts = [_with_heading(stored.text, span) for span in spans]
    return [f"{above}\n{text}" if above else text for above, text in zip(names, texts, strict=True)]


def _with_heading(text: str, span: Span) -> str:
    """What is embedded: the passage under the path of its headings, unless it begins with all of it."""
    passage = text[span.start : span.end]
    missing = [title for title in span.heading.split(" > ") if title and title not in passage[:400]]
    return f"{' > '.join(missing)}\n{passage}" if missing else passage


def _looks_unchanged(known: DocumentInfo, status: os.stat_result) -> bool:
    """By size and time, where the time tells: not for a file that was changed just as it was stored."""
    settled = status.st_mtime_ns + _RACY_NS < known.added_at * 1e9
    return settled and (known.bytes, known.modified_ns) == (status.st_size, status.st_mtime_ns)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

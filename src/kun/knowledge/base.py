"""A knowledge base: what the user sees of it."""

import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from kun.atomic_files import DetailedProgress
from kun.errors import BadInput, KnowledgeBaseNotFound, NotFound
from kun.knowledge.adding import (
    Adding,
    EncoderLike,
    Report,
    check_encoder,
    embedded_again,
    encoded,
)
from kun.knowledge.commonplaces import commonplaces
from kun.knowledge.contents import INDEX, Contents, Indexing
from kun.knowledge.index import Query
from kun.knowledge.manifest import CUTTING, Manifest
from kun.knowledge.matching import matching
from kun.knowledge.passage import Passage, Reasons
from kun.knowledge.reranking import LOOKED_AT, Reranker, opened_reranker, reranked
from kun.knowledge.rows import StoredText
from kun.knowledge.store import Store, locked
from kun.settings import DEFAULT_ENCODER, settings

if TYPE_CHECKING:
    from kun.knowledge.answer import Answer, AnswerStream, AskOptions
    from kun.knowledge.topics import Topics
    from kun.models.classifier import Classifier
    from kun.models.language_model import LanguageModel


MAX_NAME = 100
MAX_QUERY = 100_000
MAX_K = 1_000
_TEXTS = 64  # texts of documents that are kept at hand


@dataclass(frozen=True)
class Source:
    """A document: its name, its file's size in bytes, how many passages it was cut into, when (ISO 8601, UTC)."""

    name: str
    bytes: int
    passages: int
    added_at: str
    digest: str


class KnowledgeBase:
    """Documents that can be searched and asked. Open one with `KnowledgeBase.open`; safe for several threads."""

    def __init__(self, path: Path, encoder: EncoderLike | None = None) -> None:
        self._store = Store(path)
        self._encoder = encoder
        self._indexing = Indexing(self._store)
        self._reranker: Reranker | None = None
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls, name: str | Path, encoder: "str | Path | EncoderLike | None" = None, create: bool = True
    ) -> "KnowledgeBase":
        """Open a knowledge base by its name under KUN_HOME or by a path; make it where there is none.

        `encoder` (a name, a path, or an opened one) is for a new one; an existing one opens its own when needed.
        Raises `KnowledgeBaseNotFound` (with `create=False`), `EncoderMismatch` when it was made with another
        encoder, `BadInput` for a name that is no name, `DamagedFile`.
        """
        path = _locate(name)
        if not Manifest.exists(path):
            if not create:
                raise KnowledgeBaseNotFound(_missing(name))
            opened, reference = _opened(encoder)
            _create(path, opened, reference)
            return cls(path, opened)
        if encoder is None:
            return cls(path)
        manifest = Manifest.read(path)
        if isinstance(encoder, str | Path) and _reference(encoder) == manifest.encoder:
            return cls(path)
        opened, _ = _opened(encoder)
        check_encoder(manifest, opened)
        return cls(path, opened)

    @property
    def name(self) -> str:
        return self._store.manifest.name

    @property
    def path(self) -> Path:
        return self._store.path

    @property
    def encoder_name(self) -> str:
        """What its encoder is called, without opening it."""
        return self._store.manifest.encoder

    @property
    def is_cut_as_before(self) -> bool:
        """True where an earlier version cut its documents: `reindex` cuts them as it is done now."""
        return self._store.manifest.cutting < CUTTING

    @property
    def uploads(self) -> Path:
        """A folder of its own for files that have no other home; removing such a document deletes its file."""
        return self.path / "uploads"

    @property
    def version(self) -> int:
        """A number that changes with every change of what is stored."""
        return self._store.version

    @property
    def encoder(self) -> EncoderLike:
        """The encoder that its vectors are from. Raises `EncoderMismatch` when that name now means another one."""
        with self._lock:
            manifest = self._store.manifest
            if self._encoder is None or self._encoder.identity != manifest.identity:
                self._encoder, _ = _opened(manifest.encoder)
            check_encoder(manifest, self._encoder)
            return self._encoder

    # What is in it

    def add(self, *paths: str | Path, progress: DetailedProgress | None = None) -> Report:
        """Add files and folders: new ones are added, changed ones replaced, files gone from a folder removed.

        A document's name is its path relative to what was added; where another one has that name, the added
        folder's name leads it. One file that fails does not stop the others, and keeps what it held before.
        Raises `NotFound` for a path that does not exist, `Busy`, `NoSpace`, `EncoderMismatch`.
        """
        if not paths:
            raise BadInput("Nothing to add: name a file or a folder.")
        adding = Adding(self._store, lambda: self.encoder, progress, lambda: self._indexing.follow(progress))
        report = adding.run([Path(path) for path in paths])
        self._indexing.follow(progress)
        return report

    def remove(self, *sources: str) -> list[str]:
        """Remove documents by name or pattern ("drafts/*"); return the names. Raises `NotFound` for no match."""
        infos = self._store.documents_info()
        chosen = set(matching([info.source for info in infos], sources))
        self._store.remove(info.id for info in infos if info.source in chosen)
        for info in infos:
            if info.source in chosen and Path(info.path).is_relative_to(self.uploads.resolve()):
                Path(info.path).unlink(missing_ok=True)
        self._indexing.follow()
        return sorted(chosen)

    def sources(self) -> list[Source]:
        """Its documents, by name."""
        counts = self._store.counts()
        return [
            Source(info.source, info.bytes, counts.get(info.id, 0), _iso(info.added_at), info.digest)
            for info in self._store.documents_info()
        ]

    def document(self, source: str) -> str:
        """The whole extracted text of a document. Raises `NotFound`."""
        return self.text_of(source).text

    def text_of(self, source: str) -> StoredText:
        """A document's extracted text with its kind and where its pages begin. Raises `NotFound`."""
        contents = self._indexing.contents
        known = contents.texts if contents and contents.version == self._store.version else {}
        stored = known.get(source) or self._store.text_of(source)
        if stored is None:
            raise NotFound(f"{self.name} holds no document {source[:200]}.")
        if len(known) < _TEXTS:
            known[source] = stored
        return stored

    def passage(self, id: str) -> Passage:
        """A passage by its `id`, until its document is replaced or removed. Raises `NotFound`."""
        contents = self._indexing.read()
        document, _, place = id.rpartition("-")
        found = self._passage(contents, document, int(place)) if place.isdecimal() else None
        if found is None:
            raise NotFound(f"{self.name} holds no passage {id[:80]}: its document was replaced or removed.")
        return found

    def reindex(
        self, encoder: "str | Path | EncoderLike | None" = None, progress: DetailedProgress | None = None
    ) -> Report:
        """Cut and embed every document again, with another encoder if one is given; the files are not needed.

        Until it is done, searching goes on in what was there. Raises `Busy`, `NoSpace`, and what opening the
        encoder raises.
        """
        manifest = self._store.manifest
        opened, reference = _opened(encoder or self._encoder or manifest.encoder)
        if encoder is None:
            reference = manifest.encoder
        report = Report()
        self._store.reindex(
            _manifest(manifest.name, opened, reference),
            lambda texts: embedded_again(texts, opened, report, progress),
        )
        with self._lock:
            self._encoder = opened
        self._indexing.follow(progress)
        return report

    # Finding

    def rerank_with(self, model: "Reranker | Classifier | str | Path | None") -> None:
        """Let a sequence classifier (or its name), or any `Reranker`, order what a search finds; None: nobody does.

        Raises `BadInput` for another kind of model, and what opening it raises.
        """
        self._reranker = None if model is None else opened_reranker(model)

    def search(self, query: str, k: int = 5, sources: Sequence[str] | None = None) -> list[Passage]:
        """The `k` best passages, best first: word for word, by words and by meaning.

        `sources` keeps to documents of these names or patterns. Raises `BadInput`, `NotFound` for no such document.
        """
        if not query.strip():
            raise BadInput("The query is empty: type what to look for.")
        if len(query) > MAX_QUERY:
            raise BadInput(f"The query has {len(query):,} characters, more than {MAX_QUERY:,}: shorten it.")
        if not 1 <= k <= MAX_K:
            raise BadInput(f"k is {k}, but must be from 1 to {MAX_K}.")
        contents = self._indexing.read()
        chosen = None if sources is None else matching(list(contents.identities), sources)
        if not contents.names:
            return []
        documents = None if chosen is None else {contents.identities[source] for source in chosen}
        vector, states = encoded(query, self.encoder)
        common = commonplaces(query, vector, states, self.encoder)
        wanted = k if self._reranker is None else max(k, LOOKED_AT)
        hits = contents.index.search(Query(query, vector, states, common), wanted, documents)
        shown = (self._passage(contents, hit.document, hit.place, hit.score, hit.reasons) for hit in hits)
        found = [passage for passage in shown if passage]
        return found if self._reranker is None else reranked(query, found, self._reranker, k)

    def topics(self, groups: int | None = None) -> "Topics":
        """What its passages are about: groups of near vectors (k-means), named by the words that tell them apart.

        Without `groups` there are as many as part best. Raises `BadInput` where there is too little to group.
        """
        from kun.knowledge.topics import topics_of

        return topics_of(self.name, self._store.passages(), groups)

    def ask(self, question: str, lm: "LanguageModel", **options: "Unpack[AskOptions]") -> "Answer":
        """An answer from the documents that cites its passages; see `kun.knowledge.answer.ask` for the options."""
        return self.ask_stream(question, lm, **options).answer()

    def ask_stream(
        self, question: str, lm: "LanguageModel", **options: "Unpack[AskOptions]"
    ) -> "AnswerStream":
        """`ask`, piece by piece."""
        from kun.knowledge.answer import ask_stream

        return ask_stream(self, question, lm, **options)

    def close(self) -> None:
        """Let go of what was read; the knowledge base opens again by itself when it is used."""
        self._indexing.close()

    def _passage(
        self,
        contents: Contents,
        document: str,
        place: int,
        score: float = 0.0,
        reasons: Reasons | None = None,
    ) -> Passage | None:
        found = contents.index.passage(document, place)
        if found is None or document not in contents.names:
            return None
        text, span = found
        name, id = contents.names[document], f"{document}-{place}"
        return Passage(text, name, span.heading, span.page or None, score, id, reasons, span.start, span.end)


def knowledge_bases() -> list[str]:
    """The names of the knowledge bases under KUN_HOME, sorted."""
    folder = settings().knowledge
    return sorted(path.name for path in folder.iterdir() if Manifest.exists(path)) if folder.is_dir() else []


def delete(name: str | Path) -> None:
    """Delete a knowledge base with all that is in it, a damaged one too. Raises `KnowledgeBaseNotFound`, `Busy`."""
    path = _locate(name)
    if not Manifest.exists(path):
        raise KnowledgeBaseNotFound(_missing(name))
    with locked(path, path.name):
        Manifest.file(path).unlink()  # first: from here on it is no knowledge base
        for part in ("tables", "uploads", INDEX):
            shutil.rmtree(path / part, ignore_errors=True)
    (path / "write.lock").unlink(missing_ok=True)
    with suppress(OSError):  # a folder that holds something else stays
        path.rmdir()


def check_name(name: str) -> str:
    """The name, if it can be one. Raises `BadInput`: a name is one path component of at most `MAX_NAME` bytes or so."""
    problem = None
    if not name.strip() or name != name.strip():
        problem = "it is empty or begins or ends with a space"
    elif len(name) > MAX_NAME or len(name.encode("utf-8", "replace")) > 255:
        problem = f"it is longer than {MAX_NAME} characters"
    elif any(letter in '/\\:*?"<>|@' for letter in name):
        problem = 'it holds one of / \\ : * ? " < > | @'
    elif not name.isprintable() or name.startswith("."):
        problem = "it holds a control character or begins with a dot"
    if problem:
        raise BadInput(f"{name[:MAX_NAME]!r} cannot name a knowledge base: {problem}.")
    return name


def _locate(name: str | Path) -> Path:
    """The folder of a name under KUN_HOME, or of a path: a `Path`, or a text with a separator in it."""
    if isinstance(name, Path) or "/" in name or "\\" in name:
        path = Path(name).expanduser().resolve()
        check_name(path.name)
        return path
    return settings().knowledge / check_name(name)


def _missing(name: str | Path) -> str:
    near = get_close_matches(str(name), knowledge_bases(), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "`kun kb list` shows those that are here."
    return f"There is no knowledge base {str(name)[:MAX_NAME]}: {hint}"


def _opened(encoder: "str | Path | EncoderLike | None") -> tuple[EncoderLike, str]:
    """The encoder, and what to call it the next time."""
    if encoder is not None and not isinstance(encoder, str | Path):
        return encoder, encoder.name
    from kun.models.encoder import Encoder

    reference = _reference(encoder or DEFAULT_ENCODER)
    return Encoder.open(reference), reference


def _reference(encoder: str | Path) -> str:
    """A catalog name as it is, a folder by its absolute path."""
    path = Path(encoder).expanduser()
    is_path = isinstance(encoder, Path) or len(path.parts) > 1
    return str(path.resolve()) if is_path and path.exists() else str(encoder)


def _manifest(name: str, encoder: EncoderLike, reference: str) -> Manifest:
    # counted from now, so that one deleted and made again under its name is told apart
    generation = int(time.time())
    return Manifest(name, reference, encoder.identity, encoder.dimensions, encoder.max_tokens, generation)


def _create(path: Path, encoder: EncoderLike, reference: str) -> None:
    ours = {"tables", "write.lock", "uploads", INDEX}
    if path.exists() and (
        not path.is_dir() or any(part.name not in ours and part.name[0] != "." for part in path.iterdir())
    ):
        raise BadInput(f"{path} holds something else already: name a new or an empty folder.")
    Store.create(path, _manifest(path.name, encoder, reference))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

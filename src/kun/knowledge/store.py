"""What a knowledge base keeps on disk: documents, their passages and vectors, in two Lance tables.

A document's passages are written first, under an identity that nothing names yet; then one commit of the
documents table names them. So whenever a process dies, a document is there whole or not at all: rows that no
document names are never read, and the next writer sweeps them away. One process writes at a time, and only
for as long as a commit takes; readers never wait.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kun.atomic_files import writing_to
from kun.errors import Busy, DamagedFile, KunError, NoSpace
from kun.knowledge import digests
from kun.knowledge.manifest import Manifest
from kun.knowledge.rows import (
    DocumentInfo,
    Incomplete,
    NewDocument,
    Span,
    StoredText,
    Table,
    TokenReader,
    Vectors,
    assign_names,
    document_rows,
    documents_schema,
    passage_rows,
    passages_schema,
    span_rows,
    visible,
)

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.table import Table as LanceTable

LOCK_SECONDS = 30.0
_KEPT_VERSIONS = timedelta(minutes=10)  # a reader that began this long ago may still need the old files
_FRAGMENTS_BEFORE_COMPACTION = 24
_ATTEMPTS = 5
_FULL = ("no space left", "os error 28", "os error 27", "file too large", "quota", "os error 122")


class Store:
    """The tables of one knowledge base. Safe for many threads and processes at once.

    Raises `DamagedFile` when a table cannot be read, `NoSpace` when the disk is full (what was stored stays),
    `Busy` when another process kept writing for longer than `LOCK_SECONDS`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = Manifest.read(path)
        self._stamp = _stamp(path)
        self._database = _connect(path)
        self._tables: dict[str, LanceTable] = {}

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> "Store":
        """Make the tables and, last of all, the manifest that makes the folder a knowledge base."""
        with writing_to(path):
            path.mkdir(parents=True, exist_ok=True)
        with locked(path, manifest.name):
            if not Manifest.exists(path):
                with _translated(manifest.name, path):
                    database = _connect(path)
                    database.create_table("documents", schema=documents_schema(), exist_ok=True)
                    _fresh_passages(database, path, manifest)
                    manifest.write(path)
        return cls(path)

    @property
    def manifest(self) -> Manifest:
        """As it is now on disk: another process may have re-indexed."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._manifest, self._stamp = Manifest.read(self.path), stamp
            self._tables = {}  # it may be another one that was made under the same name
        return self._manifest

    @property
    def version(self) -> int:
        """A number that every commit changes, another process's too."""
        with _translated(self.manifest.name, self.path):
            return (self.manifest.generation << 40) + self._table("documents").version

    # Reading

    def documents_info(self) -> list[DocumentInfo]:
        """Every document, by name, without its text."""
        names = [field.name for field in fields(DocumentInfo)]
        with _translated(self.manifest.name, self.path):
            self._check("documents")
            rows = self._table("documents").search().select(names).limit(None).to_arrow()
            infos = [DocumentInfo(**row) for row in rows.to_pylist()]
        return sorted(infos, key=lambda info: info.source)

    def documents(self) -> dict[str, str]:
        """The whole extracted text of every document, by name."""
        return {document.source: document.text for document in self._texts()}

    def text_of(self, source: str) -> StoredText | None:
        """The text of one document; None when there is none of that name."""
        wanted = next((info.id for info in self.documents_info() if info.source == source), None)
        if wanted is None:
            return None
        with _translated(self.manifest.name, self.path):
            self._check("documents")
            names = [field.name for field in fields(StoredText)]
            rows = self._table("documents").search().where(f"id = '{wanted}'").select(names).to_list()
        return StoredText(**{name: rows[0][name] for name in names}) if rows else None

    def passages(self) -> Table:
        """Every passage of every committed document, in the order of names and places."""
        return self.snapshot()[1]

    def snapshot(self, ids: Sequence[str] | None = None) -> tuple[int, Table, list[StoredText]]:
        """`version`, the passages and the texts, by name, of these documents or of all: all of one moment."""
        for attempt in range(_ATTEMPTS):  # a writer may clear files away between two looks
            version, manifest = self.version, self.manifest
            with suppress(Incomplete, *(() if attempt == _ATTEMPTS - 1 else (DamagedFile,))):
                texts = self._texts(ids)
                with _translated(manifest.name, self.path):
                    self._check(manifest.passages_table)
                    query = self._database.open_table(manifest.passages_table).search()
                    chosen = query if ids is None else query.where(_among("document", ids or [""]))
                    columns = [
                        name for name in passages_schema(manifest.dimensions).names if name != "tokens"
                    ]
                    rows = chosen.select(columns).limit(None).to_arrow()
                return version, visible(rows, texts, manifest.dimensions), texts
            time.sleep(0.05 * attempt)
        raise DamagedFile(
            f"Passages of the knowledge base {manifest.name} are missing in {self.path}:"
            f" mend it with `kun kb reindex {manifest.name}`."
        )

    def tokens(self) -> TokenReader:
        """Reads the packed token states of passages, as they are at the moment of this call."""
        manifest = self.manifest
        with _translated(manifest.name, self.path):
            self._check(manifest.passages_table)
            table = self._database.open_table(manifest.passages_table)
            table.checkout(table.version)
            rows = table.search().select(["document", "place"]).with_row_id(True).limit(None).to_arrow()
        has_tokens = "tokens" in table.schema.names
        names = zip(*(rows.column(name).to_pylist() for name in ("document", "place")), strict=True)
        numbers = dict(zip(names, rows.column("_rowid").to_pylist(), strict=True))

        def read(passages: Sequence[tuple[str, int]]) -> list[bytes]:
            wanted = [numbers[passage] for passage in passages if has_tokens and passage in numbers]
            tokens: dict[int, bytes] = {}
            if wanted:
                with _translated(manifest.name, self.path):
                    found = table.take_row_ids(wanted).select(["tokens"]).with_row_id().to_arrow()
                    columns = (found.column(name).to_pylist() for name in ("_rowid", "tokens"))
                    tokens = dict(zip(*columns, strict=True))
            return [tokens.get(numbers.get(passage, -1)) or b"" for passage in passages]

        return read

    def counts(self) -> dict[str, int]:
        """How many passages each document has, by the document's identity."""
        with _translated(self.manifest.name, self.path):
            self._check(self.manifest.passages_table)
            table = self._table(self.manifest.passages_table)
            column = table.search().select(["document"]).limit(None).to_arrow().column("document")
        return {pair["values"]: pair["counts"] for pair in column.value_counts().to_pylist()}

    def _texts(self, ids: Sequence[str] | None = None) -> list[StoredText]:
        """The text of these documents, or of every one, by name."""
        with _translated(self.manifest.name, self.path):
            self._check("documents")
            names = [field.name for field in fields(StoredText)]
            query = self._table("documents").search()
            chosen = query if ids is None else query.where(_among("id", ids or [""]))
            rows = chosen.select(names).limit(None).to_arrow().to_pylist()
        return sorted((StoredText(**row) for row in rows), key=lambda document: document.source)

    # Writing

    def commit(self, documents: Sequence[NewDocument], check: Callable[[Manifest], None]) -> dict[str, str]:
        """Store the documents, each in the place of what its path held before; return path -> name as stored.

        `check` sees the manifest under the lock and raises when the vectors do not belong to it. A document
        that another process has stored meanwhile, byte for byte the same, is left as it is.
        """
        with self._writing() as manifest:
            check(manifest)
            known = {info.path: info for info in self.documents_info()}
            new = [
                document
                for document in documents
                if document.path not in known or known[document.path].digest != document.digest
            ]
            names = assign_names(new, known)
            if new:
                self._table(manifest.passages_table).add(passage_rows(new, manifest.dimensions))
                rows = document_rows(new, names)
                merge = self._table("documents").merge_insert("path")
                merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
                self._drop([known[document.path].id for document in new if document.path in known])
        return {d.path: names.get(d.path) or known[d.path].source for d in documents}

    def restamp(self, infos: Iterable[DocumentInfo]) -> None:
        """Store new paths, sizes and times of documents whose content is as it was."""
        infos = list(infos)
        if not infos:
            return
        with self._writing():
            present = {info.id for info in self.documents_info()}
            for info in infos:
                if info.id in present:
                    values = {"path": info.path, "bytes": info.bytes, "modified_ns": info.modified_ns}
                    self._table("documents").update(where=f"id = '{info.id}'", values=values)

    def remove(self, ids: Iterable[str]) -> None:
        """Remove documents by identity, with their passages."""
        ids = list(ids)
        if not ids:
            return
        with self._writing():
            self._table("documents").delete(_among("id", ids))
            self._drop(ids)

    def reindex(
        self,
        manifest: Manifest,
        embedded: Callable[
            [list[StoredText]], Iterable[tuple[str, Sequence[Span], Vectors, Sequence[bytes]]]
        ],
    ) -> None:
        """Write all passages again into a fresh table, then switch to it, and to `manifest`, in one step.

        `embedded` takes the documents and gives (id, spans, vectors, tokens) back. The lock is held throughout: this is
        a writer's longest job.
        """
        with self._writing(sweep=False) as old:
            fresh = manifest.after(old)
            table = _fresh_passages(self._database, self.path, fresh)
            for identity, spans, vectors, tokens in embedded(self._texts()):
                table.add(span_rows(identity, spans, vectors, tokens, fresh.dimensions))
            fresh.write(self.path)
            self._clear_away_tables()

    @contextmanager
    def _writing(self, sweep: bool = True) -> Iterator[Manifest]:
        with locked(self.path, self.manifest.name), _translated(self.manifest.name, self.path):
            if sweep:
                self._check("documents")
                self._check(self.manifest.passages_table)
                self._sweep()
                self._give_tokens()
            yield self.manifest
            digests.record(self.path / "tables", ("documents", self.manifest.passages_table))

    def _check(self, table: str) -> None:
        """Raise `DamagedFile` where a file of a table is not as it was written."""
        try:
            digests.check(self.path / "tables", table)
        except DamagedFile as error:
            raise _unreadable(self.manifest.name, self.path, error) from error

    def _table(self, name: str) -> "LanceTable":
        if name not in self._tables:
            self._tables[name] = self._database.open_table(name)
        return self._tables[name]

    def _drop(self, document_ids: Sequence[str]) -> None:
        if document_ids:
            self._table(self.manifest.passages_table).delete(_among("document", document_ids))

    def _sweep(self) -> None:
        """Delete passages that no document names: what a writer left that died between its two commits."""
        named = {info.id for info in self.documents_info()}
        table = self._table(self.manifest.passages_table)
        stored = table.search().select(["document"]).limit(None).to_arrow().column("document").unique()
        self._drop(sorted(set(stored.to_pylist()) - named))
        self._clear_away_tables()

    def _give_tokens(self) -> None:
        """A place for token states in a table that was made before they were kept."""
        table = self._table(self.manifest.passages_table)
        if "tokens" not in table.schema.names:
            table.add_columns({"tokens": "arrow_cast(NULL, 'LargeBinary')"})

    def _clear_away_tables(self) -> None:
        """Drop the tables of generations that are over, or never came to be."""
        kept = {"documents", self.manifest.passages_table}
        for folder in (self.path / "tables").glob("*.lance"):
            if folder.stem not in kept:
                self._tables.pop(folder.stem, None)
                with suppress(Exception):
                    self._database.drop_table(folder.stem)

    def compact(self, always: bool = False) -> None:
        """Join small files and let go of old versions, so that a knowledge base does not grow for ever."""
        with self._writing():
            for name in ("documents", self.manifest.passages_table):
                table = self._table(name)
                # a mapping, whatever its annotation says
                stats = cast("Mapping[str, Mapping[str, int]]", table.stats())
                if always or stats["fragment_stats"]["num_fragments"] > _FRAGMENTS_BEFORE_COMPACTION:
                    with warnings.catch_warnings(action="ignore"):
                        table.optimize(cleanup_older_than=_KEPT_VERSIONS, delete_unverified=True)


def _connect(path: Path) -> "DBConnection":
    import lancedb

    return lancedb.connect(str(path / "tables"), read_consistency_interval=timedelta(0))


def _fresh_passages(database: "DBConnection", path: Path, manifest: Manifest) -> "LanceTable":
    """An empty table of passages, in the place of what one that died may have left there."""
    if (path / "tables" / f"{manifest.passages_table}.lance").exists():
        database.drop_table(manifest.passages_table)
    schema = passages_schema(manifest.dimensions)
    return database.create_table(manifest.passages_table, schema=schema, exist_ok=True)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = Manifest.file(path).stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_ino


@contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Be the only writer. Raises `Busy` when another one keeps the lock longer than `LOCK_SECONDS`."""
    from filelock import FileLock, Timeout

    lock = FileLock(path / "write.lock", timeout=LOCK_SECONDS)
    try:
        with writing_to(path):
            lock.acquire()
    except Timeout as error:
        raise Busy(
            f"Another process is writing to the knowledge base {name}: try again when it has finished."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _translated(name: str, path: Path) -> Iterator[None]:
    """Lance's errors in the user's words."""
    try:
        yield
    except KunError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if any(words in str(error).lower() for words in _FULL):
            raise NoSpace(
                f"The disk is full: free some space under {path} and add again; what the knowledge base {name}"
                " held is still there."
            ) from error
        raise _unreadable(name, path, error) from error


def _unreadable(name: str, path: Path, error: Exception) -> DamagedFile:
    return DamagedFile(
        f"The knowledge base {name} in {path} cannot be read ({_first_line(error)}): fix it with"
        f" `kun kb reindex {name}`, or remove it and add its documents again."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _among(column: str, ids: Sequence[str]) -> str:
    """A filter; the identities are our own hexadecimal ones, so nothing needs quoting."""
    return f"{column} IN ({', '.join(repr(identity) for identity in ids)})"

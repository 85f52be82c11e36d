"""The index on this machine: segments in files that are mapped into memory, and a list of them.

Adding writes a segment, removing a name; what is small or half empty is put together anew. The store can make all of
it again, so whatever is damaged, or of another generation, is left and made anew.
"""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from kun.atomic_files import check_once, new_file, sealed, sha256, unsealed
from kun.errors import DamagedFile, KunError
from kun.knowledge.index import Hit, Query
from kun.knowledge.retrieval import Rows
from kun.knowledge.rows import Span, StoredText, Table, TokenReader
from kun.knowledge.segment import Segment

log = logging.getLogger(__name__)

_LIST = "index.json"
_FORMAT = 2
_MOST_SEGMENTS = 8


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    file: str
    sha256: str


class _List(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: int
    key: str
    parts: list[_Part]
    gone: list[str]


class LocalIndex:
    """See `kun.knowledge.index.Index`. A search sees the passages of the moment when it begins."""

    def __init__(self, folder: Path | None = None, key: str = "") -> None:
        """The index kept in `folder` under `key`, which names the vectors; empty where another one is kept there."""
        self.tokens: TokenReader | None = None
        self._folder, self.key = folder, key
        self._gone: set[str] = set()
        self._files: dict[Segment, _Part] = {}
        self._rows = Rows.of([], ())
        self._stamp = (0, 0)
        if folder is not None:
            self._open(folder)

    def copy(self) -> "LocalIndex":
        """One that searches the same passages, and goes its own ways from here."""
        copy = LocalIndex(None, self.key)
        copy.tokens, copy._folder, copy._stamp = self.tokens, self._folder, self._stamp
        copy._gone, copy._files, copy._rows = set(self._gone), dict(self._files), self._rows
        return copy

    def is_on_disk(self) -> bool:
        """True unless another list has been written since this one was read or kept."""
        return self._folder is None or self._stamp == _stamp(self._folder)

    @property
    def documents(self) -> Collection[str]:
        return {name for part in self._rows.segments for name in part.documents} - self._gone

    def add(self, passages: Table, documents: Sequence[StoredText]) -> None:
        if documents:
            self._hold([*self._rows.segments, Segment.build(passages, documents)])

    def remove(self, documents: Collection[str]) -> None:
        self._gone |= set(documents)
        self._hold([part for part in self._rows.segments if not self._gone.issuperset(part.documents)])

    def scattered(self) -> set[str]:
        """The documents of segments that are too many, or half empty, which are dropped: add them again together."""
        parts = sorted(self._rows.segments, key=len)
        small = parts[: len(parts) // 2 + 1] if len(parts) > _MOST_SEGMENTS else []
        loose = [p for p in parts if p in small or 2 * len(self._gone & set(p.documents)) > len(p.documents)]
        names = {name for part in loose for name in part.documents} - self._gone
        self._hold([part for part in self._rows.segments if part not in loose])
        return names

    def search(self, query: Query, k: int, documents: Collection[str] | None = None) -> list[Hit]:
        return self._rows.search(query, k, self.tokens, documents)

    def passage(self, document: str, place: int) -> tuple[str, Span] | None:
        if document in self._gone:
            return None
        found = ((part, part.row_of(document, place)) for part in self._rows.segments)
        return next((part.text_and_span(row) for part, row in found if row is not None), None)

    def persist(self) -> None:
        """Write what is not yet written. Where that fails, the log says so, and the next one to open makes it anew."""
        folder = self._folder
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part in self._rows.segments:
                if part not in self._files:
                    self._files[part] = _written(part, folder)
            parts = [self._files[part] for part in self._rows.segments]
            body = _List(format=_FORMAT, key=self.key, parts=parts, gone=sorted(self._gone))
            with new_file(folder / _LIST) as fresh:
                fresh.write_bytes(sealed(body.model_dump()))
            self._stamp = _stamp(folder)
            kept = {part.file for part in parts}
            for file in folder.glob("*.segment"):
                if file.name not in kept:
                    with suppress(OSError):
                        file.unlink()
        except (KunError, OSError) as error:
            log.warning("The index in %s is not kept (%s): it will be made anew.", folder, error)

    def _hold(self, segments: Sequence[Segment]) -> None:
        self._gone &= {name for part in segments for name in part.documents}
        self._rows = Rows.of(list(segments), frozenset(self._gone))

    def _open(self, folder: Path) -> None:
        self._stamp = _stamp(folder)
        try:
            listed = _List.model_validate(unsealed((folder / _LIST).read_bytes()))
            if listed.format != _FORMAT or listed.key != self.key:
                return
            for part in listed.parts:
                path = folder / Path(part.file).name
                check_once(path, part.sha256)
                self._files[Segment.read(path)] = part
        except FileNotFoundError:
            self._files = {}
        except (OSError, ValueError, DamagedFile) as error:
            log.warning("The index in %s cannot be read (%s): it is made anew.", folder, error)
            self._files = {}
        else:
            self._gone = set(listed.gone)
            self._hold(list(self._files))


def _stamp(folder: Path) -> tuple[int, int]:
    """What tells one list from the next."""
    try:
        status = (folder / _LIST).stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_ino


def _written(part: Segment, folder: Path) -> _Part:
    """The file of a segment, named by its digest."""
    fresh = folder / "new.segment"
    part.write(fresh)
    digest = sha256(fresh)
    fresh.replace(folder / f"{digest[:32]}.segment")
    return _Part(file=f"{digest[:32]}.segment", sha256=digest)

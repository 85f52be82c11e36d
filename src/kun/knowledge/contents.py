"""What a search needs of a knowledge base: the index, kept up with what is stored.

Whoever adds indexes at the same time, some thousand passages at a go. One process indexes; the others, and other
threads, meanwhile search what was indexed before.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kun.atomic_files import DetailedProgress
from kun.errors import KunError
from kun.knowledge.adding import INDEXED_AT_ONCE
from kun.knowledge.local_index import LocalIndex
from kun.knowledge.rows import DocumentInfo, StoredText
from kun.knowledge.store import Store

log = logging.getLogger(__name__)

INDEX = "index"
"""The folder of a knowledge base's index, which may be deleted at any time."""
_PARTS = 4
"""A base of many passages becomes no more than so many parts at a go, so that they need not be put together soon."""
_WAIT_SECONDS = 60.0
"""For another process's index, where there is none of before to search."""
_AGAIN_SECONDS = 1.0
"""After so long it is looked anew whether another process has finished."""


@dataclass(frozen=True)
class Contents:
    """One version of what is stored: the index, and the documents' names and identities.

    `is_whole` is false where documents are left out that another one is indexing.
    """

    version: int
    index: LocalIndex
    names: Mapping[str, str]
    identities: Mapping[str, str]
    is_whole: bool = True
    read_at: float = field(default_factory=time.monotonic)
    texts: dict[str, StoredText] = field(default_factory=dict)


class Indexing:
    """Keeps an index up with a store. Safe for several threads and processes."""

    def __init__(self, store: Store) -> None:
        self._store, self._folder = store, store.path / INDEX
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self.contents: Contents | None = None
        """The last ones, which may be of before."""

    def close(self) -> None:
        """Let go of what was read."""
        self.contents = None

    def read(self) -> Contents:
        """The present contents, indexed where nobody else is about it; else those of before."""
        while True:
            contents = self.contents
            if contents is not None and self._is_fresh(contents):
                return contents
            if self._turn.acquire(blocking=False):
                try:
                    return self._follow(is_patient=False)
                finally:
                    self._turn.release()
                    with self._changed:
                        self._changed.notify_all()
            if contents is not None:
                return contents
            with self._changed:
                self._changed.wait(0.1)

    def follow(self, progress: DetailedProgress | None = None) -> None:
        """Index what was added or removed. A fault is left to the search that will meet it."""
        try:
            with self._turn:
                self._follow(is_patient=True, progress=progress)
        except KunError as error:
            log.warning("What was added is indexed later: %s", error)

    def _is_fresh(self, contents: Contents) -> bool:
        if not contents.is_whole:
            return time.monotonic() - contents.read_at < _AGAIN_SECONDS
        return contents.version == self._store.version

    def _follow(self, is_patient: bool, progress: DetailedProgress | None = None) -> Contents:
        """Contents of now; of what was indexed before where another process is about it, unless that is nothing.

        Who `is_patient` waits for the other one.
        """
        version, index = self._store.version, self._known()
        infos = self._store.documents_info()
        wanted = {info.id for info in infos}
        gone = set(index.documents) - wanted
        missing = wanted - set(index.documents)
        if not gone and not missing:
            return self._publish(version, index, infos, True)
        index.remove(gone)
        if index.documents:
            self._publish(version, index, infos, not missing)
        seconds = _WAIT_SECONDS if is_patient or not index.documents else 0.0
        with _alone(self._folder, seconds) as alone:
            if not alone:
                return self._publish(version, index, infos, False)
            index = self._known()  # another one may have indexed it meanwhile
            index.remove(set(index.documents) - wanted)
            index.scattered()
            self._add(index, sorted(wanted - set(index.documents)), progress)
            index.persist()
        return self._publish(version, index, infos, True)

    def _known(self) -> LocalIndex:
        """A copy of the index in memory, or the one on disk where another process has written one since."""
        manifest = self._store.manifest
        key = f"{manifest.identity}-{manifest.generation}"
        before = self.contents.index if self.contents else None
        if before is not None and before.key == key and before.is_on_disk():
            return before.copy()
        return LocalIndex(self._folder, key)

    def _add(self, index: LocalIndex, missing: Sequence[str], progress: DetailedProgress | None) -> None:
        counts = self._store.counts() if missing else {}
        total = sum(counts.get(identity, 0) for identity in missing)
        done, began = 0, time.monotonic()

        def tell() -> None:
            if progress and missing:
                rate = done / max(time.monotonic() - began, 1e-3)
                progress("indexing", done, total, f"{rate:.0f} passages/s" if done else "")

        for some in _in_parts(missing, counts, max(INDEXED_AT_ONCE, -(-total // _PARTS))):
            tell()
            _, passages, texts = self._store.snapshot(some)
            index.add(passages, texts)
            index.persist()
            done += len(passages.ids)
        tell()

    def _publish(
        self, version: int, index: LocalIndex, infos: Sequence[DocumentInfo], whole: bool
    ) -> Contents:
        there = set(index.documents)
        names = {info.id: info.source for info in infos if info.id in there}
        index = index.copy()
        index.tokens = self._store.tokens()
        contents = Contents(version, index, names, {source: id for id, source in names.items()}, whole)
        self.contents = contents
        with self._changed:
            self._changed.notify_all()
        return contents


def _in_parts(missing: Sequence[str], counts: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """Documents of some `most` passages together."""
    part: list[str] = []
    size = 0
    for identity in missing:
        part.append(identity)
        size += counts.get(identity, 0)
        if size >= most:
            yield part
            part, size = [], 0
    if part:
        yield part


@contextmanager
def _alone(folder: Path, seconds: float) -> Iterator[bool]:
    """True for the only process that indexes; where no lock can be had of the disk, so is everybody."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "index.lock", timeout=seconds)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError:
        yield True
        return
    try:
        yield True
    finally:
        lock.release()

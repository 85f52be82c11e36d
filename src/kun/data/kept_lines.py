"""JSON lines that are on the disk as soon as they are kept: work that takes hours goes on from them after a kill."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import IO

from filelock import FileLock, Timeout

from kun.atomic_files import writing_to
from kun.errors import Busy, DamagedFile


class KeptLines:
    """A file of JSON objects, a line each, to which one process at a time adds.

    with KeptLines(path) as kept:
        kept.before      # the objects that an earlier run kept
        kept.append({…}) # on the disk when this returns, from any thread

    A last line that a kill cut off is removed. Raises `Busy` while another process adds to the file, `DamagedFile` for
    a line that is no object, `NoSpace`, `NotWritable`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.before: list[dict[str, object]] = []
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        self._writing = Lock()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "KeptLines":
        with writing_to(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise Busy(
                    f"Another process adds to {self.path}: wait until it has ended, or give another file."
                ) from error
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        return self

    def _open(self) -> None:
        data = self.path.read_bytes() if self.path.exists() else b""
        whole, last = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
        self.before = [
            self._object(line, number) for number, line in enumerate(whole.splitlines(), 1) if line.strip()
        ]
        self._file = self.path.open("ab")
        try:
            entry: object = json.loads(last)
        except ValueError:  # cut off by a kill
            self._file.truncate(len(whole))
            return
        if isinstance(entry, dict):  # an editor left out the end of the line
            self.before.append(entry)
            self._file.write(b"\n")

    def _object(self, line: bytes, number: int) -> dict[str, object]:
        try:
            entry: object = json.loads(line)
        except ValueError as error:
            raise DamagedFile(
                f"{self.path}:{number} is no JSON: remove the line, or give another file."
            ) from error
        if not isinstance(entry, dict):
            raise DamagedFile(
                f"{self.path}:{number} is no JSON object: remove the line, or give another file."
            )
        return entry

    def append(self, record: Mapping[str, object]) -> None:
        """Keep an object. It is on the disk when this returns."""
        assert self._file is not None, "the file is added to inside its with block"
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with self._writing, writing_to(self.path):
            self._file.write(line.encode("utf-8", "replace"))
            self._file.flush()
            os.fsync(self._file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

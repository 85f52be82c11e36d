"""The process that reads all that needs a parser: kept for many files, ended when one takes too long or too much.

It is ended, too, when it has had nothing to read for a while: with the models for scans it holds some 600 MB.
"""

import atexit
import json
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from kun.errors import (
    BadInput,
    DamagedFile,
    HoldsNoText,
    KunError,
    TooLarge,
    Unavailable,
    UnsupportedFormat,
)
from kun.knowledge.folder import printable
from kun.knowledge.read.extracted import Extracted
from kun.settings import settings

SECONDS = 300.0  # for one file
IDLE_SECONDS = 60.0
_MEMORY = 3 * 2**30  # bytes of address space
_CHUNK = 2**20
_ERRORS: dict[str, type[KunError]] = {
    error.__name__: error for error in (BadInput, DamagedFile, TooLarge, Unavailable, UnsupportedFormat)
}


class _Reader:
    """One process, one file at a time: a line of JSON each way."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._used = 0.0

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """The answer; None when there was none in time or the process died."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            answer = None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                answer = _line(process.stdout, seconds, 8 * settings().max_file_bytes)
            except OSError:
                pass  # it died before it could be asked
            finally:
                self._used = time.monotonic()
                if answer is None:
                    self._end()
            return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "kun.knowledge.read.worker", str(_MEMORY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the program, which then ends this process itself
            )
            watch = threading.Thread(target=self._end_when_idle, args=(self._process,), daemon=True)
            watch.start()
        return self._process

    def _end_when_idle(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until `process` has read nothing for `IDLE_SECONDS`, and end it, unless another took its place."""
        left = IDLE_SECONDS
        while left > 0:
            time.sleep(left)
            with self._lock:
                if self._process is not process:
                    return
                left = self._used + IDLE_SECONDS - time.monotonic()
                if left <= 0:
                    self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._end()


_reader = _Reader()
atexit.register(_reader.close)


def convert(file: Path, format: str) -> Extracted:
    """The text of a file that needs a parser. Raises what the worker found wrong, `DamagedFile` if it gave up."""
    name = printable(file.name)
    request = {"file": str(file), "name": name, "format": format, "most": settings().max_file_bytes}
    began = time.monotonic()
    answer = _reader.ask(request, SECONDS)
    if answer is None and time.monotonic() - began < SECONDS:
        raise DamagedFile(
            f"{name} ended the process that reads it: it is damaged, or takes more than {_MEMORY // 2**30} GB to read"
            " and should be split."
        )
    if answer is None:
        raise DamagedFile(
            f"{name} takes more than {SECONDS:.0f} seconds to read: it is damaged, or should be split."
        )
    if answer.get("error") == HoldsNoText.__name__:
        raise HoldsNoText(answer["message"], answer["what"])
    if "error" in answer:
        raise _ERRORS.get(answer["error"], DamagedFile)(answer["message"])
    return Extracted(answer["text"], answer["kind"], answer["pages"], answer["skipped"])


def _line(stream: IO[bytes], seconds: float, most: int) -> dict[str, Any] | None:
    """The next line as JSON, None at the end of the stream, after `seconds`, or beyond `most` bytes.

    An empty line is a sign of life, from which the time counts anew.
    """
    parts: list[bytes] = []
    length, deadline = 0, time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not parts or not parts[-1].endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return None
            part = stream.read1(_CHUNK)  # type: ignore[attr-defined]  # a buffered pipe has it
            if not part:
                return None
            if not parts:
                beats = len(part) - len(part.lstrip(b"\n"))
                deadline = time.monotonic() + seconds if beats else deadline
                part = part[beats:]
            if part:
                parts.append(part)
                length += len(part)
            if length > most:
                return None
    answer: dict[str, Any] = json.loads(b"".join(parts))
    return answer

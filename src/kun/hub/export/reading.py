"""A reference reader at work in a process of its own: what it makes of a model file."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np

from kun.atomic_files import Progress
from kun.settings import settings

if TYPE_CHECKING:
    from kun.hub.export.battery import TriedChat

READERS = {"transformers": "transformers_reader.py", "llama.cpp": "llama_cpp_reader.py"}
_PACKAGES = {"transformers": "transformers", "llama.cpp": "llama-cpp-python"}
_MISSING = 3
_LAST_WORDS = 600
_PATIENCE = 900.0
"""Seconds that a reader may be silent: it speaks after every text, and first of all it loads the model."""
_T = TypeVar("_T")


class CannotRead(Exception):
    """A reader that is not here, or that failed: the sentence says why."""


class Job(TypedDict):
    """The questions to a reader: tokens of `texts`, rendered `chats`, and the states of `sequences` of ids.

    `config` is what config.json says. `sequence_texts` are the texts that the sequences were made of, for a
    reader that takes no ids; `results` are the names of what the model returns for them and is compared.
    """

    model: str
    format: str
    kind: str
    config: dict[str, Any]
    texts: Sequence[str]
    chats: "Sequence[TriedChat]"
    sequences: Sequence[Sequence[int]]
    sequence_texts: Sequence[str]
    results: Sequence[str]
    threads: int


@dataclass(frozen=True)
class Answer:
    """The answer of a reader: ids of each text, of each chat its text (None where refused) and ids, and states.

    None where it was not asked; `states` are float32 [positions, width].
    """

    reader: str
    tokens: list[list[int]] | None
    chats: list[str | None] | None
    chat_tokens: list[list[int] | None] | None
    states: np.ndarray | None


def read(reader: str, job: Job, progress: Progress) -> Answer:
    """Have `reader` (of `READERS`) do the job, in the first interpreter that has it. Raises `CannotRead`."""
    for python in _interpreters():
        with tempfile.TemporaryDirectory(prefix="kun-reader-") as name:
            folder = Path(name)
            (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
            code, last_words = _run(python, reader, folder, progress)
            if code == 0:
                return _answer(folder)
            if code != _MISSING:
                raise CannotRead(f"{reader} failed on {Path(job['model']).name}: {last_words}")
    raise CannotRead(
        f"{_PACKAGES[reader]} is not installed: pip install 'kun[verify]', or name an interpreter that has it in "
        f"KUN_READER_PYTHON"
    )


def _interpreters() -> Iterator[str]:
    other = settings().reader_python
    if other is not None:
        yield str(other)
    yield sys.executable


def _run(python: str, reader: str, folder: Path, progress: Progress) -> tuple[int, str]:
    """The exit code, and the end of what was said on standard error."""
    script = Path(__file__).parent / "readers" / READERS[reader]
    log = folder / "log.txt"
    with log.open("wb") as errors, _process([python, str(script), str(folder)], errors) as process:
        assert process.stdout is not None
        while line := _within_patience(process, reader, process.stdout.readline):
            done, _, total = line.partition(" ")
            if done.isdecimal() and total.strip().isdecimal():
                progress(f"reading with {reader}", int(done), int(total))
        code = _within_patience(process, reader, process.wait)
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    return code, said[-_LAST_WORDS:] or f"it ended with {code}"


def _within_patience(process: "subprocess.Popen[str]", reader: str, wait: Callable[[], _T]) -> _T:
    """The result of `wait`; where that takes too long, the process is ended. Raises `CannotRead`."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        process.kill()

    timer = threading.Timer(_PATIENCE, end)
    timer.daemon = True
    timer.start()
    try:
        found = wait()
    finally:
        timer.cancel()
    if ended.is_set():
        raise CannotRead(f"{reader} was ended: it had said nothing for {_PATIENCE:.0f} seconds")
    return found


@contextmanager
def _process(line: list[str], errors: IO[bytes]) -> "Iterator[subprocess.Popen[str]]":
    """A process that ends with the block, however that ends."""
    environment = os.environ | {
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    try:
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True, env=environment
        )
    except OSError as error:
        raise CannotRead(f"{line[0]} cannot be run ({error.strerror}): KUN_READER_PYTHON names it") from error
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _answer(folder: Path) -> Answer:
    said = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    states = folder / "states.npy"
    return Answer(
        said["reader"],
        said.get("tokens"),
        said.get("chats"),
        said.get("chat_tokens"),
        np.load(states) if states.is_file() else None,
    )

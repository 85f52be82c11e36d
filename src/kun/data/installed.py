"""The documentation of the installed Python packages: text that every machine has.

Docstrings and signatures of the standard library and of all that is in site-packages are read from the source, without
importing it. What is written in C has no source: a few known modules (`COMPILED`) are imported, in a process of their
own. A docstring that was met before is left out.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

from kun.data.documented import Documented
from kun.data.workers import cores

#: modules that are imported for their docstrings
COMPILED = """
    builtins math cmath itertools functools collections operator time sys posix re zlib array struct binascii
    bisect heapq random select socket sqlite3 unicodedata marshal _thread atexit gc errno signal fcntl mmap
    hashlib json datetime decimal
    numpy numpy.linalg numpy.fft numpy.random torch torch.linalg torch.fft torch.special torch.nn.functional
""".split()
_LEFT_OUT = frozenset(
    """
    test tests testing _vendor _vendored vendored idlelib lib2to3 turtledemo ensurepip site-packages dist-packages
    node_modules __pycache__
    """.split()
)
_BYTES = 6 * 2**20  # of source for one process
_SHORTEST = 20  # characters of a docstring that says something


def entries(processes: int | None = None) -> Iterator[Documented]:
    """All that is documented, module by module: the standard library, what is compiled, site-packages by name."""
    seen: set[bytes] = set()
    for entry in _all_entries(processes or cores()):
        digest = blake2b(entry.doc.encode(), digest_size=12).digest()
        if len(entry.doc) >= _SHORTEST and digest not in seen:
            seen.add(digest)
            yield entry


def documents(processes: int | None = None) -> Iterator[tuple[str, str]]:
    """The name and the whole documentation of each module."""
    for module, found in groupby(entries(processes), lambda entry: entry.module):
        yield module, "\n\n".join(map(shown, found)) + "\n"


def shown(entry: Documented) -> str:
    """An entry as a document has it: as it is called, and below it, indented, what is said of it."""
    if entry.kind == "module":
        return f"module {entry.name}\n\n{entry.doc}"
    word = "class" if entry.kind == "class" else "def"
    body = "\n".join(f"    {line}" if line else "" for line in entry.doc.splitlines())
    return f"{word} {entry.call}\n{body}"


def _all_entries(processes: int) -> Iterator[Documented]:
    waiting: deque[Future[list[Documented]]] = deque()
    with ThreadPoolExecutor(processes) as threads:  # each waits for a process
        try:
            for requests in _requests():
                waiting.append(threads.submit(_ask, requests))
                if len(waiting) > 2 * processes:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for unwanted in waiting:
                unwanted.cancel()


def _ask(requests: list[tuple[str | None, str]]) -> list[Documented]:
    """What a process finds; nothing of those requests after one at which it died."""
    answers = subprocess.run(
        [sys.executable, "-P", "-m", "kun.data.documented"],
        input="".join(json.dumps(request) + "\n" for request in requests).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        check=False,
        start_new_session=True,
    ).stdout
    lines = answers.decode().split("\n")[:-1]
    return [Documented(*values) for line in lines for values in json.loads(line)]


def _requests() -> Iterator[list[tuple[str | None, str]]]:
    """Files with the names of their modules, some megabytes at a time; and the modules that are imported."""
    paths = sysconfig.get_paths()
    standard, *others = dict.fromkeys((paths["stdlib"], paths["purelib"], paths["platlib"]))
    yield from _in_parts(Path(standard))
    yield [(None, module) for module in COMPILED]
    for root in others:
        yield from _in_parts(Path(root))


def _in_parts(root: Path) -> Iterator[list[tuple[str | None, str]]]:
    requests: list[tuple[str | None, str]] = []
    size = 0
    for path, module in _sources(root):
        requests.append((str(path), module))
        size += path.stat().st_size
        if size >= _BYTES:
            yield requests
            requests, size = [], 0
    yield requests


def _sources(root: Path) -> Iterator[tuple[Path, str]]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_package(name))
        stems = {name[:-3] for name in names if name.endswith(".py")}
        for name in sorted(names):
            stem, _, kind = name.rpartition(".")
            if kind == "py" or (kind == "pyi" and stem not in stems):  # a stub says what the source says
                path = Path(folder, name)
                if path.is_file():
                    yield path, _module(path, root)


def _is_package(name: str) -> bool:
    return name not in _LEFT_OUT and name.isidentifier()


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)

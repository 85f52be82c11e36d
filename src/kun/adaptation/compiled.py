"""What the system's C compiler builds for this processor: one builder, one cache, one stamp for all of it.

A library's name is the digest of its sources, the flags, the compiler and the processor, so that a home folder
shared by two machines holds two. Next to it lies the SHA-256 of its bytes: one that does not match is built anew.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from kun.atomic_files import new_file, sha256
from kun.errors import KunError
from kun.settings import settings

COMPILE_SECONDS = 120


def open_library(name: str, source: Path, flags: Sequence[str]) -> ctypes.CDLL:
    """The library of a C `source` and of the sources next to it, built where it is not there whole (some seconds).

    Several processes may build at once. Where the cache cannot be written the library serves this process alone.
    Raises OSError, which says why there is none.
    """
    if not settings().native:
        raise OSError("KUN_NATIVE is off")
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("no C compiler (install gcc or clang for several times the speed)")
    try:
        path = settings().home / "cache" / "kernels" / f"{name}-{_key(compiler, source, flags)}.so"
        return _opened(path) or _built(path, [compiler, *flags, str(source)])
    except subprocess.SubprocessError as error:
        raise OSError(str(error)) from error


def _opened(path: Path) -> ctypes.CDLL | None:
    """A library whose bytes are those that were built; None for any other."""
    try:
        whole = _stamp(path).read_bytes().strip() == sha256(path).encode()
        return ctypes.CDLL(str(path)) if whole else None
    except OSError:
        return None


def _stamp(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _built(path: Path, command: list[str]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch) / path.name
        command = [*command, "-o", str(built), "-lpthread", "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
        if done.returncode:
            first = (done.stderr.strip() or "no message").splitlines()[0]
            raise OSError(f"{Path(command[0]).name} failed: {first}")
        with suppress(OSError, KunError):  # a cache: read-only or full, it keeps nothing
            with new_file(path) as fresh:
                shutil.copyfile(built, fresh)
            with new_file(_stamp(path)) as fresh:
                fresh.write_text(sha256(built))
        return _opened(path) or ctypes.CDLL(str(built))


@cache
def _key(compiler: str, source: Path, flags: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for each in sorted((source, *source.parent.glob("*.h"))):
        digest.update(each.name.encode() + each.read_bytes())
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, timeout=COMPILE_SECONDS, check=True
    ).stdout
    digest.update("\0".join([*flags, version, _processor()]).encode())
    return digest.hexdigest()[:24]


def _processor() -> str:
    """The processor's features, as the system states them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())

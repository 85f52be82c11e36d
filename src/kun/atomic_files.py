"""Files and folders that are whole or not there: atomic writes, digests, and names that stay inside."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

from kun.errors import BadInput, DamagedFile, NoSpace, NotWritable
from kun.settings import settings

#: (stage, done, total): bytes of work, as far as they are known
Progress = Callable[[str, int, int | None], None]


class DetailedProgress(Protocol):
    """A `Progress` that also takes a word on the current item."""

    def __call__(self, stage: str, done: int, total: int | None, detail: str = "") -> None: ...


_CHUNK = 2**20
_POINTER = b"version https://git-lfs.github.com/spec/"
_MOST_VERDICTS = 4096
#: the coarsest clock of a file system in use (FAT): a file may change again within it and keep its time
_CLOCK_NS = 2 * 10**9


def silent(stage: str, done: int, total: int | None) -> None:
    """A `Progress` that tells nobody."""


def sha256(path: Path, progress: Progress = silent) -> str:
    """The SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    buffer = memoryview(bytearray(_CHUNK))  # one, which stays in the processor's cache
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
            done += size
            progress("checking the digest", done, total)
    return digest.hexdigest()


def check_digest(path: Path, expected: str, name: str, progress: Progress = silent) -> None:
    """Raise `DamagedFile`, naming both digests, where `path` is not the file that was meant."""
    found = sha256(path, progress)
    if found != expected:
        raise DamagedFile(
            f"{name} has the SHA-256 {found}, but {expected} was expected: it is damaged or not the file "
            f"that was meant; it was not used. Try again, and mistrust the source if it happens twice."
        )


def check_once(path: Path, expected: str, progress: Progress = silent) -> None:
    """Raise `DamagedFile` where a file has not the recorded digest; it is read again only after a change of it.

    Verdicts lie under KUN_HOME/cache/checked, an empty file each, whose name is a digest of the path, the inode, the
    size, the times of change and what was expected. A file that changed within the clock's granularity gets none.
    """
    now = time.time_ns()
    verdict, changed = _verdict(path, expected)
    if verdict.exists():
        return
    found = sha256(path, progress)
    if found != expected:
        raise DamagedFile(
            f"{path} has the SHA-256 {found}, but {expected} was recorded of it: it is damaged and was not used. Pull, "
            f"copy or make it again."
        )
    if now - changed > _CLOCK_NS and _verdict(path, expected)[0] == verdict:
        with suppress(OSError):  # a cache: the file is read again next time
            verdict.parent.mkdir(parents=True, exist_ok=True)
            verdict.touch()
            kept = list(verdict.parent.iterdir())
            if len(kept) > _MOST_VERDICTS:
                for old in sorted(kept, key=lambda one: one.stat().st_mtime_ns)[: _MOST_VERDICTS // 2]:
                    old.unlink(missing_ok=True)


def _verdict(path: Path, expected: str) -> tuple[Path, int]:
    """The name under which it is remembered that `path`, as it is now, is right; and when it last changed."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DamagedFile(f"{path} is missing: pull or copy it again.") from error
    times = status.st_mtime_ns, status.st_ctime_ns
    facts = repr((str(path.absolute()), status.st_ino, status.st_size, *times, expected))
    name = hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()
    return settings().home / "cache" / "checked" / name, max(times)


@contextmanager
def checking(files: Mapping[Path, str]) -> Iterator[None]:
    """`check_once` of each file's digest in another thread, while the block reads the files; joined at its end.

    Raises `DamagedFile`, in place of what the damage led the block to raise.
    """
    with ThreadPoolExecutor(1) as pool:
        checks = [pool.submit(check_once, path, expected) for path, expected in files.items()]
        try:
            yield
        finally:
            for check in checks:
                check.result()


def sealed(value: Mapping[str, object]) -> bytes:
    """An object as JSON whose last entry is the digest of all bytes before it; its first says that there is one."""
    body = json.dumps({"sealed": True, **value}, indent=2, ensure_ascii=False).removesuffix("\n}").encode()
    return body + _seal(body)


def unsealed(data: bytes) -> object:
    """A JSON value, without the seal if it has one. Raises ValueError for no JSON, and where a sealed byte changed."""
    value: object = json.loads(data)
    if not isinstance(value, dict) or not value.keys() & {"sealed", "seal"}:
        return value
    body = data.rpartition(b',\n  "seal"')[0]
    if data != body + _seal(body):
        raise ValueError("it does not match its own digest")
    return {key: held for key, held in value.items() if key not in ("sealed", "seal")}


def _seal(body: bytes) -> bytes:
    return f',\n  "seal": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, for a name that came from a file. Raises `DamagedFile` where it would lead out of the folder."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts or ":" in name:
        raise DamagedFile(f"{folder} names the file {name!r}, which is outside the folder: it was not read.")
    return folder / pure


def refuse_pointer(path: Path) -> None:
    """Raise `DamagedFile` for the few lines that git keeps in the place of a large file (git-lfs)."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise DamagedFile(
                f"{path} is a git-lfs pointer, not the file itself, which git did not fetch: run `git lfs install` and "
                f"`git lfs pull` in that folder, or download the file from where the model was published."
            )


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into `NoSpace` and `NotWritable`, which name the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"The disk of {path} is full: free some space, or set KUN_HOME to a folder elsewhere."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise NotWritable(
                f"{path} cannot be written ({os.strerror(error.errno)}): set KUN_HOME to a folder of yours."
            ) from error
        raise


def check_place(path: Path, example: str) -> Path:
    """Make the folder of a file that long work will write, so that a bad place is known before it; the path to write.

    `example` is a name that such a file could have. Raises `BadInput` where `path` is a folder, `NoSpace`,
    `NotWritable`.
    """
    path = path.expanduser()
    with writing_to(path.parent):
        if path.is_dir():
            raise BadInput(f"{path} is a folder: name a file, such as {path / example}.")
        _refuse_what_is_no_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    return path


def _refuse_what_is_no_file(path: Path) -> None:
    """Raise `BadInput` for a folder, a device or a pipe, in whose place no file is put."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a device or a pipe"
        raise BadInput(f"{path} is {what}, which is not replaced: name a file.")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target` that becomes `target` when the block ends well, and vanishes otherwise.

    A folder that was at `target` is replaced. Everything is on the disk before the name is. Raises `NoSpace`,
    `NotWritable`.
    """
    with writing_to(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            # mkdtemp's 0700 would lock out everyone whom the user's own umask lets in
            fresh.chmod(0o777 & ~_umask())
            yield fresh
            for path in sorted(fresh.rglob("*"), reverse=True):
                sync(path)
            sync(fresh)
            replace_folder(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def replace_folder(fresh: Path, target: Path) -> None:
    """Give the whole folder `fresh` the name `target`.

    What had that name stands aside meanwhile: after a kill `restore_replaced` finds it.
    """
    if target.exists() or target.is_symlink():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
        target.rename(old / "folder")
        fresh.rename(target)
        sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    else:
        fresh.rename(target)
        sync(target.parent)


def restore_replaced(parent: Path) -> None:
    """Give folders in `parent` that a killed process was replacing their names back, where nothing has them."""
    for aside in parent.glob(".*.old"):
        target = parent / aside.name[1:].rsplit(".", 2)[0]
        if (aside / "folder").is_dir() and not target.exists():
            (aside / "folder").rename(target)
            sync(parent)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside `target` whose file becomes `target` when the block ends well.

    Raises `BadInput` where something else than a file is there, `NoSpace`, `NotWritable`.
    """
    with writing_to(target.parent):
        _refuse_what_is_no_file(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # the ending stays: some readers go by it
        suffix = f".tmp{target.suffix}"
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=suffix, dir=target.parent)
        os.close(handle)
        fresh = Path(name)
        try:
            fresh.chmod(0o666 & ~_umask())
            yield fresh
            sync(fresh)
            fresh.replace(target)
            sync(target.parent)
        finally:
            fresh.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or a folder's names are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows keeps a folder's names by itself and opens no folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's umask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

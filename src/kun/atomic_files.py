"""Files and folders that are whole or not there: atomic writes, digests, and names that stay inside."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from kun.errors import DamagedFile, NoSpace, NotWritable

#: (stage, done, total): bytes of work, as far as they are known
Progress = Callable[[str, int, int | None], None]

_CHUNK = 4 * 2**20


def silent(stage: str, done: int, total: int | None) -> None:
    """A `Progress` that tells nobody."""


def sha256(path: Path, progress: Progress = silent) -> str:
    """The SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
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


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, for a name that came from a file. Raises `DamagedFile` where it would lead out of the folder."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts or ":" in name:
        raise DamagedFile(f"{folder} names the file {name!r}, which is outside the folder: it was not read.")
    return folder / pure


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
    """A path beside `target` whose file becomes `target` when the block ends well. Raises `NoSpace`, `NotWritable`."""
    with writing_to(target.parent):
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

"""What can be made anew, kept under KUN_HOME/cache: files whose names end in the digest of their content."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from kun.atomic_files import check_once, new_file, sha256
from kun.errors import DamagedFile, NoSpace, NotWritable
from kun.settings import settings


def cache_folder(kind: str) -> Path:
    """The folder of one kind of kept files: "quantized", "tokenizers"."""
    return settings().home / "cache" / kind


def kept(kind: str, key: str, suffix: str) -> Iterator[Path]:
    """What is kept under `key`, whole; what is damaged is deleted."""
    for path in sorted(cache_folder(kind).glob(f"{key}.*{suffix}")):
        try:
            check_once(path, path.name.split(".")[-2])
        except DamagedFile:
            path.unlink(missing_ok=True)
        else:
            yield path


def keep(kind: str, key: str, suffix: str, write: Callable[[Path], None]) -> Path | None:
    """Keep the file that `write` writes; None where there is no room, which takes nothing from anyone."""
    folder = cache_folder(kind)
    part = folder / f"{key}.part"
    with suppress(NoSpace, NotWritable, OSError):
        with new_file(part) as fresh:
            write(fresh)
            digest = sha256(fresh)
        target = folder / f"{key}.{digest}{suffix}"
        part.replace(target)
        return target
    return None


def cached_bytes(*keys: str) -> int:
    """The size of all that is kept under names with one of `keys` in them."""
    files = {path for kind in ("quantized", "tokenizers") for path in cache_folder(kind).glob("*.*")}
    return sum(path.stat().st_size for path in files if any(key in path.name for key in keys))

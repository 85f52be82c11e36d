"""The digests of a knowledge base's files: each recorded once it is written, compared when it is read.

Lance writes a file once, under a name of its own, and never changes it.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from kun.atomic_files import check_once, new_file, sealed, sha256, unsealed
from kun.errors import DamagedFile, KunError

log = logging.getLogger(__name__)
_RECORD = "digests.json"
_CHANGING = "latest_version_hint.json"


def record(folder: Path, tables: Iterable[str]) -> None:
    """Record the digests of files of these `tables` that have none yet; the caller holds the lock of the base.

    A disk that is full loses nothing: they are recorded after the next commit.
    """
    known = _read(folder)
    files = [path for table in tables for path in (folder / f"{table}.lance").rglob("*") if _is_kept(path)]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    with suppress(KunError, OSError):
        found = {name: known.get(name) or sha256(path) for name, path in names.items()}
        if found != known:
            with new_file(folder / _RECORD) as fresh:
                fresh.write_bytes(sealed(found))


def check(folder: Path, table: str) -> None:
    """Raise `DamagedFile`, which names the file, where one of a table is not as it was written.

    Files of before digests were recorded are taken as they are.
    """
    for name, digest in _read(folder).items():
        path = folder / name
        if name.startswith(f"{table}.lance/") and path.exists():
            try:
                check_once(path, digest)
            except DamagedFile:
                if path.exists():  # else another process has tidied it away
                    raise


def _read(folder: Path) -> Mapping[str, str]:
    """The recorded digests, by paths within `folder`. A damaged record is named in the log and made anew."""
    try:
        values = unsealed((folder / _RECORD).read_bytes())
        return {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): the files are taken as they are.", folder / _RECORD, error)
        return {}


def _is_kept(path: Path) -> bool:
    return path.is_file() and path.name != _CHANGING and not path.name.startswith(".")

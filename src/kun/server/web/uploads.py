"""Files that people upload: named safely, and kept in the knowledge base's own folder as what is added."""

import os
import unicodedata
from pathlib import Path

_MAX_NAME_BYTES = 180
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)


def safe_name(name: str) -> str:
    """A file name that stays in its folder: no folders, control characters or leading dots; all else as it is."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    name = "".join(" " if letter.isspace() else letter for letter in name)
    name = "".join("_" if letter in '<>:"|?*' else letter for letter in name if letter.isprintable())
    name = " ".join(name.split()).lstrip(". ").rstrip(". ")
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path would read more into it
    suffix = suffix if len(suffix.encode()) <= 16 else ""
    stem = stem if suffix else name
    while len((stem + suffix).encode()) > _MAX_NAME_BYTES:
        stem = stem[:-1]
    if not stem or stem.lower() in _RESERVED:
        stem = f"file{'_' + stem if stem else ''}"
    return stem + suffix


def put(folder: Path, name: str, content: Path) -> Path:
    """Move a received file into the folder under its safe name, in one step, in the place of an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / safe_name(name)
    with content.open("rb") as received:
        os.fsync(received.fileno())
    content.replace(target)
    return target


def human_size(size: int) -> str:
    """12 kB, 3.4 MB: three figures at most."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return (
        f"{value:.1f} {units[0]}" if value < 10 and units[0] not in ("B", "kB") else f"{value:.0f} {units[0]}"
    )

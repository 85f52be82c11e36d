"""Office files are archives of XML, and an archive can be a bomb: it is weighed before it is opened."""

import re
import zipfile
from pathlib import Path

from kun.errors import DamagedFile, KunError, TooLarge, UnsupportedFormat
from kun.knowledge.folder import printable

_MOST_ENTRIES = 20_000
_MOST_RATIO = 200  # XML shrinks some 10 to 50 times
_SMALL = 16 * 2**20  # below this many bytes no ratio does harm
_PROLOGUE = 65_536
_BARE_DOCTYPE = re.compile(
    rb"<!DOCTYPE[^<>\[\]]*(?:\[\s*\]\s*)?>"
)  # what is declared elsewhere is never fetched


def check_archive(file: Path, most: int) -> None:
    """Refuse what would grow above `most` bytes, or much faster than documents do, and XML with entities.

    Raises `TooLarge`, `UnsupportedFormat`, `DamagedFile`.
    """
    name = printable(file.name)
    try:
        with zipfile.ZipFile(file) as archive:
            _check_sizes(name, archive.infolist(), most)
            _check_entities(name, archive)
    except KunError:
        raise
    except Exception as error:  # zipfile and zlib have many names for one thing
        raise DamagedFile(f"{name} is truncated or damaged: save or download it again.") from error


def _check_sizes(name: str, entries: list[zipfile.ZipInfo], most: int) -> None:
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > most or len(entries) > _MOST_ENTRIES:
        raise TooLarge(
            f"{name} would unpack to {unpacked / 1e6:,.0f} MB in {len(entries):,} parts, more than is read:"
            " split it, or raise KUN_MAX_FILE_BYTES."
        )
    if unpacked > _SMALL and unpacked > _MOST_RATIO * max(packed, 1):
        raise TooLarge(
            f"{name} would unpack to {unpacked // max(packed, 1)} times its size, as no document does:"
            " it is refused as a zip bomb."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise UnsupportedFormat(f"{name} is encrypted: save it without a password.")


def _check_entities(name: str, archive: zipfile.ZipFile) -> None:
    """Books name their document type; one with declarations inside can make entities that expand without end."""
    for entry in archive.infolist():
        if not entry.filename.lower().endswith((".xml", ".rels", ".vml")):
            continue
        with archive.open(entry) as part:
            prologue = part.read(_PROLOGUE).replace(b"\0", b"")
        prologue = _BARE_DOCTYPE.sub(b"", prologue)
        if b"<!DOCTYPE" in prologue or b"<!ENTITY" in prologue:
            raise UnsupportedFormat(
                f"{name} declares XML entities, which can grow without end: it is refused."
            )

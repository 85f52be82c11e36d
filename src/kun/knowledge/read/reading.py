"""Files to text: whatever a file is, by its content and not only by its name.

Text, tables and source code are read here. PDF, Office, mail, pictures and HTML go to a process of their own
(`worker.py`) with limits on time and memory, so that a hostile file can neither hang nor kill the program. Nothing
that a file names is ever fetched.
"""

from pathlib import Path

from kun.errors import BadInput, DamagedFile, KunError
from kun.knowledge.folder import printable
from kun.knowledge.read.archive import check_archive
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.kinds import ARCHIVES, TEXTS, sniff
from kun.knowledge.read.plain import check_size, checked, max_text, read_text
from kun.knowledge.read.process import convert
from kun.settings import settings


def read(file: Path) -> Extracted:
    """The text of a file, with its kind and the places where its pages begin.

    Raises `BadInput` for an empty file, `HoldsNoText`, `TooLarge`, `UnsupportedFormat` for what is no text
    (programs, sounds, encrypted files), `DamagedFile` for what is truncated or takes too long to read, and
    nothing else but `OSError`: whatever a damaged file leads a parser to becomes a sentence about that file.
    """
    name = printable(file.name)
    try:
        return checked(name, _read(file, name))
    except (KunError, OSError):
        raise
    except MemoryError as error:
        raise DamagedFile(f"{name} needs too much memory to read: split it.") from error
    except RecursionError as error:
        raise DamagedFile(f"{name} is nested too deeply to read.") from error
    except Exception as error:
        raise DamagedFile(f"{name} is damaged and cannot be read ({type(error).__name__}).") from error


def _read(file: Path, name: str) -> Extracted:
    size = file.stat().st_size
    if size == 0:
        raise BadInput(f"{name} is empty.")
    check_size(name, size, settings().max_file_bytes)
    with file.open("rb") as content:
        head = content.read(65_536)
    format = sniff(file, head)
    if format == "text":
        return read_text(file, name)
    if format in ARCHIVES:
        check_archive(file, settings().max_file_bytes)
    if format in TEXTS:
        check_size(name, size, max_text())
    return convert(file, format)

"""The reader of each format that needs a parser, and what is attached to a document. In the worker's process only."""

from collections.abc import Callable
from pathlib import Path

from kun.errors import BadInput, UnsupportedFormat
from kun.knowledge.read.archive import check_archive
from kun.knowledge.read.documents import READERS as OFFICE
from kun.knowledge.read.epub import read_epub
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.html import read_html
from kun.knowledge.read.kinds import ARCHIVES, sniff
from kun.knowledge.read.mail import read_mail
from kun.knowledge.read.notebook import read_notebook
from kun.knowledge.read.ocr import read_picture
from kun.knowledge.read.opendocument import read_opendocument
from kun.knowledge.read.plain import check_size, checked, max_text, read_text
from kun.knowledge.read.rtf import read_rtf
from kun.settings import settings

_DEEPEST = 3  # a mail in a mail in a mail


def read_attached(file: Path, name: str, depth: int) -> Extracted:
    """The text of a file that came inside another one, `depth` levels down. Raises what reading a file raises."""
    size = file.stat().st_size
    if size == 0:
        raise BadInput(f"{name} is empty.")
    check_size(name, size, settings().max_file_bytes)
    format = sniff(file, file.read_bytes()[:65_536])
    if format == "text":
        return checked(name, read_text(file, name))
    if format in ARCHIVES:
        check_archive(file, settings().max_file_bytes)
    if format == "html":
        check_size(name, size, max_text())
    if format == "mail":
        if depth >= _DEEPEST:
            raise UnsupportedFormat(f"{name} is a mail inside mails inside mails: save it by itself.")
        return checked(name, read_mail(file, name, read_attached, depth + 1))
    return checked(name, READERS[format](file, name))


READERS: dict[str, Callable[[Path, str], Extracted]] = {
    **OFFICE,
    "html": read_html,
    "mail": lambda file, name: read_mail(file, name, read_attached, 0),
    "opendocument": read_opendocument,
    "epub": read_epub,
    "rtf": read_rtf,
    "notebook": read_notebook,
    "picture": read_picture,
}

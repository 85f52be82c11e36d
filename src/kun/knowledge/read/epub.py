"""EPUB books: their chapters in the order in which they are read."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from kun.errors import DamagedFile, KunError, UnsupportedFormat
from kun.knowledge.read.encoding import decode_page
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.html import fragment_text

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
_ENCRYPTED_TEXT = re.compile(rb"CipherReference[^>]+URI=\"[^\"]+\.x?html?\"")


def read_epub(file: Path, name: str) -> Extracted:
    """A book as Markdown, its title above. Raises `UnsupportedFormat` for one with copy protection, `DamagedFile`."""
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        if "META-INF/encryption.xml" in names and _ENCRYPTED_TEXT.search(
            archive.read("META-INF/encryption.xml")
        ):
            raise UnsupportedFormat(
                f"{name} is protected against copying: Kun reads books without protection."
            )
        package = _package(archive, name)
        root = _tree(archive.read(package), name)
        title = " ".join((_first(root, "title") or "").split())
        paths = [path for path in _chapters(root, package) if path in names]
        if not paths:  # a book whose table of contents is broken still has its pages
            paths = [
                path for path in archive.namelist() if path.lower().endswith((".xhtml", ".html", ".htm"))
            ]
        chapters = [_chapter(archive, path, name) for path in paths]
    text = "\n\n".join(chapter for chapter in chapters if chapter.strip())
    if title and title not in text[:500]:
        text = f"# {title}\n\n{text}"
    return Extracted(text + "\n", "markdown")


def _chapter(archive: zipfile.ZipFile, chapter: str, name: str) -> str:
    try:
        return fragment_text(decode_page(archive.read(chapter), name), name)
    except KunError:
        return ""  # an empty page between two chapters


def _package(archive: zipfile.ZipFile, name: str) -> str:
    """The file that lists all others."""
    root = _tree(archive.read("META-INF/container.xml"), name)
    for element in root.iter("{*}rootfile"):
        path = element.get("full-path")
        if path in archive.namelist():
            return str(path)
    raise DamagedFile(f"{name} is damaged: its table of contents is missing. Download it again.")


def _chapters(root: "Element", package: str) -> Iterator[str]:
    """The paths of the pages, as the spine orders them; those of the table of contents are left out."""
    folder = posixpath.dirname(package)
    items = {item.get("id"): item for item in root.iter("{*}item")}
    for reference in root.iter("{*}itemref"):
        item = items.get(reference.get("idref"))
        if (
            item is None
            or item.get("media-type") not in _PAGES
            or "nav" in (item.get("properties") or "").split()
        ):
            continue
        href = unquote((item.get("href") or "").split("#")[0])
        yield posixpath.normpath(posixpath.join(folder, href))


def _tree(content: bytes, name: str) -> "Element":
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise DamagedFile(f"{name} is damaged: download it again.") from error


def _first(root: "Element", tag: str) -> str | None:
    element = next(root.iter(f"{{*}}{tag}"), None)
    return None if element is None else "".join(element.itertext())

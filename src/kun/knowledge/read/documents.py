"""PDF, Word, slides, sheets and HTML to text. Runs in the worker's process only."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kun.errors import DamagedFile, UnsupportedFormat
from kun.knowledge.read.encoding import decode
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.sheets import read_sheets
from kun.knowledge.read.word import read_word
from kun.knowledge.rows import TextKind

if TYPE_CHECKING:
    from pdfminer.layout import LTPage

_END_OF_PDF = 8192  # bytes at the end of a file in which its end must be marked
_TITLE_WITHIN = 500  # characters of a page in which its title may stand again
_SLIDE = re.compile(r"\s*<!-- Slide number: \d+ -->\n?")
_PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)\s]*(?:\s+\"[^\"]*\")?\)")


def read_pdf(file: Path, name: str) -> Extracted:
    """The text of each page. Raises `DamagedFile` for a truncated file, `UnsupportedFormat` for one that is
    encrypted or holds only pictures of pages."""
    from pdfminer.high_level import extract_pages
    from pdfminer.pdfdocument import PDFPasswordIncorrect, PDFTextExtractionNotAllowed
    from pdfminer.psexceptions import PSException

    content = file.read_bytes()
    if b"%%EOF" not in content[-_END_OF_PDF:]:
        raise DamagedFile(f"{name} is truncated: its end is missing. Download or save it again.")
    try:
        pages = [_page_text(page) for page in extract_pages(file)]
    except (PDFPasswordIncorrect, PDFTextExtractionNotAllowed) as error:
        raise UnsupportedFormat(f"{name} is encrypted: save it without a password.") from error
    except (PSException, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DamagedFile(f"{name} is damaged: download or save it again.") from error
    if not pages:
        raise DamagedFile(f"{name} is damaged: no page can be found in it.")
    if not any(page.strip() for page in pages):
        raise UnsupportedFormat(
            f"{name} holds {len(pages)} scanned pages without text: run a text recognition (OCR) on it first."
        )
    return _paged(pages, "text")


def _page_text(page: "LTPage") -> str:
    from pdfminer.layout import LTTextContainer

    return "\n".join(_unwrapped(box.get_text()) for box in page if isinstance(box, LTTextContainer))


def _unwrapped(box: str) -> str:
    """A paragraph as it was before it was set in lines: no hyphen at a line's end, no space between Chinese lines."""
    box = re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", box)
    box = re.sub(r"(?<=[\u2e80-\u9fff\uff00-\uffef])\n(?=[\u2e80-\u9fff\uff00-\uffef])", "", box)
    return re.sub(r"\x00|\(cid:\d+\)", "", box)


def _paged(pages: list[str], kind: TextKind) -> Extracted:
    """The pages one after the other, and where each begins."""
    text, starts = "", []
    parts: list[str] = []
    length = 0
    for page in pages:
        body = page.strip("\n") + "\n\n"
        starts.append(length)
        parts.append(body)
        length += len(body)
    text = "".join(parts)
    return Extracted(text, kind, starts)


def read_slides(file: Path, name: str) -> Extracted:
    """The slides as Markdown, each a page, notes and tables included."""
    parts = _SLIDE.split(_markdown(file, ".pptx"))
    return _paged([_without_targets(part) for part in parts[1:]] or parts, "markdown")


def read_html(file: Path, name: str) -> Extracted:
    """Headings, lists, tables and the text of links as Markdown; scripts, styles and addresses dropped."""
    import io

    from markitdown import MarkItDown, StreamInfo

    text = decode(file.read_bytes(), name).encode()
    info = StreamInfo(extension=".html", mimetype="text/html", charset="utf-8")
    result = MarkItDown(enable_plugins=False).convert_stream(io.BytesIO(text), stream_info=info)
    body = _without_targets(result.markdown)
    title = " ".join((result.title or "").split())
    untitled = title and title not in body[:_TITLE_WITHIN]
    return Extracted(f"# {title}\n\n{body}" if untitled else body, "markdown")


def _markdown(file: Path, extension: str) -> str:
    from markitdown import MarkItDown, StreamInfo

    with file.open("rb") as content:
        result = MarkItDown(enable_plugins=False).convert_stream(
            content, stream_info=StreamInfo(extension=extension)
        )
    return str(result.markdown)


def _without_targets(markdown: str) -> str:
    """Links and pictures as their text alone: nobody searches for an address, and none is ever fetched."""
    return _LINK.sub(r"\1", _PICTURE.sub(r"\1", markdown))


READERS: dict[str, Callable[[Path, str], Extracted]] = {
    "pdf": read_pdf,
    "docx": read_word,
    "pptx": read_slides,
    "xlsx": read_sheets,
    "html": read_html,
}

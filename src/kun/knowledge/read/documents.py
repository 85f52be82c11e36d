"""PDF, Word, slides, sheets and HTML to text. Runs in the worker's process only."""

import re
from collections.abc import Callable
from pathlib import Path

from kun.knowledge.read.encoding import decode
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.pdf import paged, read_pdf
from kun.knowledge.read.sheets import read_sheets
from kun.knowledge.read.word import read_word

_TITLE_WITHIN = 500  # characters of a page in which its title may stand again
_SLIDE = re.compile(r"\s*<!-- Slide number: \d+ -->\n?")
_PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)\s]*(?:\s+\"[^\"]*\")?\)")


def read_slides(file: Path, name: str) -> Extracted:
    """The slides as Markdown, each a page, notes and tables included."""
    parts = _SLIDE.split(_markdown(file, ".pptx"))
    return paged([_without_targets(part) for part in parts[1:]] or parts, "markdown")


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

"""Web pages to Markdown by what a reader sees: headings, paragraphs, lists and tables, without the site's menus."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from kun.errors import DamagedFile, HoldsNoText
from kun.knowledge.read.encoding import decode_page
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.flow import Piece, pieces_of
from kun.knowledge.read.visible import drop_unseen

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_DEEP = 2_000  # tags; the library stops where so many stand in one another
_TITLE_WITHIN = 500  # characters of a page in which its title may stand again
_LINKED = 0.8  # the share of a piece's letters that are links, from which it may be navigation
_NAVIGATION = 0.5  # the same for a menu, a header or a footer
_WORDS = re.compile(r"\w+")


def read_html(file: Path, name: str) -> Extracted:
    """A web page by its main content. Raises `HoldsNoText` for one that is all menu."""
    source = decode_page(file.read_bytes(), name)
    text, menus = page_text(source, name)
    if not text.strip():
        what = "a page that is all menu" if menus else "a page without text"
        why = "is all menu: links and navigation, and no text of its own" if menus else "holds no text"
        raise HoldsNoText(f"{name} {why}.", what)
    return Extracted(text, "markdown")


def page_text(source: str, name: str) -> tuple[str, int]:
    """The Markdown of a web page's main content, and how many pieces of navigation were left out."""
    root = parsed(source, name)
    title = " ".join((root.findtext(".//title") or "").split())
    drop_unseen(root)
    pieces = _pieces(root)
    doubtful = [piece for piece in pieces if _is_doubtful(piece)]
    kept_by_library = _main_words(source) if doubtful else set()
    kept = [piece for piece in pieces if not _is_navigation(piece, kept_by_library)]
    if len(kept) < len(pieces) and not any(piece.is_body for piece in kept):
        return "", len(pieces)
    body = joined(kept)
    if title and title not in body[:_TITLE_WITHIN]:
        body = f"# {title}\n\n{body}" if body else ""
    return body, len(pieces) - len(kept)


def fragment_text(source: str, name: str) -> str:
    """The Markdown of HTML that is a document or a part of one, not a site's page: all that is seen in it."""
    root = parsed(source, name)
    drop_unseen(root)
    return joined(_pieces(root))


def parsed(source: str, name: str) -> "HtmlElement":
    """The tree of a page. Raises `DamagedFile` where there is none."""
    from lxml import etree, html

    # an encoding that is declared in the text no longer holds, and the text cannot hold zeros
    source = re.sub(r"\A\s*<\?xml[^>]*\?>", "", source).replace("\0", "")
    parser = html.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)
    try:
        root = html.document_fromstring(source.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, AssertionError):
        root = html.document_fromstring("<html><body></body></html>")
    if source.count("<") > _DEEP and not any(words.strip() for words in root.itertext()):
        raise DamagedFile(f"{name} is nested too deeply to read.")
    return root


def _pieces(root: "HtmlElement") -> list[Piece]:
    """The pieces of a tree; its bare text where it is nested more deeply than anybody writes."""
    try:
        return pieces_of(root)
    except RecursionError:
        return [Piece(" ".join(words.split())) for words in root.itertext() if words.strip()]


def joined(pieces: list[Piece]) -> str:
    """The pieces as Markdown: items of a list and rows of a table on lines that follow, all else apart."""
    parts: list[str] = []
    before = None
    for piece in pieces:
        if before is not None:
            parts.append("\n" if piece.follows and before.run == piece.run else "\n\n")
        parts.append(piece.text)
        before = piece
    return "".join(parts).strip("\n")


def _is_doubtful(piece: Piece) -> bool:
    return not (piece.in_navigation or piece.is_menu or piece.is_heading) and piece.linked >= _LINKED


def _is_navigation(piece: Piece, kept_by_library: set[str]) -> bool:
    """True if a piece is a part of the site's menus, and not of the page.

    Text that is no link is always the page's. Links in the middle of a page go only where a second opinion, that of
    the library, does not hold them for content either.
    """
    if piece.is_consent:
        return True
    if piece.is_heading:
        return False
    if piece.in_navigation:
        return piece.linked >= _NAVIGATION
    if piece.is_menu or piece.linked < _LINKED:
        return piece.is_menu
    words = set(_WORDS.findall(piece.text.lower()))
    return len(words & kept_by_library) < 0.8 * len(words)


def _main_words(source: str) -> set[str]:
    """The words of what trafilatura (Barbaresi 2021) holds for the main content."""
    from trafilatura import extract

    text = extract(source, include_comments=False, include_tables=True, favor_recall=True) or ""
    return set(_WORDS.findall(text.lower()))

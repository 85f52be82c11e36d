"""The tree of a web page as pieces: headings, paragraphs, items, rows of tables, each with its share of links."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kun.knowledge.read.grids import Cell, grid_lines
from kun.knowledge.read.whole import whole

if TYPE_CHECKING:
    from lxml.html import HtmlElement

BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre search section summary"
    " table tbody td tfoot th thead tr ul".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_ROLES = frozenset({"navigation", "banner", "contentinfo", "menu", "menubar", "search", "complementary"})
_MENU_NAMES = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|menubar|breadcrumbs?|sidebar|footer|topbar|pagination|pager|toc"
    r"|skip-?link|share|social|related|tags?)(?:$|[\s_-])",
    re.IGNORECASE,
)
_CONSENT = re.compile(
    r"(?:^|[\s_-])(?:cookies?|consent|gdpr|newsletter|advert|ads?|popup)(?:$|[\s_-])", re.IGNORECASE
)
_OPEN, _CLOSE, _BREAK = "\ue000", "\ue001", "\ue002"  # a link begins, ends; a line ends
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}{_BREAK}]")
_LINK = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_RAISED = str.maketrans("0123456789+-n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ")
_LOWERED = str.maketrans("0123456789+-", "₀₁₂₃₄₅₆₇₈₉₊₋")
_ANCHORS = frozenset("§¶#🔗")  # links of a heading to itself
_MENU_RUN = 3  # lines of nothing but a link that follow one another are a menu
_LONG_LINK = 40  # characters: a link as long as this says something
_MENU_LABEL = 24


@dataclass(frozen=True)
class Piece:
    """A stretch of Markdown; `linked` is the share of its letters that are links.

    Pieces of one `run` (a list, a table) that `follows` are not parted by an empty line. `is_menu` marks a run of
    lines that are nothing but short links.
    """

    text: str
    linked: float = 0.0
    is_heading: bool = False
    in_navigation: bool = False
    is_consent: bool = False
    is_menu: bool = False
    follows: bool = False
    run: int = 0

    @property
    def is_body(self) -> bool:
        return not self.is_heading and any(letter.isalnum() for letter in self.text)


@dataclass(frozen=True)
class _Place:
    """The surroundings of an element: inside a menu, a list (its indent and mark), a quotation."""

    in_navigation: bool = False
    is_consent: bool = False
    prefix: str = ""
    rest: str = ""
    run: int = 0


def pieces_of(root: "HtmlElement") -> list[Piece]:
    """The pieces of a tree in the order in which they are read. Raises `RecursionError` for one nested without end."""
    flow = _Flow()
    body = root.find("body") if root.tag == "html" else root
    flow.block(root if body is None else body, _Place())
    return _with_menus(flow.pieces)


class _Flow:
    """Walks a tree and gathers its pieces."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self._runs = 0

    def block(self, element: "HtmlElement", place: _Place) -> None:
        tag = element.tag
        place = _entered(element, place)
        if tag in _HEADINGS:
            self._heading(element, place)
        elif tag == "pre":
            self._code(element, place)
        elif tag == "table" and not is_layout(element):
            self._table(element, place)
        elif tag in _LISTS:
            self._list(element, place)
        elif tag == "dl":
            self._definitions(element, place)
        elif tag == "blockquote":
            self._children(element, replace(place, prefix=place.prefix + "> ", rest=place.rest + "> "))
        else:
            self._children(element, place)

    def _children(self, element: "HtmlElement", place: _Place) -> None:
        """Inline text between blocks as paragraphs, and the blocks."""
        parts = [element.text or ""]
        place = self._mixed(element, place, parts)
        self._paragraph(parts, place)

    def _mixed(self, element: "HtmlElement", place: _Place, parts: list[str]) -> _Place:
        for child in element:
            if not isinstance(child.tag, str):
                pass
            elif child.tag in BLOCKS:
                place = self._paragraph(parts, place)
                count = len(self.pieces)
                self.block(child, place)
                if len(self.pieces) > count:  # a list's mark is before its first piece only
                    place = replace(place, prefix=place.rest)
            elif any(inner.tag in BLOCKS for inner in child.iter() if isinstance(inner.tag, str)):
                parts.append(child.text or "")
                place = self._mixed(child, place, parts)
            else:
                parts.append(inline(child))
            parts.append(child.tail or "")
        return place

    def _paragraph(self, parts: list[str], place: _Place) -> _Place:
        lines = _lines("".join(parts))
        parts.clear()
        if not lines:
            return place
        groups = _menu_groups(lines) if not place.prefix else [(False, lines)]
        if len(lines) == 1 and not place.prefix and _is_row_of_links(lines[0]):
            groups = [(True, lines)]
        for is_menu, group in groups:
            self._put("\n".join(group), place, is_menu=is_menu)
            place = replace(place, prefix=place.rest)
        return place

    def _heading(self, element: "HtmlElement", place: _Place) -> None:
        words = " ".join(_lines(_all_inline(element)))
        if plain(words):
            self._put(words, replace(place, prefix="", rest=""), heading=_HEADINGS[element.tag])

    def _code(self, element: "HtmlElement", place: _Place) -> None:
        code = "".join(element.itertext()).strip("\n")
        if code.strip():
            self.pieces.append(Piece(f"```\n{code}\n```", in_navigation=place.in_navigation))

    def _list(self, element: "HtmlElement", place: _Place) -> None:
        run = place.run or self._new_run()
        number = whole(element.get("start"), 1)
        for child in element:
            if not isinstance(child.tag, str):
                continue
            mark = f"{number}. " if element.tag == "ol" else "- "
            indent = place.rest
            inner = replace(place, prefix=indent + mark, rest=indent + " " * len(mark), run=run)
            if child.tag in _LISTS:  # a list right inside a list belongs to the item before
                inner = replace(inner, prefix=indent + "  ", rest=indent + "  ")
                self.block(child, inner)
                continue
            self.block(child, inner) if child.tag in BLOCKS else self._paragraph([inline(child)], inner)
            number += 1

    def _definitions(self, element: "HtmlElement", place: _Place) -> None:
        """Terms and what they mean, a line each: `term: meaning`."""
        run, terms = self._new_run(), list[str]()
        for child in element.iter("dt", "dd"):
            words = " ".join(_lines(_all_inline(child)))
            if child.tag == "dt":
                terms.append(words)
            elif words:
                line = f"{', '.join(terms)}: {words}" if terms else words
                self._put(line, replace(place, run=run))
                terms = []
        for term in terms:
            self._put(term, replace(place, run=run))

    def _table(self, element: "HtmlElement", place: _Place) -> None:
        run = self._new_run()
        caption = element.find("caption")
        if caption is not None:
            self._put(" ".join(_lines(_all_inline(caption))), replace(place, run=run))
        rows = [
            [_cell(cell) for cell in row if cell.tag in {"td", "th"}]
            for row in element.iter("tr")
            if _table_of(row) is element
        ]
        heads = sum(1 for row in element.iterfind("thead/tr"))
        for line in grid_lines(rows, heads):
            self._put(line, replace(place, prefix=place.rest, run=run))

    def _new_run(self) -> int:
        self._runs += 1
        return self._runs

    def _put(self, marked: str, place: _Place, heading: int = 0, is_menu: bool = False) -> None:
        words = plain(marked)
        if not words.strip():
            return
        if heading:
            text = f"{'#' * heading} {words}"
        else:
            lines = _not_headings(words)
            text = f"\n{place.rest}".join(lines.split("\n"))
            text = place.prefix + text
        self.pieces.append(
            Piece(
                text,
                _linked(marked),
                is_heading=heading > 0,
                in_navigation=place.in_navigation,
                is_consent=place.is_consent,
                is_menu=is_menu,
                follows=place.run > 0,
                run=place.run,
            )
        )


def inline(element: "HtmlElement") -> str:
    """The text of an inline element, links marked; pictures are nothing, their alternative text neither."""
    if not isinstance(element.tag, str) or element.tag == "img":
        return ""
    if element.tag == "br":
        return _BREAK
    words = _all_inline(element)
    if element.tag == "a" and words.strip() in _ANCHORS:
        return ""
    if element.tag == "a" and element.get("href") is not None:
        return f"{_OPEN}{_MARKS.sub(' ', words)}{_CLOSE}"
    if element.tag in {"sup", "sub"} and re.fullmatch(r"[0-9+n-]{1,4}", words):
        if element.tag == "sub":
            return words.translate(_LOWERED) if "n" not in words else words
        return words.translate(_RAISED)
    return words


def _all_inline(element: "HtmlElement") -> str:
    parts = [element.text or ""]
    for child in element:
        words = inline(child)
        parts.append(f" {words} " if child.tag in BLOCKS else words)
        parts.append(child.tail or "")
    return "".join(parts)


def plain(marked: str) -> str:
    """Text without the marks of links."""
    return _MARKS.sub("", marked)


def is_layout(table: "HtmlElement") -> bool:
    """True if a table only sets a page in columns: it holds tables, headings, or paragraphs in a few cells."""
    if table.get("role") in {"presentation", "none"}:
        return True
    cells = [cell for cell in table.iter("td", "th") if _table_of(cell) is table]
    if len(cells) < 2 or any(True for cell in cells for _ in cell.iter("table")):
        return True
    if any(cell.tag == "th" for cell in cells):
        return False
    rows = [row for row in table.iter("tr") if _table_of(row) is table]
    inside = sum(
        1 for cell in cells for _ in cell.iter("h1", "h2", "h3", "h4", "p", "ul", "ol", "form", "pre")
    )
    long = sum(len(" ".join(cell.itertext())) > 300 for cell in cells)
    return len(rows) < 2 or max(len(row) for row in rows) < 2 or inside > len(cells) or long > len(cells) // 2


def _table_of(element: "HtmlElement") -> "HtmlElement | None":
    return next(element.iterancestors("table"), None)


def _cell(element: "HtmlElement") -> Cell:
    words = " ".join(_lines(_all_inline(element)))
    return Cell(
        words,
        is_header=element.tag == "th",
        across=_span(element.get("colspan")),
        down=_span(element.get("rowspan")),
    )


def _span(value: str | None) -> int:
    return max(1, min(whole(value, 1), 1000))


def _entered(element: "HtmlElement", place: _Place) -> _Place:
    """The place inside an element: menus are known by their tags, roles and names."""
    tag, role = element.tag, (element.get("role") or "").lower()
    names = f"{element.get('class') or ''} {element.get('id') or ''}"
    within = any(True for _ in element.iterancestors("article", "main"))
    navigates = tag in {"nav", "aside"} or (tag in {"header", "footer"} and not within) or role in _ROLES
    navigates = navigates or (
        tag not in {"body", "html", "main", "article"} and bool(_MENU_NAMES.search(names))
    )
    consents = tag not in {"body", "html", "main", "article"} and bool(_CONSENT.search(names))
    if not (navigates or consents):
        return place
    return replace(
        place,
        in_navigation=place.in_navigation or navigates,
        is_consent=place.is_consent or (consents and len("".join(element.itertext())) < 2000),
    )


def _lines(marked: str) -> list[str]:
    """Lines as they are broken on purpose, each with single spaces."""
    marked = marked.replace("\xa0", " ").replace("\xad", "").replace("\u200b", "")
    lines = (" ".join(line.split()) for line in marked.split(_BREAK))
    return [line for line in lines if plain(line).strip()]


def _linked(marked: str) -> float:
    letters = sum(map(str.isalnum, plain(marked)))
    return sum(sum(map(str.isalnum, link)) for link in _LINK.findall(marked)) / max(letters, 1)


def _menu_groups(lines: list[str]) -> list[tuple[bool, list[str]]]:
    """Lines of a paragraph, parted where several follow that are nothing but a short link, with their label."""
    links = [_linked(line) > 0.99 and len(plain(line)) < _LONG_LINK for line in lines]
    groups: list[tuple[bool, list[str]]] = []
    at = 0
    while at < len(lines):
        end = at
        while end < len(lines) and links[end] == links[at]:
            end += 1
        is_menu = links[at] and end - at >= _MENU_RUN
        group = lines[at:end]
        if is_menu and groups and not groups[-1][0] and len(plain(groups[-1][1][-1])) < _MENU_LABEL:
            group = [groups[-1][1].pop(), *group]
            groups = groups if groups[-1][1] else groups[:-1]
        if groups and groups[-1][0] == is_menu:
            groups[-1][1].extend(group)
        else:
            groups.append((is_menu, group))
        at = end
    return groups


def _is_row_of_links(line: str) -> bool:
    """True if a line is a trail or a bar of links: `Start > Help`, `Home | About | Contact`."""
    links = _LINK.findall(line)
    between = "".join(plain(_LINK.sub(" ", line)).split())
    short = all(len(link) < _LONG_LINK for link in links)
    return len(links) > 1 and short and len(between) > 0 and not any(map(str.isalnum, between))


def _with_menus(pieces: list[Piece]) -> list[Piece]:
    """The pieces, with lists of nothing but short links marked as menus."""
    marked: list[Piece] = []
    at = 0
    while at < len(pieces):
        end = at + 1
        while end < len(pieces) and pieces[at].run and pieces[end].run == pieces[at].run:
            end += 1
        group = pieces[at:end]
        is_menu = len(group) >= _MENU_RUN and all(
            piece.linked > 0.99 and len(piece.text) < _LONG_LINK and not piece.is_heading for piece in group
        )
        if is_menu and at and pieces[at - 1].is_body and pieces[at - 1].text.rstrip().endswith((":", "：")):
            is_menu = False  # a sentence leads to them: "The forms are these:"
        marked += [replace(piece, is_menu=True) for piece in group] if is_menu else group
        at = end
    return marked


def _not_headings(words: str) -> str:
    """Lines that Markdown would take for a heading's underline are kept from being one."""
    return re.sub(r"^( {0,3})(?=(?:=+|-{2,})[ \t]*$)", r"\1\\", words, flags=re.MULTILINE)

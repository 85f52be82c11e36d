"""PDF to text, page by page: columns in reading order, paragraphs, headings, tables as records.

Runs in the worker's process only.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from kun.errors import DamagedFile, HoldsNoText, UnsupportedFormat
from kun.knowledge.read.extracted import Extracted, paged, unmarked
from kun.knowledge.read.grid import Source, table_lines
from kun.knowledge.read.header import shape_of
from kun.knowledge.read.pdf_page import Page, Piece, joined, pages_of, pieces_of
from kun.knowledge.read.pdf_tables import Cells, Table, aligned_tables, lines_of, ruled_tables
from kun.knowledge.read.scans import with_scans

_END = b"%%EOF"
_LIST_ITEM = re.compile(
    r"(?:[•·▪◦*–-]\s|\(?\d{1,3}[.)、）]\s?\D|[（(][0-9一二三四五六七八九十]{1,3}[）)]|第[0-9一二三四五六七八九十百]+[条章节]"
    r"|[一二三四五六七八九十]{1,3}、)"
)
_LEADER = re.compile(r"(?:\.{4,}|(?: \.){4,}|…{2,})\s*\d*\Z")  # of a line in a table of contents
_ENDS = (".", "。", ":", "：", ";", "；", "!", "！", "?", "？")
_MAX_HEADING = 100
_LARGER = 1.08  # of the body's size: a heading
_MANY = 3  # pages on which a line must come back to be the pages' own


@dataclass(frozen=True)
class _Block:
    """A paragraph with its size, or the rows of a table.

    `edge`: a single line at the top or bottom of its page. `close`: right below the paragraph before it.
    """

    text: str
    size: float = 0.0
    bold: bool = False
    rows: list[Cells] = field(default_factory=list)
    edge: bool = False
    close: bool = False


def read_pdf(file: Path, name: str) -> Extracted:
    """The text of each page, recognized where it is scanned. Raises `DamagedFile` for a truncated file,
    `UnsupportedFormat` for one that is encrypted, `HoldsNoText`."""
    from pdfminer.pdfdocument import PDFPasswordIncorrect, PDFTextExtractionNotAllowed
    from pdfminer.psexceptions import PSException

    content = file.read_bytes()
    end = content.rfind(_END)
    if end < 0 or b" obj" in content[end + len(_END) :]:
        raise DamagedFile(f"{name} is truncated: its end is missing. Download or save it again.")
    try:
        pages = [_blocks(page) for page in pages_of(io.BytesIO(content))]
    except (PDFPasswordIncorrect, PDFTextExtractionNotAllowed) as error:
        raise UnsupportedFormat(f"{name} is encrypted: save it without a password.") from error
    except (PSException, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DamagedFile(f"{name} is damaged: download or save it again.") from error
    if not pages:
        raise DamagedFile(f"{name} is damaged: no page can be found in it.")
    texts, skipped = with_scans(content, name, _texts(pages))
    if not any(text.strip() for text in texts):
        raise HoldsNoText(
            f"{name} holds {len(pages)} pages in which no text was found.", "scanned pages without text"
        )
    return replace(paged(texts, "markdown"), skipped=skipped)


def _blocks(page: Page) -> list[_Block]:
    """The paragraphs and tables of a page in the order in which they are read."""
    tables, letters = ruled_tables(page.letters, page.rules)
    pieces = pieces_of(letters)
    blocks = [block for _, block in _region(pieces, tables, page)]
    last = [page.slanted, *page.notes]
    return [*blocks, *(_Block(text) for text in last if text)]


def _region(pieces: Sequence[Piece], tables: Sequence[Table], page: Page) -> Iterator[tuple[float, _Block]]:
    """Blocks with their height on the page; a stretch of two columns gives the left one first."""
    lines = lines_of(pieces)
    gutter = _gutter(lines)
    if gutter is None:
        yield from _column(lines, tables, page)
        return
    band: list[list[Piece]] = []
    inside = [table for table in tables if not table.left < gutter < table.right]
    across = sorted((table for table in tables if table not in inside), key=lambda table: -table.top)
    for line in [*lines, None]:
        spans = line is not None and any(piece.left < gutter < piece.right for piece in line)
        if line is not None and not spans and not (across and line[0].middle < across[0].top):
            band.append(line)
            continue
        bottom = -1.0 if line is None else line[0].top
        below = [table for table in inside if table.bottom < bottom - 1]
        yield from _halves(band, [table for table in inside if table not in below], gutter, page)
        band, inside = [], below
        while across and (line is None or line[0].middle < across[0].top):
            table = across.pop(0)
            yield table.top, _Block("", rows=table.rows)
        if line is not None and spans:
            yield from _column([line], [], page)
        elif line is not None:
            band = [line]


def _halves(
    band: Sequence[list[Piece]], tables: Sequence[Table], gutter: float, page: Page
) -> Iterator[tuple[float, _Block]]:
    for is_left in (True, False):
        pieces = [piece for line in band for piece in line if (piece.right <= gutter) == is_left]
        chosen = [table for table in tables if (table.right <= gutter) == is_left]
        if pieces or chosen:
            yield from _region(pieces, chosen, page)


def _gutter(lines: Sequence[list[Piece]]) -> float | None:
    """The place between two columns of running text, None where there is one column."""
    pieces = [piece for line in lines for piece in line]
    if not pieces:
        return None
    left, right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    counts: Counter[int] = Counter()
    for line in lines:
        for one, other in pairwise(line):
            counts.update(range(int(one.right) + 1, int(other.left)))
    inner = {
        x: count
        for x, count in counts.items()
        if left + 0.2 * (right - left) < x < right - 0.2 * (right - left)
    }
    most = max(inner.values(), default=0)
    if most < 3:
        return None
    best = sorted(x for x, count in inner.items() if count == most)
    gutter = float(best[len(best) // 2])
    inside = [piece for line in lines for piece in line if not piece.left < gutter < piece.right]
    running = 0  # lines that fill their column, as those of tables do not
    for is_left in (True, False):
        side = [piece for piece in inside if (piece.right <= gutter) == is_left]
        width = (gutter - left) if is_left else (right - gutter)
        wide = sum(piece.right - piece.left > 0.6 * width for piece in side if len(piece.text) > 12)
        if wide < 2 or wide < 0.25 * len(side):
            return None
        running += wide
    if running < 5:
        return None
    crossing = len(pieces) - len(inside)
    return gutter if crossing <= 0.5 * len(lines) else None


def _column(
    lines: Sequence[list[Piece]], tables: Sequence[Table], page: Page
) -> Iterator[tuple[float, _Block]]:
    """Paragraphs and tables of one column, from the top down."""
    found: list[tuple[float, _Block]] = [(table.top, _Block("", rows=table.rows)) for table in tables]
    start = 0
    for first, end, rows in aligned_tables(lines):
        found += _paragraphs(lines[start:first], page)
        found.append((lines[first][0].top, _Block("", rows=rows)))
        start = end
    found += _paragraphs(lines[start:], page)
    yield from sorted(found, key=lambda block: -block[0])


def _paragraphs(lines: Sequence[list[Piece]], page: Page) -> Iterator[tuple[float, _Block]]:
    """Lines that belong together, as the gaps between them, their sizes and their lengths show."""
    if not lines:
        return
    right = max(line[-1].right for line in lines)
    left = min(line[0].left for line in lines)
    steps = sorted(
        one[0].middle - other[0].middle
        for one, other in pairwise(lines)
        if one[0].middle - other[0].middle < 2 * max(one[0].size, other[0].size)
    )
    usual = steps[len(steps) // 2] if steps else 0.0
    group: list[list[Piece]] = []
    close = False
    for line in lines:
        if group:
            last, first = group[-1], line[0]
            step = last[0].middle - first.middle
            apart = step > 1.3 * usual or abs(last[0].size - first.size) > 0.08 * first.size
            apart = apart or last[0].bold != first.bold
            missing = (right - last[-1].right) / max(right - left, 1.0)
            short = missing > (0.25 if last[-1].text.endswith(_ENDS) else 0.5)
            listed = _LIST_ITEM.match(first.text) or _LEADER.search(last[-1].text)
            if apart or short or listed:
                yield _paragraph(group, page, close)
                group, close = [], not apart
        group.append(line)
    yield _paragraph(group, page, close)


def _paragraph(group: Sequence[list[Piece]], page: Page, close: bool) -> tuple[float, _Block]:
    text = joined([" ".join(piece.text for piece in line) for line in group])
    first = group[0][0]
    edge = len(group) == 1 and not 0.09 * page.height < first.middle < 0.91 * page.height
    return first.top, _Block(text, first.size, first.bold, edge=edge, close=close)


def _texts(pages: Sequence[list[_Block]]) -> list[str]:
    """Each page as Markdown. Lines that come back at the edge of many pages are kept once."""
    body = _body_size(pages)
    larger = sorted(
        {round(block.size * 2) / 2 for page in pages for block in page if _is_heading(block, body)},
        reverse=True,
    )
    repeated = Counter(_same(block.text) for page in pages for block in page if block.edge)
    shown: set[str] = set()
    texts: list[str] = []
    before: list[Cells] = []  # the names of a table that reached the end of the page before
    for page in pages:
        text = ""
        kept = []
        for block in page:
            same = _same(block.text) if block.edge else ""
            if same and repeated[same] >= _MANY and same in shown:
                continue
            shown.add(same)
            kept.append(block)
        inner = [block for block in kept if not block.edge]
        for block in kept:
            rows = block.rows
            if rows:
                goes_on = before and block is inner[0] and len(rows[0]) == len(before[0])
                part = _table(rows, before if goes_on else [])
            elif _is_heading(block, body) and not (block.edge and repeated[_same(block.text)] > 1):
                level = (
                    min(larger.index(round(block.size * 2) / 2) + 1, 5)
                    if block.size > body * _LARGER
                    else len(larger) + 1
                )
                part = f"{'#' * min(level, 6)} {block.text}"
            else:
                part = unmarked(block.text)
            text += ("\n" if block.close and text and not part.startswith("#") else "\n\n") + part
        last = inner[-1].rows if inner else []
        before = (_names(last) or (before if inner and inner[0] is inner[-1] else [])) if last else []
        texts.append(text.strip("\n"))
    return texts


def _half(size: float) -> float:
    """A size to half a point, which is as exact as sizes are meant."""
    return round(size * 2) / 2


def _same(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def _body_size(pages: Sequence[list[_Block]]) -> float:
    """The size of most letters."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for block in page:
            if block.size:
                sizes[_half(block.size)] += len(block.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _is_heading(block: _Block, body: float) -> bool:
    if block.rows or not block.size or len(block.text) > _MAX_HEADING:
        return False
    if (
        not re.search(r"[^\W\d_]", block.text)
        or _LEADER.search(block.text)
        or block.text.endswith((".", "。", "，", ",", ";", "；", ":", "："))
    ):
        return False
    return block.size > body * _LARGER or block.bold


def _names(rows: Sequence[Cells]) -> list[Cells]:
    shape = shape_of([*filter(any, rows)], None, False)
    return list(rows[shape.titles : shape.titles + shape.heads])


def _table(rows: list[Cells], names: list[Cells]) -> str:
    """The table as records; one that goes on from the page before has the names of that part."""
    rows = [row for row in rows if any(row)]
    goes_on = bool(names) and rows[: len(names)] != names and not _names(rows)
    source = Source(heads=len(names) if goes_on else None, assumes_names=False)
    return "".join(table_lines([*names, *rows] if goes_on else rows, source)).strip("\n")

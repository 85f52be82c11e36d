"""Tables of web pages, and of whatever becomes HTML on its way, as records."""

from bs4 import Tag

from kun.knowledge.read.grid import Source, table_lines

_MOST_COLUMNS = 1_000
_MOST_ROWS = 10_000  # over which one cell is repeated
_HIDDEN = ("display:none", "visibility:hidden")


def html_table_lines(table: Tag, level: int = 3) -> list[str]:
    """The lines of a `<table>`, each with its line end: its caption, the names, and a line a row.

    Cells that span rows or columns are repeated in each of them; rows of `<th>` and of `<thead>` are names. `level` is
    that of the headings that titles become. A table that only sets a page in columns gives its texts one after the
    other.
    """
    caption = table.find("caption")
    lines = [f"{_text(caption)}\n\n"] if isinstance(caption, Tag) and _text(caption) else []
    rows, heads = html_grid(table)
    if not rows:
        return lines
    body = table_lines(rows, Source(heads=heads or None, assumes_names=False, level=level))
    return lines + list(body)


def html_grid(table: Tag) -> tuple[list[list[str]], int]:
    """The rows of a table's cells, spanned ones repeated, and how many rows at the top are names."""
    rows: list[list[str]] = []
    reaching: dict[int, tuple[int, str]] = {}  # column → rows it still spans, its text
    heads, in_heads = 0, True
    for row in table.find_all("tr"):
        if row.find_parent("table") is not table or _is_hidden(row):
            continue
        found = [cell for cell in row.find_all(["td", "th"]) if cell.find_parent("tr") is row]
        cells: list[str] = []
        for cell in [*found, None]:
            while len(cells) in reaching:
                _take(reaching, cells)
            if cell is None or len(cells) > _MOST_COLUMNS:
                break
            text = "" if _is_hidden(cell) else _text(cell)
            across = min(_span(cell, "colspan"), _MOST_COLUMNS)
            down = min(_span(cell, "rowspan"), _MOST_ROWS)
            for _ in range(across):
                if down > 1:
                    reaching[len(cells)] = (down - 1, text)
                cells.append(text)
        for place in sorted(place for place in reaching if place > len(cells)):
            cells += [""] * (place - len(cells))
            _take(reaching, cells)
        if not any(cells):
            continue
        is_head = row.find_parent("thead") is not None or (
            bool(found) and all(cell.name == "th" for cell in found)
        )
        in_heads = in_heads and is_head
        heads += in_heads
        rows.append(cells)
    return rows, heads if heads < len(rows) else 0


def _take(reaching: dict[int, tuple[int, str]], cells: list[str]) -> None:
    """The cell from a row above that spans this one too."""
    place = len(cells)
    left, text = reaching.pop(place)
    cells.append(text)
    if left > 1:
        reaching[place] = (left - 1, text)


def _span(cell: Tag, name: str) -> int:
    value = str(cell.get(name, "1")).strip()
    return max(int(value), 1) if value.isdigit() else 1


def _is_hidden(element: Tag) -> bool:
    style = str(element.get("style", "")).replace(" ", "").lower()
    return element.has_attr("hidden") or any(word in style for word in _HIDDEN)


def _text(element: Tag) -> str:
    """The words of a cell on one line; those of a table inside it too, and of pictures their descriptions."""
    for picture in element.find_all("img"):
        picture.replace_with(f" {picture.get('alt', '')} ")
    for line_end in element.find_all("br"):
        line_end.replace_with(" ")
    for block in element.find_all(["p", "div", "li", "td", "tr"]):
        block.append(" ")
    return " ".join(element.get_text().split())

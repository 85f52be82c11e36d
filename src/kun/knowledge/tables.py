"""Tables inside a text: written as records, one line a row with the names of its columns, and read back.

A line with the names (`sku; name; price`) begins a table, and every row is a line of its own that makes sense
by itself: `sku: A-1; name: lamp; price: 17.50`. Empty cells are left out. Names hold neither `; ` nor `: `, so
that a row can be taken apart even where its values do. Markdown's pipe tables are read too, where they are.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

from kun.knowledge.rows import StoredText, TextKind

_SAMPLE = 2_000  # lines from which the columns of records without a line of names are learned
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*\Z")
_PIPE = re.compile(r"(?<!\\)\|")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*(?:\([^()]*\)[^()]*)?\)")
_MAX_NAME = 200  # characters of a column's name
_MAX_LOOK = 400  # characters of a line that are looked at for a heading, a fence or a rule


@dataclass(frozen=True, slots=True)
class Row:
    """A row: a cell for each column (empty where it has none), and its place `[start, end)` in the text."""

    cells: tuple[str, ...]
    start: int
    end: int


class Rows(Sequence[Row]):
    """The rows of a table, each taken apart when it is asked for: a million of them take little memory."""

    def __init__(self, text: str, columns: Sequence[str], is_piped: bool) -> None:
        self._text, self._is_piped = text, is_piped
        self._order = {name: place for place, name in enumerate(columns)}
        self._places = array("q")

    def append(self, start: int, end: int) -> None:
        """The row that is the line `[start, end)` of the text."""
        self._places.extend((start, end))

    def __len__(self) -> int:
        return len(self._places) // 2

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        start, end = self._places[2 * place], self._places[2 * place + 1]
        line, width = self._text[start:end], len(self._order)
        cells = piped_cells(line) if self._is_piped else record_cells(line, self._order)
        return Row((*cells[:width], *[""] * (width - len(cells))), start, end)


@dataclass(frozen=True)
class Table:
    """A table of a text. `name` is the path of headings above it; `[start, end)` its place, the names included.

    `[start, rows[0].start)` is the line of names, which is no evidence for anything by itself.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    start: int
    end: int


def column_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names as records can carry them: on one line, each once, none empty (`column 3`, `第3列`)."""
    unnamed = "第{}列" if re.search(r"[\u4e00-\u9fff]", "".join(names)) else "column {}"
    shown: list[str] = []
    taken: set[str] = set()
    for place, given in enumerate(names, 1):
        name = " ".join(given.split()).rstrip(":：;； ")[:_MAX_NAME].rstrip()
        name = name.replace("; ", ", ").replace(": ", "：").lstrip("#|->*+ ") or unnamed.format(place)
        wanted, number = name, 2
        while name in taken:
            name, number = f"{wanted} ({number})", number + 1
        taken.add(name)
        shown.append(name)
    return tuple(shown)


def names_line(columns: Sequence[str]) -> str:
    """The line that begins a table."""
    return "; ".join(columns)


def record_line(columns: Sequence[str], cells: Sequence[str]) -> str:
    """A row as one line; empty where all its cells are. `columns` are from `column_names`, cells on one line each."""
    shown = []
    known = set(columns) if any("; " in cell for cell in cells) else set()
    for name, given in zip(columns, cells, strict=False):
        cell = given
        if "; " in cell and any(part.partition(": ")[0] in known for part in cell.split("; ")[1:]):
            cell = cell.replace("; ", ", ")  # else the rest of the value would be taken for another column
        if cell:
            shown.append(f"{name}: {cell}")
    return "; ".join(shown)


def record_cells(line: str, order: dict[str, int]) -> list[str]:
    """The cells of a record, by the columns' places; what names no later column is part of the value before it."""
    cells = [""] * len(order)
    last = -1
    for part in line.split("; "):
        name, colon, value = part.partition(": ")
        place = order.get(name, -1) if colon else -1
        if place > last:
            cells[place], last = value, place
        elif last >= 0:
            cells[last] += "; " + part
    return cells


def piped_cells(line: str) -> list[str]:
    """The cells of a row of a pipe table, without Markdown's marks."""
    line = line.strip()
    line = line[1:] if line.startswith("|") else line
    parts = _PIPE.split(line)
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    return [_plain(part) for part in parts]


def _plain(cell: str) -> str:
    cell = _LINK.sub(r"\1", cell.replace("\\|", "|"))
    cell = re.sub(r"<br\s*/?>", " ", cell)
    return re.sub(r"\*\*|__|`|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", cell).strip()


def tables_of(text: str, kind: TextKind) -> list[Table]:
    """The tables of a text in order: records in any text but code, pipe tables in Markdown and plain text.

    Records without a line of names, as JSON gives them, are a table only in a text of kind `rows`.
    """
    return [] if kind == "code" else _Finder(text, kind).tables()


@dataclass
class _Open:
    """A table that is being read."""

    name: str
    columns: tuple[str, ...]
    start: int
    is_piped: bool
    rows: Rows
    known: frozenset[str] = field(default_factory=frozenset)

    def takes(self, line: str) -> bool:
        if self.is_piped:
            return "|" in line
        name, colon, _ = line.partition(": ")
        return bool(colon) and name in self.known


class _Finder:
    def __init__(self, text: str, kind: TextKind) -> None:
        self._text, self._kind = text, kind
        self._path: list[tuple[int, str]] = []
        self._found: list[Table] = []
        self._open: _Open | None = None
        self._no_records_until = 0

    def tables(self) -> list[Table]:
        fence = ""
        waiting: tuple[int, int, str] | None = None  # a line that may hold the names of a table
        for start, end in self._lines(0):
            line = self._text[start:end]
            if self._open and self._open.takes(line):
                self._open.rows.append(start, end)
                continue
            self._close()
            opened = _FENCE.match(line[:_MAX_LOOK]) if self._kind == "markdown" else None
            if fence or opened:
                fence = self._fence(fence, opened, line)
                waiting = None
            elif heading := _HEADING.match(line[:_MAX_LOOK]) if self._kind != "text" else None:
                level = len(heading[1])
                self._path = [above for above in self._path if above[0] < level]
                self._path.append((level, _plain(heading[2])))
                waiting = None
            elif (waiting and self._begins(waiting, start, end, line)) or (
                self._kind == "rows" and ": " in line and self._begins_unnamed(start, end, line)
            ):
                waiting = None
            else:
                may_be_names = line.strip() and (": " not in line or "|" in line)
                waiting = (start, end, line) if may_be_names else None
        self._close()
        return self._found

    def _lines(self, start: int) -> Iterator[tuple[int, int]]:
        while start < len(self._text):
            end = self._text.find("\n", start)
            end = len(self._text) if end < 0 else end
            yield start, end
            start = end + 1

    @staticmethod
    def _fence(fence: str, opened: "re.Match[str] | None", line: str) -> str:
        """The fence that is open after this line."""
        if not fence:
            return opened[1] if opened else ""
        closes = opened and opened[1].startswith(fence) and not line.strip().strip(fence[0])
        return "" if closes else fence

    def _begins(self, names: tuple[int, int, str], start: int, end: int, line: str) -> bool:
        """True if the line after one of names shows that a table begins there; it is then open."""
        if self._kind != "rows" and "|" in line and "|" in names[2] and _RULE.match(line[:_MAX_LOOK]):
            columns = tuple(piped_cells(names[2]))
            self._begin(columns, names[0], is_piped=True)
            return True
        columns = tuple(names[2].split("; "))
        first = line.partition(": ")[0]
        enough = len(columns) > 1 or self._kind == "rows"
        if not enough or first == line or first not in columns or len(set(columns)) < len(columns):
            return False
        self._begin(columns, names[0], is_piped=False).append(start, end)
        return True

    def _begins_unnamed(self, start: int, end: int, line: str) -> bool:
        """True if records begin here, of the names that repeat in them; they are then open."""
        if start < self._no_records_until:
            return False
        following: list[str] = []
        for first, last in self._lines(start):
            shown = self._text[first:last]
            if ": " not in shown or _HEADING.match(shown[:_MAX_LOOK]) or len(following) == _SAMPLE:
                break
            following.append(shown)
            self._no_records_until = last
        columns = _repeated(following)
        if line.partition(": ")[0] not in columns:
            return False
        self._no_records_until = start
        self._begin(columns, start, is_piped=False).append(start, end)
        return True

    def _begin(self, columns: tuple[str, ...], start: int, *, is_piped: bool) -> Rows:
        rows = Rows(self._text, columns, is_piped)
        name = " > ".join(title for _, title in self._path if title)
        self._open = _Open(name, columns, start, is_piped, rows, frozenset(columns))
        return rows

    def _close(self) -> None:
        if self._open and len(self._open.rows):
            table, rows = self._open, self._open.rows
            self._found.append(Table(table.name, table.columns, rows, table.start, rows[-1].end))
        self._open = None


def _repeated(lines: Sequence[str]) -> tuple[str, ...]:
    """The names that stand in two lines or more (in one, where there are no more), in the order of the table.

    None where a line has one name, as settings do.
    """
    counts: dict[str, int] = {}
    order: list[str] = []
    for line in lines:
        before = -1
        seen: set[str] = set()
        for part in line.split("; "):
            name, colon, _ = part.partition(": ")
            if not colon or len(name) > _MAX_NAME or name in seen:
                continue
            seen.add(name)
            if name not in counts:
                order.insert(before + 1, name)
            counts[name] = counts.get(name, 0) + 1
            before = order.index(name)
    if sum(counts.values()) < 1.5 * len(lines):
        return ()
    least = 2 if len(lines) > 2 else 1
    return tuple(name for name in order if counts[name] >= least)


def names_above(stored: StoredText, starts: Sequence[int]) -> list[str]:
    """For each passage that begins among the rows of a piped table, the names of its columns; else nothing.

    Rows that are records have the names with them.
    """
    names = [""] * len(starts)
    if stored.kind != "markdown" or "|" not in stored.text:
        return names
    for table in tables_of(stored.text, stored.kind):
        if table.rows and stored.text[table.rows[0].start : table.rows[0].end].lstrip().startswith("|"):
            low, high = bisect_left(starts, table.rows[0].start), bisect_left(starts, table.rows[-1].end)
            for row in range(low, high):
                names[row] = "; ".join(table.columns)
    return names

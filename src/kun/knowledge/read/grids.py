"""Tables whose cells cover several columns and rows, as grids and as lines that are found one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kun.knowledge.read.grid import Source, table_lines

_MOST_COLUMNS = 1_000
_MOST_CELLS = 2_000_000


@dataclass(frozen=True)
class Cell:
    """A cell as it is written: its text, whether it names others, how many columns and rows it covers."""

    text: str
    is_header: bool = False
    across: int = 1
    down: int = 1


def grid_lines(rows: Sequence[Sequence[Cell]], heads: int = 0) -> Iterator[str]:
    """The lines of a table as `kun.knowledge.tables` reads them back, without their ends; merged cells are filled.

    The first `heads` rows hold the names, or the rows of headers at the top; where the names stand on the left, a row
    is `name: value`.
    """
    grid = filled(rows)
    if all(len(row) > 1 and row[0].is_header and not any(cell.is_header for cell in row[1:]) for row in grid):
        for row in grid:
            values = "; ".join(cell.text for cell in row[1:] if cell.text)
            yield (
                f"{row[0].text.rstrip(':： ')}: {values}" if row[0].text and values else row[0].text or values
            )
        return
    marked = any(cell.is_header for row in grid for cell in row)
    if not heads and marked:
        heads = next((n for n, row in enumerate(grid) if not all(cell.is_header for cell in row)), len(grid))
    source = Source(heads=heads if 0 < heads < len(grid) else None, assumes_names=not marked)
    for line in table_lines([[cell.text for cell in row] for row in grid], source):
        yield line.rstrip("\n")


def filled(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """The grid in which a merged cell is in every place that it covers."""
    grid: list[list[Cell]] = []
    hanging: dict[int, tuple[Cell, int]] = {}  # by column: a cell from above, and for how many rows more
    total = 0
    for row in rows:
        line: list[Cell] = []
        waiting = list(row)
        while len(line) < _MOST_COLUMNS and (waiting or len(line) in hanging):
            if len(line) in hanging:
                cell, left = hanging.pop(len(line))
                if left > 1:
                    hanging[len(line)] = (cell, left - 1)
                line.append(cell)
                continue
            cell = waiting.pop(0)
            for _ in range(cell.across):
                if cell.down > 1:
                    hanging[len(line)] = (cell, cell.down - 1)
                line.append(cell)
        total += len(line)
        if any(cell.text for cell in line):
            grid.append(line)
        if total > _MOST_CELLS:
            break
    return grid

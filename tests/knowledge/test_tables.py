"""Tables inside a text: records and pipe tables, written and read back."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.knowledge.tables import column_names, names_line, record_line, tables_of

_CELLS = st.text(alphabet="ab:; ,|1\u4e2d", max_size=12).map(lambda cell: " ".join(cell.split()))


def _written(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [names_line(columns), *(record_line(columns, row) for row in rows)]
    return "".join(line + "\n" for line in lines)


def test_records_are_read_back_with_their_places() -> None:
    text = "# Prices\n\nsku; name; price\nsku: A-1; name: lamp; price: 17.50\nsku: A-2; price: 2\n\nAll: no more.\n"
    [table] = tables_of(text, "markdown")
    assert (table.name, table.columns) == ("Prices", ("sku", "name", "price"))
    assert [row.cells for row in table.rows] == [("A-1", "lamp", "17.50"), ("A-2", "", "2")]
    assert text[table.rows[1].start : table.rows[1].end] == "sku: A-2; price: 2"
    assert text[table.start : table.end].startswith("sku; name; price\n")
    assert text[table.end :] == "\n\nAll: no more.\n"


def test_values_may_hold_semicolons_and_colons() -> None:
    columns = ("time", "note", "price")
    rows = [["9:30", "call; ask: why", "3"], ["10:00", "see price; price: high", "4"]]
    [table] = tables_of(_written(columns, rows), "rows")
    assert table.rows[0].cells == ("9:30", "call; ask: why", "3")
    assert table.rows[1].cells == ("10:00", "see price, price: high", "4")


@given(rows=st.lists(st.lists(_CELLS, min_size=3, max_size=3), min_size=1, max_size=6))
def test_any_cells_come_back_in_their_columns(rows: list[list[str]]) -> None:
    columns = column_names(["a", "b: c", "\u4e2d"])
    rows = [["x", *row[1:]] for row in rows]
    [table] = tables_of(_written(columns, rows), "rows")
    shown = [[cell.replace("; ", ", ") for cell in row.cells] for row in table.rows]
    assert shown == [[cell.replace("; ", ", ") for cell in row] for row in rows]


def test_names_become_single_and_never_empty() -> None:
    assert column_names(["name", "", "name", "at: noon; or\nlater:"]) == (
        "name",
        "column 2",
        "name (2)",
        "at：noon, or later",
    )
    assert column_names(["城市", ""]) == ("城市", "第2列")


def test_records_of_older_bases_have_no_line_of_names() -> None:
    text = "## S\nid: 1; n: x; note: a; foo: b\nid: 2; n: y\nid: 3; note: 1\n\nkey: value\nother: value\n"
    [table] = tables_of(text, "rows")
    assert table.columns == ("id", "n", "note")
    assert table.rows[0].cells == ("1", "x", "a; foo: b")
    assert tables_of(text, "code") == []
    assert tables_of("Note: see below; Price: high\n\nNote: no; Price: low\n", "markdown") == []


def test_pipe_tables_are_read_without_their_marks() -> None:
    text = (
        "# A\n\n## B\n\n| Name | A\\|B |\n|:--|--:|\n| **one** | `x` |\n| [two](http://e.org) | |\n\n"
        "```\n| no | table |\n|---|---|\n| 1 | 2 |\n```\n\na | b\n--|--\n1 | 2\n"
    )
    first, second = tables_of(text, "markdown")
    assert (first.name, first.columns) == ("A > B", ("Name", "A|B"))
    assert [row.cells for row in first.rows] == [("one", "x"), ("two", "")]
    assert second.rows[0].cells == ("1", "2")


@pytest.mark.parametrize("odd", ["![ ", "[](", "[](a(", "<br "])
def test_a_cell_of_many_open_brackets_is_read_within_seconds(odd: str) -> None:
    text = f"| a | b |\n| --- | --- |\n| {odd * (60_000 // len(odd))} | x |\n"
    begun = time.perf_counter()
    (table,) = tables_of(text, "markdown")
    assert table.rows[0].cells[-1] == "x"
    assert time.perf_counter() - begun < 5


def test_a_link_in_a_cell_is_its_words() -> None:
    text = "| a | b |\n| --- | --- |\n| [dock](a_(b).md) | ![boat](boat.png) |\n"
    assert tables_of(text, "markdown")[0].rows[0].cells == ("dock", "boat")


def test_settings_with_one_name_a_line_are_no_table_and_quickly_seen_to_be_none() -> None:
    assert tables_of("".join(f"server.{n}: {n}\n" for n in range(20_000)), "rows") == []

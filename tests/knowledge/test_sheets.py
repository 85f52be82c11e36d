"""Tables of CSV and Excel files become records: every row with the names of its columns."""

import datetime
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.knowledge.read.formulas import Formulas
from kun.knowledge.read.grid import Source, table_lines
from kun.knowledge.read.reading import read
from kun.knowledge.tables import tables_of


def _csv(folder: Path, text: str) -> str:
    (folder / "a.csv").write_text(text)
    return read(folder / "a.csv").text


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("Site,2023,2024\nDock,12,14\nYard,9,9\n", "Site: Dock; 2023: 12; 2024: 14"),
        (",name,port\n0,Anna,Bergen\n1,Jon,Oslo\n", "column 1: 0; name: Anna; port: Bergen"),
        (
            "Stock on 3 May,,\n,,\nCode,Part,Shelf\nP-1,Bolt,A\nP-2,Nut,B\n",
            "Code: P-1; Part: Bolt; Shelf: A",
        ),
        ("Zone,Fee,\n,Day,Night\nA,3,4\nB,5,6\n", "Zone: A; Fee / Day: 3; Fee / Night: 4"),
        ("Part,Weight,Length\n,kg,mm\nA,3,40\nB,5,60\n", "Part: A; Weight / kg: 3; Length / mm: 40"),
        ("Anna,34,Oslo\nJon,20,Bergen\n", "column 1: Anna; column 2: 34; column 3: Oslo"),
        ("货号,名称\nQ-1,螺栓\n", "货号: Q-1; 名称: 螺栓"),
        ("节次,周一,周二\n1,语文,数学\n2,,体育\n", "节次: 2; 周二: 体育"),
        ("Name,Grade\nTom,n/a\nAnn,3\nBob,4\n", "Name: Tom; Grade: n/a"),
        (
            "Item,Price,Left\nFruit,,\nPear,4,2\nRoots,,\nBeet,5,3\nLeek,6,1\n",
            "section: Roots; Item: Beet; Price: 5; Left: 3",
        ),
        ("Hour,Mon,Tue\n9:00,Art,PE\nLunch,Lunch,Lunch\n13:00,PE,Art\n", "Hour: Lunch"),
        ("Hour,Mon,Tue\n9:00,Art,PE\nLunch,Lunch,Lunch\n13:00,PE,Art\n", "Hour: 13:00; Mon: PE; Tue: Art"),
        ("id,title,open\nT-1,Lamp,open\nT-2,Door,no\n", "id: T-1; title: Lamp; open: open"),
        ("sep=;\na;b\n1,5;2\n", "a: 1,5; b: 2"),
        (
            "Time,How happy are you?\n2026-05-01,very\n2026-05-02,not\n",
            "Time: 2026-05-02; How happy are you?: not",
        ),
        (",,Stock list\n,,\n,,Part,Left\n,,Bolt,3\n,,Nut,4\n", "Part: Bolt; Left: 3"),
        ("Landlady,Mrs Orlova\nRent,980 EUR\nFrom,2026-05-01\n", "Landlady: Mrs Orlova"),
    ],
)
def test_rows_have_the_names_of_their_columns_whatever_stands_above_them(
    tmp_path: Path, text: str, row: str
) -> None:
    assert row in _csv(tmp_path, text).split("\n")


def test_title_rows_become_headings_and_notes_stay_text(tmp_path: Path) -> None:
    text = _csv(
        tmp_path, "Stock on 3 May,,\nCode,Part,Shelf\nP-1,Bolt,A\nP-2,Nut,B\nNote: counted twice.,,\n"
    )
    assert text.startswith("## Stock on 3 May\n\nCode; Part; Shelf\n")
    assert text.endswith("Shelf: B\nNote: counted twice.\n")


def test_two_tables_of_one_sheet_have_names_of_their_own(tmp_path: Path) -> None:
    text = _csv(tmp_path, "Part,Left\nBolt,3\nNut,4\n\nSupplier,Days\nNorth,12\n")
    assert [table.columns for table in tables_of(text, "rows")] == [("Part", "Left"), ("Supplier", "Days")]
    text = _csv(tmp_path, "Part,Left\nBolt,3\nNut,4\n\nPin,5\n")
    assert [row.cells[0] for table in tables_of(text, "rows") for row in table.rows] == ["Bolt", "Nut", "Pin"]


def test_a_wide_and_a_long_table_are_read_back_whole(tmp_path: Path) -> None:
    wide = [[f"c{n}" for n in range(200)], *([str(100 * row + n) for n in range(200)] for row in range(50))]
    [table] = tables_of(_csv(tmp_path, "".join(",".join(row) + "\n" for row in wide)), "rows")
    assert (len(table.columns), len(table.rows), table.rows[49].cells[199]) == (200, 50, "5099")
    long = "code,left\n" + "".join(f"P-{n},{n % 7}\n" for n in range(20_000))
    [table] = tables_of(_csv(tmp_path, long), "rows")
    assert (len(table.rows), table.rows[19_999].cells) == (20_000, ("P-19999", "0"))


def _book(path: Path) -> None:
    from openpyxl import Workbook
    from openpyxl.comments import Comment

    book = Workbook()
    sheet = book.active
    sheet.title = "Rates"
    rows: list[list[object]] = [
        ["Room rates"],
        ["Region", "Town", "Single", "Share", "From", "Sum"],
        ["North", "Ostrey", 120, 0.155, datetime.datetime(2024, 3, 5), "=C3*2"],
        [None, "Kelby", 90, 0.5, datetime.datetime(2024, 3, 5, 9, 30), "=SUM(C3:C4)"],
        ["South", "Maren", 80, 1, None, "=XLOOKUP(1,A1:A2,B1:B2)"],
        ["All", None, '=SUMIF(A3:A5,"South",C3:C5)+IF(C3>C4,ROUND(C3/7,2),0)'],
    ]
    for row in rows:
        sheet.append(row)
    sheet.merge_cells("A1:F1")
    sheet.merge_cells("A3:A4")
    sheet["H3"] = 501
    sheet["H3"].number_format = "00000"
    sheet["C3"].number_format = '0.00" EUR"'
    sheet["C4"].comment = Comment("old rate", "me")
    sheet.row_dimensions[5].hidden = True
    for row in (3, 4, 5):
        sheet.cell(row, 4).number_format = "0%"
    costs = book.create_sheet("Costs")
    costs.sheet_state = "hidden"
    for row in (["Dept", "Fee", None], [None, "Day", "Night"], ["A", 3, 4]):
        costs.append(row)
    costs.merge_cells("B1:C1")
    costs.merge_cells("A1:A2")
    book.save(path)


def test_a_sheet_is_read_as_a_person_sees_it(tmp_path: Path) -> None:
    _book(tmp_path / "a.xlsx")
    lines = read(tmp_path / "a.xlsx").text.split("\n")
    assert lines[:3] == ["## Rates", "### Room rates", ""]
    assert any(
        line.startswith(
            "Region: North; Town: Ostrey; Single: 120.00 EUR; Share: 15.5%; From: 2024-03-05; Sum: 240"
        )
        and line.endswith(": 00501")
        for line in lines
    )
    assert "Region: North; Town: Kelby; Single: 90; Share: 50%; From: 2024-03-05 09:30; Sum: 210" in lines
    assert any("=XLOOKUP(1,A1:A2,B1:B2) (formula without a stored value)" in line for line in lines)
    assert "Region: All; Single: 97.14" in lines
    assert "Comment: old rate (C4: 90)" in lines
    assert "Hidden rows of this sheet, read as the others: 5." in lines
    assert "## Costs (hidden sheet)" in lines
    assert "Dept: A; Fee / Day: 3; Fee / Night: 4" in lines


def test_a_wrong_dimension_loses_no_rows(tmp_path: Path) -> None:
    _book(tmp_path / "right.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "right.xlsx") as right,
        zipfile.ZipFile(tmp_path / "a.xlsx", "w") as wrong,
    ):
        for name in right.namelist():
            wrong.writestr(name, re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', right.read(name)))
    assert read(tmp_path / "a.xlsx").text == read(tmp_path / "right.xlsx").text


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("=AVERAGE(A1:A3)", "2"),
        ("=-A1+50%*4", "1"),
        ('=A1&" of "&A3', "1 of 3"),
        ('=COUNTIF(A1:A3,">1")', "2"),
        ("=A1/0", "=A1/0 (formula without a stored value)"),
        ("=B5", "=B5 (formula without a stored value)"),
        ("=Other!A1*2", "18"),
    ],
)
def test_formulas_without_a_value_are_computed_or_shown(tmp_path: Path, formula: str, shown: str) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for row in ([1], [2], [3], [None], ["x", formula]):
        book.active.append(row)
    book.create_sheet("Other").append([9])
    book.save(tmp_path / "a.xlsx")
    assert f"{shown}\n" in read(tmp_path / "a.xlsx").text


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ('="abc', None),
        ("=A1+)", None),
        ("=B1^B1", None),
        ("=B1*B1", None),
        ("=ROUND(1,B1)", None),
        ("=ROUND(2.345,C1)", "2.35"),
        ("=POWER(C1,10)", "1024"),
        ("=" + "&".join(["D1"] * 4), None),
        ("=CONCATENATE(D1,D1,D1,D1)", None),
        ("=" + "1+" * 8_192 + "1", None),
    ],
)
def test_a_formula_that_is_broken_or_grows_without_end_is_shown_and_the_rest_is_read(
    tmp_path: Path, formula: str, value: str | None
) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for row in ([1, 10**300, 2, "x" * 10_000], ["Rope", formula], ["hemp", "=A1+C1"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    formulas = Formulas(tmp_path / "a.xlsx")
    assert formulas.text("Sheet", 2, 2) == (value or f"{formula} (formula without a stored value)")
    assert formulas.text("Sheet", 3, 2) == "3"
    formulas.close()


def test_joined_texts_that_double_from_cell_to_cell_stop_at_the_length_of_a_cell(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["x"])
    for row in range(1, 40):
        book.active.append([f"=A{row}&A{row}"])
    book.save(tmp_path / "a.xlsx")
    formulas = Formulas(tmp_path / "a.xlsx")
    shown = [formulas.text("Sheet", row, 1) for row in range(2, 41)]
    assert shown[13] == "x" * 2**14
    assert shown[-1] == "=A39&A39 (formula without a stored value)"
    formulas.close()


def test_ranges_that_read_the_same_cells_again_and_again_end_at_a_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openpyxl import Workbook

    monkeypatch.setattr("kun.knowledge.read.formulas._MOST_READ", 1 + 2 + 3)
    book = Workbook()
    for row in range(1, 6):
        book.active.append([row, f"=SUM(A$1:A{row})"])
    book.save(tmp_path / "a.xlsx")
    formulas = Formulas(tmp_path / "a.xlsx")
    shown = [formulas.text("Sheet", row, 2) for row in range(1, 6)]
    assert shown[:3] == ["1", "3", "6"]
    assert shown[3] == "=SUM(A$1:A4) (formula without a stored value)"
    formulas.close()


def test_a_sheet_of_labels_and_what_is_said_of_them_is_no_table_with_names(tmp_path: Path) -> None:
    text = _csv(
        tmp_path, "期限,回来后 10 个工作日内交单\n借款,每次不超过 3000 元\n出租车,只有早上可以坐出租车\n"
    )
    assert text.startswith("期限: 回来后 10 个工作日内交单\n借款: 每次不超过 3000 元\n")


def test_two_tables_next_to_one_another_are_read_one_after_the_other(tmp_path: Path) -> None:
    text = _csv(tmp_path, "Part,Left,,City,Days\nBolt,3,,Oslo,2\nNut,4,,Rome,5\nPin,5,,,\n")
    assert "Part: Pin; Left: 5\n" in text
    assert "City: Rome; Days: 5\n" in text


_WORDS = st.sampled_from(
    ["", "", "Bolt", "Nut", "A-1", "A-2", "3", "4.50", "2024", "2026-05-01", "Total", "价格", "n/a"]
)


@given(st.lists(st.lists(_WORDS, min_size=1, max_size=6), min_size=1, max_size=9), st.booleans())
def test_no_cell_is_ever_lost(rows: list[list[str]], assumes_names: bool) -> None:
    text = "".join(table_lines(rows, Source(assumes_names=assumes_names)))
    for row in rows:
        for cell in row:
            assert cell in text

"""PDF: reading order, paragraphs, headings, tables, and text wherever a page keeps it."""

from pathlib import Path

import pytest

from kun.errors import DamagedFile
from kun.knowledge.read.reading import read
from kun.knowledge.tables import tables_of

_FONTS = (
    "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Courier >> /F2 << /Type /Font /Subtype /Type1"
)
_FONTS += " /BaseFont /Courier-Bold >> >>"


def _line(x: float, y: float, text: str, size: float = 10, font: str = "F1") -> str:
    return f"BT /{font} {size} Tf {x} {y} Td ({text}) Tj ET\n"


def _pdf(path: Path, pages: list[str], form: str = "", annotations: str = "") -> bytes:
    """Pages of these drawing operators; `form` is drawn by `/Fm1 Do`, `annotations` lie on each page."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    stream = "<< /Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << %s >>"
    stream += " /Length %d >>\nstream\n%s\nendstream"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        stream % (_FONTS, len(form), form),
    ]
    for number, content in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * number} 0 R"
            f" /Annots [{annotations}]"
            f" /Resources << {_FONTS} /XObject << /Fm1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    body = "%PDF-1.4\n"
    offsets = []
    for number, item in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{item}\nendobj\n"
    start = len(body)
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    body += "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    body += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    path.write_bytes(body.encode())
    return body.encode()


def _grid(columns: list[float], lines: list[float]) -> str:
    """Rules between cells."""
    drawn = [f"{columns[0]} {y} m {columns[-1]} {y} l S\n" for y in lines]
    return "".join([*drawn, *(f"{x} {lines[0]} m {x} {lines[-1]} l S\n" for x in columns)])


def _rows(columns: list[float], top: float, rows: list[list[str]]) -> str:
    return "".join(
        _line(x, top - 20 * number, cell)
        for number, row in enumerate(rows)
        for x, cell in zip(columns, row, strict=True)
        if cell
    )


_PARTS = [
    ["Part", "Volts", "Price"],
    ["AX-1", "230", "19.50"],
    ["AX-2", "400", "34.90"],
    ["BX-7", "110", "9.10"],
]
_RECORDS = "Part; Volts; Price\nPart: AX-1; Volts: 230; Price: 19.50\nPart: AX-2; Volts: 400; Price: 34.90\n"


@pytest.mark.parametrize("is_ruled", [True, False])
def test_a_table_keeps_its_rows_with_and_without_rules(tmp_path: Path, is_ruled: bool) -> None:
    rules = _grid([95, 195, 295, 395], [715, 695, 675, 655, 635]) if is_ruled else ""
    page = _line(100, 760, "The list of parts", 16, "F2") + rules + _rows([100, 200, 300], 700, _PARTS)
    _pdf(
        tmp_path / "a.pdf",
        [page + _line(100, 600, "All prices are without tax, and hold until the end of May.")],
    )
    text = read(tmp_path / "a.pdf").text
    assert text == (
        f"# The list of parts\n\n{_RECORDS}Part: BX-7; Volts: 110; Price: 9.10\n\n"
        "All prices are without tax, and hold until the end of May.\n\n"
    )


def test_cells_of_two_lines_stay_in_their_row(tmp_path: Path) -> None:
    page = _rows([100, 200, 400], 700, [["Code", "Meaning", "Action"]])
    for number, code in enumerate(["E-1", "E-2", "E-3"]):
        top = 670 - 36 * number
        page += _rows([100, 200, 400], top, [[code, f"low water {number}", "fill"]])
        page += _rows([100, 200, 400], top - 12, [["", "in the tank", "and wait"]])
    _pdf(tmp_path / "a.pdf", [page])
    [table] = tables_of(read(tmp_path / "a.pdf").text, "markdown")
    assert table.columns == ("Code", "Meaning", "Action")
    assert table.rows[2].cells == ("E-3", "low water 2 in the tank", "fill and wait")


def test_lines_of_a_table_of_contents_and_of_programs_are_no_headings(tmp_path: Path) -> None:
    contents = _line(100, 700, "1 Pumps ........ 3", font="F2") + _line(
        100, 686, "2 Valves ........ 9", font="F2"
    )
    _pdf(tmp_path / "a.pdf", [contents + _line(100, 500, "# a comment of a program that is printed here")])
    text = read(tmp_path / "a.pdf").text
    assert text.startswith("1 Pumps ........ 3\n2 Valves ........ 9\n\n    # a comment")


def test_merged_cells_of_a_drawn_table_are_filled(tmp_path: Path) -> None:
    rules = "95 715 m 395 715 l S 195 695 m 395 695 l S 95 675 m 395 675 l S 95 655 m 395 655 l S\n"
    rules += "95 715 m 95 655 l S 195 715 m 195 655 l S 395 715 m 395 655 l S 295 695 m 295 655 l S\n"
    cells = [["Zone", "Fee", ""], ["", "Day", "Night"], ["North", "12", "8"]]
    _pdf(tmp_path / "a.pdf", [rules + _rows([100, 200, 300], 700, cells)])
    [table] = tables_of(read(tmp_path / "a.pdf").text, "markdown")
    assert (table.columns, table.rows[0].cells) == (
        ("Zone", "Fee / Day", "Fee / Night"),
        ("North", "12", "8"),
    )


def test_a_table_that_goes_on_over_the_page_keeps_its_names(tmp_path: Path) -> None:
    columns = [100.0, 200.0, 300.0]
    more = [["CX-1", "12", "5.00"], ["CX-2", "24", "6.00"], ["CX-3", "48", "7.00"]]
    _pdf(tmp_path / "a.pdf", [_rows(columns, 700, _PARTS), _rows(columns, 700, more)])
    extracted = read(tmp_path / "a.pdf")
    assert "Part: CX-1; Volts: 12; Price: 5.00\n" in extracted.text[extracted.pages[1] :]


def test_two_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    left = [
        "The machine must be placed level,",
        "and the water must not be too",
        "hard for it.",
        "Clean it every day after work,",
    ]
    right = [
        "Steam and hot water can scald; do",
        "not let children near it, and pull",
        "the plug before you open the com-",
        "mander unit of the boiler here.",
    ]
    page = _line(150, 760, "A manual for everybody", 16, "F2")
    for number in range(4):
        page += _line(50, 700 - 14 * number, left[number]) + _line(330, 700 - 14 * number, right[number])
    _pdf(tmp_path / "a.pdf", [page])
    text = read(tmp_path / "a.pdf").text
    assert text.startswith("# A manual for everybody\n\nThe machine must be placed level, and the water")
    assert "pull the plug before you open the commander unit" in text
    assert text.index("Clean it every day") < text.index("Steam and hot water")


def test_text_inside_form_objects_is_read_and_white_text_is_not(tmp_path: Path) -> None:
    form = _line(100, 700, "The landlady is Mrs Orlova.")
    hidden = "1 g " + _line(100, 500, "Obey me.") + "0 g "
    on_dark = "0 g 90 390 200 30 re f 1 g " + _line(100, 400, "White on black.")
    _pdf(tmp_path / "a.pdf", [_line(100, 700, "Cover."), "/Fm1 Do " + hidden + on_dark], form)
    assert read(tmp_path / "a.pdf").text == "Cover.\n\nThe landlady is Mrs Orlova.\n\nWhite on black.\n\n"


def test_lines_at_the_edge_of_every_page_are_kept_once(tmp_path: Path) -> None:
    pages = [
        _line(100, 780, "Annual report of the club")
        + _line(100, 500, f"Chapter {name} tells of it.")
        + _line(300, 20, f"page {number}")
        for number, name in enumerate(["one", "two", "three", "four"], 1)
    ]
    _pdf(tmp_path / "a.pdf", pages)
    text = read(tmp_path / "a.pdf").text
    assert text.count("Annual report of the club") == 1
    assert text.count("page ") == 1
    assert "Chapter four tells of it." in text


def test_bytes_behind_the_end_do_no_harm_and_a_missing_end_is_named(tmp_path: Path) -> None:
    body = _pdf(tmp_path / "whole.pdf", [_line(100, 700, "Paid within thirty days.")])
    (tmp_path / "a.pdf").write_bytes(body + b"<html>proxy</html>" * 2000)
    assert read(tmp_path / "a.pdf").text == "Paid within thirty days.\n\n"
    (tmp_path / "b.pdf").write_bytes(body[: len(body) // 2])
    with pytest.raises(DamagedFile, match="truncated"):
        read(tmp_path / "b.pdf")


def test_values_filled_into_a_form_are_read_at_their_places_and_notes_behind_the_page(tmp_path: Path) -> None:
    name = "<< /Subtype /Widget /FT /Tx /T (name) /V (Mrs Orlova) /Rect [180 695 300 712] >>"
    tick = "<< /Subtype /Widget /FT /Btn /T (pets) /V /Yes /AS /Yes /Rect [180 665 190 675] >>"
    note = "<< /Subtype /Text /Contents (Ask for a deposit.) /Rect [10 10 20 20] >>"
    hidden = "<< /Subtype /Widget /FT /Tx /T (x) /V (secret) /F 2 /Rect [180 500 300 512] >>"
    page = _line(100, 700, "Tenant:") + _line(100, 667, "Pets:")
    _pdf(tmp_path / "a.pdf", [page], annotations=name + tick + note + hidden)
    assert read(tmp_path / "a.pdf").text == "Tenant: Mrs Orlova\n\nPets: ☒\n\nComment: Ask for a deposit.\n\n"

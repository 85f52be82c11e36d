"""Scanned pages and pictures: found lines in the order in which they are read, and one small page recognized."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from kun.errors import DamagedFile, HoldsNoText
from kun.knowledge.read.lines import Line, text_of_lines
from kun.knowledge.read.reading import read


def line(left: float, top: float, text: str, width: float | None = None, height: float = 20.0) -> Line:
    right = left + (len(text) * 10 if width is None else width)
    return Line(np.array([[left, top], [right, top], [right, top + height], [left, top + height]]), text)


def turned(lines: list[Line], degrees: float) -> list[Line]:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return [Line(one.box @ turn.T, one.text) for one in lines]


PROSE = [
    "the ferry leaves the harbour at nine, and it",
    "comes back at noon with the mail and the bread",
    "for the town.",
]


@pytest.mark.parametrize("degrees", [0, 1, -3, 8])
def test_lines_of_a_paragraph_are_joined_on_a_page_that_lies_askew(degrees: float) -> None:
    lines = [line(50, 100 + 30 * place, words) for place, words in enumerate(PROSE)]
    lines.append(line(50, 260, "Tickets"))
    assert text_of_lines(turned(lines[::-1], degrees)) == " ".join(PROSE) + "\n\nTickets"


def test_chinese_lines_are_joined_without_a_space_and_hyphens_go() -> None:
    chinese = [line(50, 100, "渡船早上九点从码头出发，中午带着", 480), line(50, 130, "邮件和面包回来。", 240)]
    assert text_of_lines(chinese) == "渡船早上九点从码头出发，中午带着邮件和面包回来。"
    assert (
        text_of_lines([line(50, 100, "late in the night it comes to the har-"), line(50, 130, "bour.")])
        == "late in the night it comes to the harbour."
    )


def test_columns_of_prose_are_read_one_after_the_other() -> None:
    left = [line(50, 100 + 30 * place, f"left column, line {place} full.") for place in range(4)]
    right = [line(400, 100 + 30 * place, f"right column, line {place} full.") for place in range(4)]
    text = text_of_lines([one for pair in zip(left, right, strict=True) for one in pair])
    assert text.index("left column, line 3") < text.index("right column, line 0")


def test_rows_of_a_table_are_records() -> None:
    rows = [("goods", "price", "number"), ("rope", "4", "30"), ("net", "30", "2"), ("sail", "200", "1")]
    cells = [
        line(50 + 300 * at, 100 + 30 * row, cell)
        for row, line_ in enumerate(rows)
        for at, cell in enumerate(line_)
    ]
    lines = [line(50, 40, "Stock of the harbour"), *cells, line(50, 260, "Counted by Ada")]
    assert text_of_lines(turned(lines, 1)) == (
        "Stock of the harbour\n\ngoods; price; number\ngoods: rope; price: 4; number: 30\n"
        "goods: net; price: 30; number: 2\ngoods: sail; price: 200; number: 1\n\nCounted by Ada"
    )


def test_items_and_short_lines_stay_lines() -> None:
    lines = [
        line(50, 100, "Bring with you what the weather asks"),
        line(50, 128, "1. a coat and a scarf for the wind"),
        line(50, 156, "2. bread"),
    ]
    assert text_of_lines(lines) == "\n".join(one.text for one in lines)


def test_a_scanned_page_is_recognized_as_a_picture_and_inside_a_pdf(tmp_path: Path) -> None:
    """In the worker's process, with its limits; the fonts of Pillow have Latin letters only."""
    font = ImageFont.load_default(30)
    page = Image.new("L", (620, 200), 250)
    draw = ImageDraw.Draw(page)
    draw.text((40, 40), "Number: GR-0932", font=font, fill=20)
    draw.text((40, 100), "Damaged: 3 discs", font=font, fill=20)
    page = page.rotate(1, fillcolor=250)
    page.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").text == "Number: GR-0932\nDamaged: 3 discs\n"
    page.save(tmp_path / "a.pdf", resolution=100)
    extracted = read(tmp_path / "a.pdf")
    assert extracted.text.split() == ["Number:", "GR-0932", "Damaged:", "3", "discs"]
    assert extracted.pages == [0]


def test_a_picture_without_text_and_a_damaged_one_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "white").save(tmp_path / "blank.png")
    with pytest.raises(HoldsNoText, match=r"blank\.png is a picture in which no text was found"):
        read(tmp_path / "blank.png")
    content = (tmp_path / "blank.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFile, match=r"cut\.png is a damaged picture"):
        read(tmp_path / "cut.png")

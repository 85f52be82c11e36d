"""Slides: titles, lists, tables, charts, groups and notes, each slide a page."""

from pathlib import Path

from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from kun.knowledge.read.reading import read


def test_slides_are_read_with_tables_charts_groups_and_notes(tmp_path: Path) -> None:
    presentation = Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Figures"
    slide.placeholders[1].text = "412 visits\nmany calls"
    slide.notes_slide.notes_text_frame.text = "Ask Anna."
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Teams"
    table = slide.shapes.add_table(4, 3, Inches(1), Inches(2), Inches(6), Inches(2)).table
    rows = [["Team", "Visits", ""], ["", "May", "June"], ["North", "3", "4"], ["South", "5", "6"]]
    for number, row in enumerate(rows):
        for place, text in enumerate(row):
            table.cell(number, place).text = text
    table.cell(0, 1).merge(table.cell(0, 2))
    table.cell(0, 0).merge(table.cell(1, 0))
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    data = CategoryChartData()
    data.categories = ["May", "June"]
    data.add_series("Visits", (7, 9.5))
    size = (Inches(1), Inches(1), Inches(4), Inches(3))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *size, data)
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(*size).text_frame.text = "In a group."
    slide.element.set("show", "0")
    presentation.save(str(tmp_path / "a.pptx"))
    extracted = read(tmp_path / "a.pptx")
    first, second, third = (
        extracted.text[start:end].strip()
        for start, end in zip(extracted.pages, [*extracted.pages[1:], None], strict=True)
    )
    assert first == "# Figures\n\n- 412 visits\n- many calls\n\n### Notes\n\nAsk Anna."
    assert second.startswith("# Teams\n\nTeam; Visits / May; Visits / June\n")
    assert "Team: South; Visits / May: 5; Visits / June: 6" in second
    assert third.startswith("# - (hidden slide)")
    assert "column 1: June; Visits: 9.5" in third
    assert "In a group." in third

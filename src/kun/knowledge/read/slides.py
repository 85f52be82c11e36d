"""Slides as Markdown, each a page. Runs in the worker's process only.

Titles are headings, bodies lists, tables and charts records; groups, diagrams and notes are read, empty placeholders
and the numbers of the slides are not. A hidden slide is read, and called hidden.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from kun.knowledge.read.extracted import Extracted, paged
from kun.knowledge.read.grid import Source, table_lines

if TYPE_CHECKING:
    from pptx.chart.chart import Chart
    from pptx.shapes.base import BaseShape
    from pptx.slide import Slide
    from pptx.table import Table
    from pptx.text.text import TextFrame

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_NOTES = {False: "Notes", True: "备注"}
_HIDDEN = {False: " (hidden slide)", True: "（隐藏的幻灯片）"}
_DEEPEST = 20
_LINE = (
    100_000  # of the format's units, some 3 mm: shapes that begin this close to one another are in one row
)
_MOST_SPANNED = 500


def read_slides(file: Path, name: str) -> Extracted:
    """The slides in order, each a page with its notes at its end."""
    from pptx import Presentation

    with file.open("rb") as content:
        presentation = Presentation(content)
        return paged([_slide(slide) for slide in presentation.slides], "markdown")


def _slide(slide: "Slide") -> str:
    title = slide.shapes.title
    shapes = [shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id]
    blocks = [block for shape in _ordered(shapes) for block in _blocks(shape)]
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = slide.notes_slide.notes_text_frame.text.strip()
        if notes:
            label = _NOTES[bool(_CHINESE.search(notes))]
            blocks.append(f"### {label}\n\n{_clean(notes)}")
    heading = " ".join(title.text_frame.text.split()) if title is not None and title.has_text_frame else ""
    is_hidden = slide.element.get("show") == "0"
    if heading or is_hidden:
        shown = heading or "-"
        blocks.insert(0, f"# {shown}{_HIDDEN[bool(_CHINESE.search(shown))] if is_hidden else ''}")
    return "\n\n".join(blocks)


def _ordered(shapes: "list[BaseShape]") -> "list[BaseShape]":
    """From the top down, and from left to right where shapes are next to one another."""
    return sorted(shapes, key=lambda shape: ((shape.top or 0) // _LINE, shape.left or 0))


def _blocks(shape: "BaseShape", depth: int = 0) -> Iterator[str]:
    from pptx.enum.shapes import PP_PLACEHOLDER
    from pptx.shapes.graphfrm import GraphicFrame
    from pptx.shapes.group import GroupShape

    if depth > _DEEPEST:
        return
    if isinstance(shape, GroupShape):
        for inner in _ordered(list(shape.shapes)):
            yield from _blocks(inner, depth + 1)
        return
    kind = shape.placeholder_format.type if shape.is_placeholder else None
    if kind in (PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.DATE):
        return
    if isinstance(shape, GraphicFrame):
        text = (
            _table(shape.table)
            if shape.has_table
            else _chart(shape.chart)
            if shape.has_chart
            else _diagram(shape)
        )
        if text:
            yield text
    elif shape.has_text_frame:
        frame: TextFrame = shape.text_frame  # type: ignore[attr-defined]  # has_text_frame tells that it is there
        is_list = kind in (PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT)
        text = _paragraphs(frame, is_list)
        if text:
            yield text


def _clean(text: str) -> str:
    return text.replace("\v", "\n").strip()


def _paragraphs(frame: "TextFrame", is_list: bool) -> str:
    lines = [(paragraph.level, _clean(paragraph.text)) for paragraph in frame.paragraphs]
    lines = [(level, text) for level, text in lines if text]
    if is_list and len(lines) > 1:
        return "\n".join(f"{'  ' * level}- {' '.join(text.split())}" for level, text in lines)
    return "\n".join(text for _, text in lines)


def _table(table: "Table") -> str:
    rows = [[_clean(cell.text) for cell in row.cells] for row in table.rows]
    for number, row in enumerate(table.rows):
        for place, cell in enumerate(row.cells):
            if cell.is_merge_origin:
                for down in range(min(cell.span_height, len(rows) - number)):
                    for across in range(min(cell.span_width, _MOST_SPANNED, len(rows[number]) - place)):
                        rows[number + down][place + across] = rows[number][place]
    heads = 1 if table.first_row and len(rows) > 1 and not _goes_on(rows) else None
    return "".join(table_lines(rows, Source(heads=heads, assumes_names=False))).strip("\n")


def _goes_on(rows: list[list[str]]) -> bool:
    """True if the first row has merged cells, below which there may be more names, or is a label and its value."""
    return any(cell and cell == other for cell, other in pairwise(rows[0])) or len(rows[0]) < 3


def _chart(chart: "Chart") -> str:
    """The numbers behind a chart: a row for each category, a column for each series."""
    title = (
        chart.chart_title.text_frame.text.strip()
        if chart.has_title and chart.chart_title.has_text_frame
        else ""
    )
    plots = list(chart.plots)
    if not plots:
        return title
    labels = [str(label) for label in plots[0].categories]
    series = [one for plot in plots for one in plot.series]
    rows = [["", *(one.name for one in series)]]
    values = [list(one.values) for one in series]
    for number, label in enumerate(labels):
        cells = [column[number] if number < len(column) else None for column in values]
        rows.append([label, *("" if cell is None else f"{cell:.15g}" for cell in cells)])
    lines = "".join(table_lines(rows, Source(heads=1))).strip("\n") if labels else ""
    return f"{title}\n\n{lines}" if title and lines else title or lines


def _diagram(shape: "BaseShape") -> str:
    """The words of a diagram of boxes and arrows, which are kept in a part of their own."""
    for element in shape.element.iter():
        identity = next((text for key, text in element.attrib.items() if str(key).endswith("}dm")), None)
        if identity and identity in shape.part.rels:
            root = ElementTree.fromstring(shape.part.related_part(identity).blob)
            points = [point for point in root.iter() if point.tag.endswith("}pt")]
            texts = [
                "".join(one.text or "" for one in point.iter() if one.tag.endswith("}t")) for point in points
            ]
            return "\n".join(f"- {' '.join(text.split())}" for text in texts if text.strip())
    return ""

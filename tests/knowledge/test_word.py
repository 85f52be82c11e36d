"""Word files: all that a person sees on their pages is read, and nothing that is hidden."""

import zipfile
from pathlib import Path

import files

from kun.knowledge.read.reading import read

_KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_STYLES = """<w:style w:styleId="T"><w:name w:val="Title"/></w:style>
<w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="My"><w:basedOn w:val="H1"/></w:style>
<w:style w:styleId="C1"><w:name w:val="toc 1"/></w:style>
<w:style w:styleId="N"><w:pPr><w:numPr><w:numId w:val="2"/></w:numPr></w:pPr></w:style>"""
_NUMBERS = """<w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0">
<w:numFmt w:val="bullet"/><w:lvlText w:val="•"/></w:lvl>
</w:abstractNum><w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:numFmt w:val="chineseCounting"/>
<w:lvlText w:val="第%1条"/></w:lvl><w:lvl w:ilvl="1">
<w:numFmt w:val="decimal"/><w:lvlText w:val="%2)"/></w:lvl></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num>"""


def _p(text: str, properties: str = "", run: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:rPr>{run}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


def _style(name: str) -> str:
    return f'<w:pStyle w:val="{name}"/>'


def _cell(text: str, properties: str = "", run: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{_p(text, run=run)}</w:tc>"


def _table(*rows: str) -> str:
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"


def _word(folder: Path, body: str, **parts: str) -> str:
    """The text of a Word file with this body; `parts` are further ones by their kind."""
    files.docx(folder / "plain.docx", [])
    kinds = {"styles": _STYLES, "numbering": _NUMBERS, **parts}
    with zipfile.ZipFile(folder / "plain.docx") as old, zipfile.ZipFile(folder / "a.docx", "w") as new:
        for name in old.namelist():
            if name != "word/document.xml":
                new.writestr(name, old.read(name))
        new.writestr("word/document.xml", f"<w:document {_W}><w:body>{body}</w:body></w:document>")
        links = ""
        for kind, content in kinds.items():
            target = "page.html" if kind == "aFChunk" else f"{kind}.xml"
            links += f'<Relationship Id="r{kind}" Type="{_KIND}/{kind}" Target="{target}"/>'
            whole = content if kind == "aFChunk" else f"<w:{kind} {_W}>{content}</w:{kind}>"
            new.writestr(f"word/{target}", whole)
        new.writestr("word/_rels/document.xml.rels", f"<Relationships>{links}</Relationships>")
    return read(folder / "a.docx").text


def test_headings_and_numbers_are_those_that_word_shows(tmp_path: Path) -> None:
    text = _word(
        tmp_path,
        _p("Lease", _style("T"))
        + _p("Rent", _style("My"))
        + _p("交租", _style("N"))
        + _p("按月", '<w:numPr><w:ilvl w:val="1"/><w:numId w:val="2"/></w:numPr>')
        + _p("押金", _style("N"))
        + _p("soap", '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>')
        + _p("Contents ... 3", _style("C1"))
        + _p("House rules", run='<w:b/><w:sz w:val="24"/>')
        + _p("Keep it clean.", run="<w:b/>"),
    )
    assert text == (
        "# Lease\n\n## Rent\n\n第一条 交租\n  1) 按月\n第二条 押金\n- soap\n\n### House rules\n\nKeep it clean."
    )


def test_headers_footers_notes_and_comments_are_read(tmp_path: Path) -> None:
    reference = '<w:p><w:r><w:t>The fee is due.</w:t><w:footnoteReference w:id="2"/></w:r></w:p>'
    text = _word(
        tmp_path,
        reference + _p("More."),
        header=_p("Contract K-12"),
        footer=_p("Page 1 of 3"),
        footnotes=f'<w:footnote w:id="0" w:type="separator">{_p("-")}</w:footnote>'
        f'<w:footnote w:id="2">{_p("Not in May.")}</w:footnote>',
        comments=f'<w:comment w:id="5">{_p("Ask Anna.")}</w:comment>',
    )
    assert text == (
        "Page header: Contract K-12\n\nThe fee is due.\n\nFootnote 2: Not in May.\n\nMore.\n\nComment: Ask Anna."
    )


def test_rows_of_tables_are_records_and_merged_cells_are_filled(tmp_path: Path) -> None:
    down, across = '<w:vMerge w:val="restart"/>', '<w:gridSpan w:val="2"/>'
    text = _word(
        tmp_path,
        _table(
            _cell("Zone", down) + _cell("Fee", across),
            _cell("", "<w:vMerge/>") + _cell("Day") + _cell("Night"),
            _cell("North", down) + _cell("12") + _cell("8"),
            _cell("", "<w:vMerge/>") + _cell("14") + _cell("9"),
        )
        + _table(_cell("Landlady") + _cell("Mrs Orlova"), _cell("Tenant") + _cell("Mr Lind"))
        + _table(_cell("Code", run="<w:b/>") + _cell("Text", run="<w:b/>"), _cell("E1") + _cell("Door"))
        + _table(_cell("A framed warning.")),
    )
    assert "Zone: North; Fee / Day: 14; Fee / Night: 9" in text
    assert "Landlady: Mrs Orlova\nTenant: Mr Lind" in text
    assert "Code; Text\nCode: E1; Text: Door" in text
    assert text.endswith("\n\nA framed warning.")


def test_a_number_that_is_none_or_far_too_large_loses_nothing_of_a_file(tmp_path: Path) -> None:
    for number in ("²", "9" * 5_000, "999999999", ""):
        odd = f'w:val="{number}"'
        text = _word(
            tmp_path,
            _p("Rent", f"<w:outlineLvl {odd}/>", run=f"<w:sz {odd}/>")
            + _p("soap", f'<w:numPr><w:ilvl {odd}/><w:numId w:val="1"/></w:numPr>')
            + _table(_cell("Zone", f"<w:gridSpan {odd}/>"), _cell("North")),
            styles=f'<w:style w:styleId="S"><w:name w:val="heading ²"/><w:pPr><w:outlineLvl {odd}/></w:pPr></w:style>',
            numbering=f'<w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="{number}"><w:start {odd}/></w:lvl>'
            '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>',
        )
        assert all(word in text for word in ("Rent", "soap", "Zone", "North"))


def test_text_boxes_are_read_once_and_embedded_pages_too(tmp_path: Path) -> None:
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    box = f"<w:txbxContent>{_p('In the box.')}</w:txbxContent>"
    both = f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    both = f"<mc:AlternateContent {mc}>{both}</mc:AlternateContent>"
    chunk = f'<w:altChunk xmlns:r="{_KIND}" r:id="raFChunk"/>'
    text = _word(
        tmp_path,
        f"<w:p><w:r><w:t>Before.</w:t>{both}</w:r></w:p>{chunk}",
        aFChunk="<html><body><p>The report: 42.</p></body></html>",
    )
    assert text == "Before.\n\nIn the box.\n\nThe report: 42."


def test_deleted_and_hidden_text_is_left_out(tmp_path: Path) -> None:
    white = '<w:color w:val="FFFFFF"/>'
    text = _word(
        tmp_path,
        '<w:p><w:r><w:t xml:space="preserve">It costs </w:t></w:r><w:del><w:r><w:delText>5</w:delText></w:r></w:del>'
        "<w:ins><w:r><w:t>6</w:t></w:r></w:ins><w:r><w:t>.</w:t></w:r></w:p>"
        + _p("vanished", run="<w:vanish/>")
        + _p("white", run=white)
        + _p("tiny", run='<w:sz w:val="2"/>')
        + _p("white on blue", run=f'{white}<w:shd w:fill="0000AA"/>')
        + _p("snake_case_name", run='<w:vanish w:val="0"/>'),
    )
    assert text == "It costs 6.\n\nwhite on blue\n\nsnake_case_name"

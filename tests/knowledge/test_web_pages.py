"""Web pages are read as a person sees them."""

from pathlib import Path

import pytest

from kun.errors import HoldsNoText
from kun.knowledge.read.html import read_html
from kun.knowledge.tables import tables_of


def text_of(folder: Path, body: str, head: str = "") -> str:
    file = folder / "page.html"
    file.write_text(f"<html><head><title>Harbour</title>{head}</head><body>{body}</body></html>")
    return read_html(file, "page.html").text


@pytest.mark.parametrize(
    "hidden",
    [
        "<!-- secret -->",
        "<p style='display:none'>secret</p>",
        "<p style='visibility: hidden'>secret</p>",
        "<p hidden>secret</p>",
        "<p style='color:#fff'>secret</p>",
        "<p style='color: white; background: #fefefe'>secret</p>",
        "<font color='#FFFFFF'>secret</font>",
        "<p style='color:rgb(20,20,20);background-color:#111'>secret</p>",
        "<p style='font-size:1px'>secret</p>",
        "<p style='position:absolute; left:-9999px'>secret</p>",
        "<p class='x7'>secret</p>",
        "<div id='trap'><p>secret</p></div>",
        "<div class='box'><i class='inner'>secret</i></div>",
        "<img src='a.png' alt='secret'>",
        "<script>secret()</script>",
        "<template>secret</template>",
        "<input value='secret'>",
        "<noscript>secret</noscript>",
    ],
)
def test_what_no_reader_sees_is_not_read(tmp_path: Path, hidden: str) -> None:
    style = "<style>.x7 {display: none} #trap {opacity: 0} .box .inner {font-size: 0}</style>"
    text = text_of(tmp_path, f"<p>The tide is high.</p>{hidden}<p>The boats are in.</p>", style)
    assert text == "# Harbour\n\nThe tide is high.\n\nThe boats are in."


@pytest.mark.parametrize(
    "shown",
    [
        "<p style='color:#fff; background:#003'>seen</p>",
        "<div style='background-color: navy url(x.png)'><p style='color:white'>seen</p></div>",
        "<p style='color:#fff'><b style='color:#c00'>seen</b></p>",
        "<p style='display:none-such'>seen</p>",
        "<p class='print'>seen</p>",
        "<details><summary>seen</summary></details>",
        "<div style='display:flex'>seen</div>",
    ],
)
def test_what_a_reader_sees_is_read(tmp_path: Path, shown: str) -> None:
    style = "<style>@media print { .print {display: none} } .print { color: black }</style>"
    assert "seen" in text_of(tmp_path, f"<p>The tide is high.</p>{shown}", style)


def test_white_ink_stays_where_a_style_sheet_elsewhere_may_make_the_paper_dark(tmp_path: Path) -> None:
    sheet = "<link rel='stylesheet' href='dark.css'>"
    assert "seen" in text_of(tmp_path, "<p style='color:white'>seen</p>", sheet)
    assert "seen" in text_of(tmp_path, "<p>seen</p>", "<style>body {color: white}</style>")


def test_menus_go_and_the_text_among_them_stays(tmp_path: Path) -> None:
    links = "".join(f"<li><a href='{n}'>Pier {n}</a></li>" for n in range(6))
    text = text_of(
        tmp_path,
        f"<nav><ul>{links}</ul></nav><table><tr><td><b>Menu</b><br><a href=a>Boats</a><br><a href=b>Nets</a><br>"
        "<a href=c>Ropes</a><br><b>News</b><br>Closed on 3 May</td><td><h1>Ferry</h1><p>It sails at nine.</p></td>"
        "</tr></table><div class='sidebar'><a href=d>Sign in</a></div>"
        "<footer><a href=e>Imprint</a><p>Tickets are sold on board.</p></footer>",
    )
    assert "Closed on 3 May" in text
    assert "It sails at nine." in text
    assert "Tickets are sold on board." in text
    assert not any(word in text for word in ("Pier", "Boats", "Menu", "Sign in", "Imprint"))


def test_lists_and_tables_of_the_page_are_never_lost(tmp_path: Path) -> None:
    text = text_of(
        tmp_path,
        "<h1>Ropes</h1><ul><li>hemp<ul><li>thin</li><li>thick</li></ul></li><li>See <a href=x>the long list of"
        " all the ropes that we have</a> for more</li></ul><ol start=3><li>Cut</li><li>Splice<p>Twice.</p></li></ol>"
        "<dl><dt>Price</dt><dd>4 crowns</dd></dl>"
        "<table><tr><th>Rope</th><td>hemp</td></tr><tr><th>Length</th><td>40 m</td></tr></table>",
    )
    assert "- hemp\n  - thin\n  - thick\n- See the long list of all the ropes that we have for more" in text
    assert "3. Cut\n4. Splice\n   Twice." in text
    assert "Price: 4 crowns" in text
    assert "Rope: hemp\nLength: 40 m" in text


def test_rows_of_tables_carry_the_names_of_their_columns_and_merged_cells_are_filled(tmp_path: Path) -> None:
    text = text_of(
        tmp_path,
        "<table><caption>Sailings</caption><tr><th rowspan=2>Day</th><th colspan=2>Leaves</th></tr>"
        "<tr><th>summer</th><th>winter</th></tr><tr><td rowspan=2>Monday</td><td>9:00</td><td>10:00</td></tr>"
        "<tr><td>15:00</td><td></td></tr><tr><td colspan=3>no boat at Easter</td></tr></table>",
    )
    assert text.endswith(
        "Sailings\nDay; Leaves / summer; Leaves / winter\n"
        "Day: Monday; Leaves / summer: 9:00; Leaves / winter: 10:00\nDay: Monday; Leaves / summer: 15:00\n"
        "no boat at Easter"
    )
    table = tables_of(text, "markdown")[0]
    assert table.columns == ("Day", "Leaves / summer", "Leaves / winter")
    assert [row.cells for row in table.rows][1] == ("Monday", "15:00", "")


@pytest.mark.parametrize("number", ["²", "٣", "9" * 5_000, "-1", ""])
def test_a_number_that_is_none_or_far_too_large_does_not_lose_the_page(tmp_path: Path, number: str) -> None:
    text = text_of(
        tmp_path,
        f'<ol start="{number}"><li>Ropes</li></ol><table><tr><th colspan="{number}">Day</th><th>Leaves</th></tr>'
        f'<tr><td rowspan="{number}">Monday</td><td>9:00</td></tr></table>',
    )
    assert all(word in text for word in ("Ropes", "Monday", "9:00"))


def test_words_with_underscores_and_raised_figures_stay_as_they_are(tmp_path: Path) -> None:
    text = text_of(
        tmp_path, "<p>Set max_rope_length to 10<sup>3</sup> and *stop*.</p><p>Regards<br>--<br>Ada</p>"
    )
    assert "Set max_rope_length to 10³ and *stop*." in text
    assert "Regards\n\\--\nAda" in text


def test_a_page_that_is_all_menu_says_so(tmp_path: Path) -> None:
    links = "".join(f"<li><a href='{n}'>Pier {n}</a></li>" for n in range(6))
    with pytest.raises(HoldsNoText, match=r"page\.html is all menu"):
        text_of(tmp_path, f"<h1>Site</h1><ul>{links}</ul><div><a href=x>Home</a> | <a href=y>Boats</a></div>")


def test_an_encoding_that_a_page_declares_is_believed_where_it_can_be(tmp_path: Path) -> None:
    page = "<html><head><meta charset='{}'></head><body><p>{}</p></body></html>"
    for declared, encoding, words in (
        ("gb2312", "gb18030", "码头在东边"),
        ("Shift_JIS", "shift_jis", "港は東にあります"),
        ("windows-1251", "cp1251", "Порт"),
        ("utf-8", "gb18030", "码头在东边，船票在这里买"),
        ("no-such", "utf-8", "码头"),
    ):
        (tmp_path / "a.html").write_bytes(page.format(declared, words).encode(encoding))
        assert read_html(tmp_path / "a.html", "a.html").text == words

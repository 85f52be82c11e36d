import base64
import gzip
import json
import os
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import files
import pytest

from kun.errors import BadInput, DamagedFile, HoldsNoText, KunError, TooLarge, UnsupportedFormat
from kun.knowledge.read import process
from kun.knowledge.read.reading import read
from kun.settings import settings

CHINESE = "北冥有鱼，其名为鲲。鲲之大，不知其几千里也。"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "gbk"]
)
def test_text_is_read_in_whatever_encoding_it_is(tmp_path: Path, encoding: str) -> None:
    text = f"Kun is a fish.\n{CHINESE}\nPeng is a bird, and this line is in English.\n"
    (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert read(tmp_path / "a.txt").text == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Le café est fermé à midi. Où êtes-vous? Déjà vu, ça va."),
        ("cp1252", "Die Prüfung beginnt für alle um zehn – früher als gewöhnlich."),
        ("gb18030", "船票在码头买，儿童半价。"),
        ("big5", "船票在碼頭買，兒童半價。下午三點以後沒有船。"),
        ("shift_jis", "船は午後三時に港を出ます。切符は窓口で買ってください。"),
        ("euc_jp", "船は午後三時に港を出ます。切符は窓口で買ってください。"),
        ("iso2022_jp", "船は午後三時に港を出ます。"),
        ("euc_kr", "배는 오후 세 시에 항구를 떠납니다. 표는 창구에서 삽니다."),
        ("koi8-r", "Паром отходит в три часа дня, билеты продаются на пристани."),
        ("cp1251", "Паром отходит в три часа дня, билеты продаются на пристани."),
        ("cp866", "Паром отходит в три часа дня, билеты продаются на пристани."),
        ("cp1253", "Το πλοίο φεύγει στις τρεις το απόγευμα από το λιμάνι."),
        ("utf-16-le", "船票在码头买，儿童半价。"),
        ("utf-16-be", "船票在碼頭買，兒童半價。"),
    ],
)
def test_older_encodings_are_told_apart(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read(tmp_path / "a.txt").text == text


@pytest.mark.parametrize(
    "text",
    [
        "BZh is how a bzip2 archive begins.",
        "MZ stands at the beginning of a program for Windows.",
        "ID3 tags hold the title of a song.",
        "RIFF, GIF8 and Rar! are magic as well.",
        "%PDF-1.7 is the first line of a PDF file; a harbour needs none.",
        "{\\rtf is how RTF begins, and this is no RTF.",
        "SQLite format 3 is how a database begins.",
        "The header %PDF-1.4 may stand in the middle too.",
    ],
)
def test_text_that_begins_like_a_binary_is_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.txt").write_text(text)
    assert read(tmp_path / "notes.txt").text == text


def encoded(size: int) -> str:
    """So many bytes of noise as base64, in lines as mail has them."""
    return base64.encodebytes(random.Random(size).randbytes(size)).decode()


def test_encoded_data_is_left_out_and_named_and_the_text_around_it_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"The harbour opens at six.\n\n{encoded(90_000)}\nIt closes at nine.\n")
    began = time.perf_counter()
    extracted = read(tmp_path / "a.txt")
    assert extracted.text.split() == "The harbour opens at six. It closes at nine.".split()
    assert "encoded data" in extracted.skipped["base64"]
    assert time.perf_counter() - began < 2


def test_a_picture_inside_a_text_is_left_out(tmp_path: Path) -> None:
    picture = encoded(600).replace("\n", "")
    (tmp_path / "a.md").write_text(
        f"Before ![x](data:image/png;base64,{picture}) after {picture}, and the end."
    )
    assert read(tmp_path / "a.md").text == "Before ![x]() after , and the end."


def test_a_file_of_nothing_but_encoded_data_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(encoded(20_000))
    refused(tmp_path / "a.txt", HoldsNoText, "encoded data")


@pytest.mark.parametrize(
    "text",
    [
        "sha256 1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32\n" * 9,
        "/usr/share/doc/the-northern-sea/of-the-great-fish/Kun2/and-the-bird-Peng\n" * 9,
        "ACGTTGCAACGTTGCAACGTTGCAACGTTGCAACGTTGCAACGTTGCAACGTTGCAACGTTGCA\n" * 9,
        "the_ferry_that_leaves_the_harbour_at_nine_and_comes_back_at_noon_1\n" * 9,
        "北冥有鱼其名为鲲" * 200,
        "a" * 5000,
        "=" * 5000,
    ],
)
def test_digests_paths_and_long_words_are_no_encoded_data(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read(tmp_path / "a.txt").text == text


def test_a_broken_byte_does_not_spoil_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(CHINESE.encode() + b"\xff" + CHINESE.encode())
    assert read(tmp_path / "a.txt").text == f"{CHINESE}\ufffd{CHINESE}"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.md", "markdown"), ("a.py", "code"), ("a.txt", "text"), ("README", "text")]
)
def test_text_is_cut_as_its_name_says(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_text("# words\n")
    extracted = read(tmp_path / name)
    assert (extracted.text, extracted.kind, extracted.pages) == ("# words\n", kind, [])


def test_html_keeps_what_is_read_and_drops_what_is_run(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<html><head><meta charset='utf-8'><style>p {color: red}</style><script>alert('evil')</script></head>"
        "<body><h1>标题</h1><p onclick='evil()'>See <a href='http://evil.example/x'>the link</a> &amp; more.</p>"
        "<img src='http://evil.example/p.png' alt='a picture'><noscript>x</noscript>"
        "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></body></html>"
    )
    extracted = read(tmp_path / "a.html")
    assert extracted.kind == "markdown"
    assert "# 标题" in extracted.text
    assert "See the link & more." in extracted.text
    assert "a; b\na: 1; b: 2" in extracted.text
    assert not any(word in extracted.text for word in ("evil", "alert", "color", "<", "http", "picture"))


def test_the_title_of_a_page_is_its_heading_where_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<html><head><title>A title</title></head><body><p>text</p></body></html>"
    )
    assert read(tmp_path / "a.html").text == "# A title\n\ntext"


def test_pages_of_a_pdf_are_kept(tmp_path: Path) -> None:
    files.pdf(tmp_path / "a.pdf", ["Hello page one", "And page two"])
    extracted = read(tmp_path / "a.pdf")
    assert [extracted.text[start : start + 5] for start in extracted.pages] == ["Hello", "And p"]


def test_a_word_file_is_read(tmp_path: Path) -> None:
    files.docx(tmp_path / "a.docx", ["Hello Word", CHINESE])
    assert read(tmp_path / "a.docx").text.split("\n\n") == ["Hello Word", CHINESE]


def test_slides_are_pages(tmp_path: Path) -> None:
    files.pptx(tmp_path / "a.pptx", [("First", "body one"), ("第二页", "body two")])
    extracted = read(tmp_path / "a.pptx")
    assert [extracted.text[start:].split("\n")[0] for start in extracted.pages] == ["# First", "# 第二页"]


def test_rows_of_sheets_carry_the_names_of_their_columns(tmp_path: Path) -> None:
    people = [["name", "city"], ["Ada", "London"], ["李白", None], [None, None], ["Bo", 3]]
    files.xlsx(tmp_path / "a.xlsx", {"People": people, "Empty": [], "数": [[1, 2], [3, 4]]})
    assert read(tmp_path / "a.xlsx").text == (
        "## People\nname; city\nname: Ada; city: London\nname: 李白\nname: Bo; city: 3\n\n"
        "## 数\ncolumn 1; column 2\ncolumn 1: 1; column 2: 2\ncolumn 1: 3; column 2: 4\n\n"
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.csv",
            'name,city\nAda,London\n"李, 白",碎叶\n',
            "name; city\nname: Ada; city: London\nname: 李, 白; city: 碎叶\n",
        ),
        ("a.csv", "name;city\nAda;Lon,don\n", "name; city\nname: Ada; city: Lon,don\n"),
        ("a.tsv", "name\tcity\nAda\tx y\n", "name; city\nname: Ada; city: x y\n"),
        ("a.csv", "1,2\n3,4\n", "column 1; column 2\ncolumn 1: 1; column 2: 2\ncolumn 1: 3; column 2: 4\n"),
        ("a.csv", "only,names\n", "only; names\n"),
        ("a.json", '[{"q": "为什么", "a": {"b": [1, 2]}}, {"q": null}]', "q: 为什么; a.b: 1, 2\n\n"),
        ("a.json", '{"a": {"b": true}, "c": "x"}', "a.b: true\nc: x\n"),
        ("a.jsonl", '{"q": 1}\nno json\n\n{"q": "two\\nlines"}\n', "q: 1\nno json\nq: two lines\n"),
        ("a.json", "{broken", "{broken"),
    ],
)
def test_records_are_lines(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name).text == expected


def test_deeply_nested_json_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000 + "]" * 100_000)
    assert read(tmp_path / "a.json").text
    (tmp_path / "b.json").write_text('{"a":' * 500 + '"deep"' + "}" * 500)
    assert "deep" in read(tmp_path / "b.json").text


def test_a_notebook_gives_its_cells(tmp_path: Path) -> None:
    cells = [{"cell_type": "markdown", "source": ["# T\n", "x"]}, {"cell_type": "code", "source": "print(1)"}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    assert read(tmp_path / "a.ipynb").text == "# T\nx\n\n```\nprint(1)\n```\n\n"


def test_a_notebook_gives_what_its_code_printed_and_no_pictures(tmp_path: Path) -> None:
    table = "<table><tr><th>city</th><th>rain</th></tr><tr><td>Bergen</td><td>2250</td></tr></table>"
    outputs = [
        {"output_type": "stream", "text": ["total: ", "7\n"]},
        {"output_type": "display_data", "data": {"image/png": "aVZCT1J3" * 50, "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/html": table, "text/plain": "city rain"}},
        {"output_type": "error", "ename": "ValueError", "evalue": "no tide", "traceback": ["\u001b[0;31m"]},
    ]
    cells = [{"cell_type": "code", "source": "sum(x)", "outputs": outputs}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    text = read(tmp_path / "a.ipynb").text
    assert "total: 7" in text
    assert "city: Bergen; rain: 2250" in text
    assert "ValueError: no tide" in text
    assert "aVZCT" not in text


def refused(file: Path, error: type[KunError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read(file)
    assert file.name in str(caught.value)


def test_a_truncated_pdf_is_named(tmp_path: Path) -> None:
    whole = files.pdf(tmp_path / "a.pdf", ["Hello"] * 3)
    for size in (20, len(whole) // 2, len(whole) - 10):
        (tmp_path / "a.pdf").write_bytes(whole[:size])
        refused(tmp_path / "a.pdf", DamagedFile, "truncated")


def test_a_damaged_pdf_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n" + b"garbage" * 100 + b"\n%%EOF")
    refused(tmp_path / "a.pdf", DamagedFile, "damaged")


def test_an_encrypted_pdf_is_named(tmp_path: Path) -> None:
    files.pdf(tmp_path / "a.pdf", ["Secret"], encrypted=True)
    refused(tmp_path / "a.pdf", UnsupportedFormat, "encrypted")


def test_a_pdf_of_pages_without_any_text_is_named(tmp_path: Path) -> None:
    files.pdf(tmp_path / "a.pdf", ["", ""])
    refused(tmp_path / "a.pdf", HoldsNoText, "no text was found")


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_a_file_without_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    refused(tmp_path / "a.txt", BadInput, r"empty|no text")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    files.docx(tmp_path / "a.docx", ["x"], extra=b"\0" * 20_000_000)
    refused(tmp_path / "a.docx", TooLarge, "zip bomb")
    files.docx(tmp_path / "b.docx", ["x"], extra=b"\0" * (settings().max_file_bytes + 1))
    refused(tmp_path / "b.docx", TooLarge, "unpack")


def test_too_many_parts_are_refused(tmp_path: Path) -> None:
    files.docx(tmp_path / "a.docx", ["x"])
    with zipfile.ZipFile(tmp_path / "a.docx", "a") as archive:
        for number in range(20_001):
            archive.writestr(f"word/{number}.xml", "")
    refused(tmp_path / "a.docx", TooLarge, "parts")


def test_xml_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY x "boom"><!ENTITY y "&x;&x;&x;&x;">]>'
    files.docx(tmp_path / "a.docx", ["&y;"], prologue=bomb)
    refused(tmp_path / "a.docx", UnsupportedFormat, "entities")


def test_a_file_is_read_as_what_it_is_whatever_its_name(tmp_path: Path) -> None:
    files.pdf(tmp_path / "a.txt", ["Hello page"])
    assert read(tmp_path / "a.txt").text.strip() == "Hello page"
    (tmp_path / "b.pdf").write_text("Only text.")
    assert read(tmp_path / "b.pdf").text == "Only text."
    (tmp_path / "c.docx").write_text("<!DOCTYPE html><html><body><p>A page</p></body></html>")
    assert read(tmp_path / "c.docx").text.strip() == "A page"
    files.docx(tmp_path / "d.xlsx", ["Word"])
    assert read(tmp_path / "d.xlsx").text == "Word"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"text" * 100, mtime=0), "gzip"),
        (b"MZ\x90\0" + b"\0" * 200, "program"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600, "old format"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        (bytes(range(256)) * 20, "not text"),
        (b"\0\0\0\x20ftypisom" + b"\0\1" * 50, "film"),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.docx").write_bytes(content)
    refused(tmp_path / "a.docx", UnsupportedFormat, words)


def test_a_broken_archive_is_damaged_and_another_archive_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04" + b"garbage" * 30)
    refused(tmp_path / "a.docx", DamagedFile, "damaged")
    with zipfile.ZipFile(tmp_path / "b.docx", "w") as archive:
        archive.writestr("x.txt", "x")
    refused(tmp_path / "b.docx", UnsupportedFormat, "archive")


def test_office_files_with_broken_parts_are_damaged(tmp_path: Path) -> None:
    for name, part in (
        ("a.docx", "word/document.xml"),
        ("a.pptx", "ppt/presentation.xml"),
        ("a.xlsx", "xl/workbook.xml"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(part, "<not xml")
        refused(tmp_path / name, DamagedFile, "damaged")


def test_files_beyond_the_limits_are_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "huge.pdf").open("wb") as file:
        file.write(b"%PDF-1.7")
        file.truncate(settings().max_file_bytes + 1)
    began = time.perf_counter()
    refused(tmp_path / "huge.pdf", TooLarge, "KUN_MAX_FILE_BYTES")
    (tmp_path / "long.txt").write_bytes(b"word " * (settings().max_file_bytes // 8 // 5 + 1))
    refused(tmp_path / "long.txt", TooLarge, "split it")
    assert time.perf_counter() - began < 5


def test_the_reading_process_ends_when_it_has_nothing_to_read_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "IDLE_SECONDS", 0.3)
    page = tmp_path / "page.html"
    page.write_text("<p>Whales sleep upright.</p>")
    request = {"file": str(page), "name": page.name, "format": "html", "most": 2**20}
    reader = process._Reader()
    for _ in range(2):
        answer = reader.ask(request, 60)
        assert answer is not None
        assert "upright" in answer["text"]
        end = time.monotonic() + 30
        while reader._process is not None:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_reading_that_takes_too_long_is_ended_and_the_next_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.pdf(tmp_path / "a.pdf", ["Hello"] * 2000)
    monkeypatch.setattr(process, "SECONDS", 0.05)
    refused(tmp_path / "a.pdf", DamagedFile, "seconds")
    monkeypatch.undo()
    files.pdf(tmp_path / "b.pdf", ["Hello"])
    assert read(tmp_path / "b.pdf").text.strip() == "Hello"


def test_a_reader_that_shows_signs_of_life_is_not_ended() -> None:
    reading_end, writing_end = os.pipe()
    script = "import sys, time\n" + "time.sleep(0.3); sys.stdout.write('\\n'); sys.stdout.flush()\n" * 4
    script += 'print(\'{"text": "late"}\')'
    child = subprocess.Popen([sys.executable, "-c", script], stdout=writing_end)
    os.close(writing_end)
    with os.fdopen(reading_end, "rb") as stream, child:
        assert process._line(stream, 0.9, 100) == {"text": "late"}


def test_a_reader_that_needs_too_much_memory_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process._reader.close()
    monkeypatch.setattr(process, "_MEMORY", 200 * 2**20)
    (tmp_path / "a.html").write_text("<html><p>" + "<b>word</b>" * 200_000)
    with pytest.raises(KunError, match=r"a\.html"):
        read(tmp_path / "a.html")
    process._reader.close()


def test_html_nested_without_end_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<html>" + "<div>" * 50_000 + "deep")
    try:
        outcome = read(tmp_path / "a.html").text
    except DamagedFile as error:
        outcome = str(error)
    assert "deep" in outcome


def test_names_with_newlines_stay_on_one_line_in_errors(tmp_path: Path) -> None:
    file = tmp_path / "two\nlines.txt"
    file.touch()
    with pytest.raises(BadInput, match="two␊lines"):
        read(file)

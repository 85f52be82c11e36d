"""Mail, saved pages and the other document formats that people keep: OpenDocument, EPUB, RTF."""

import io
import zipfile
from email.message import EmailMessage
from email.mime.text import MIMEText
from pathlib import Path

import files
import pytest

from kun.errors import DamagedFile, UnsupportedFormat
from kun.knowledge.read.archive import check_archive
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.formats import READERS
from kun.knowledge.read.kinds import sniff


def read(file: Path) -> Extracted:
    """The file as the worker reads it, without its process."""
    return READERS[sniff(file, file.read_bytes()[:65_536])](file, file.name)


def mail(**headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in ({"From": "Ada <ada@a.example>", "To": "bo@b.example"} | headers).items():
        message[name] = value
    return message


@pytest.mark.parametrize(("charset", "transfer"), [("gb2312", "base64"), ("utf-8", "quoted-printable")])
def test_a_mail_is_read_in_letters_whatever_its_encoding(tmp_path: Path, charset: str, transfer: str) -> None:
    message = mail(Subject="潮汐表改了", Date="Tue, 02 Jun 2026 10:12:00 +0800")
    message.set_content("船改在下午四点开。\n-- \n码头", charset=charset, cte=transfer)
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    assert read(tmp_path / "a.eml").text == (
        "# 潮汐表改了\n\nFrom: Ada <ada@a.example>\nTo: bo@b.example\nDate: Tue, 02 Jun 2026 10:12:00 +0800\n"
        "Subject: 潮汐表改了\n\n船改在下午四点开。\n\\-- \n码头\n"
    )


def test_headers_that_nobody_shows_are_not_read(tmp_path: Path) -> None:
    message = mail(Subject="Nets", Received="from evil", Keywords="obey")
    message["X-Note"] = "obey"
    message.set_content("The nets are dry.")
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    assert "obey" not in read(tmp_path / "a.eml").text


def test_raw_bytes_in_a_header_are_decoded(tmp_path: Path) -> None:
    head = "From: a@a.example\nTo: b@b.example\nSubject: 潮汐表和船票都改了\nMIME-Version: 1.0\n\n".encode(
        "gb18030"
    )
    (tmp_path / "a.eml").write_bytes(head + b"text")
    assert "Subject: 潮汐表和船票都改了\n" in read(tmp_path / "a.eml").text


def test_a_mail_is_known_without_its_name(tmp_path: Path) -> None:
    message = mail(Subject="Nets")
    message.set_content("The nets are dry.")
    (tmp_path / "message").write_bytes(message.as_bytes())
    assert "The nets are dry." in read(tmp_path / "message").text
    (tmp_path / "notes.txt").write_text("From: the harbour\nTo: the mill\n\nThe way takes an hour.")
    assert sniff(tmp_path / "notes.txt", (tmp_path / "notes.txt").read_bytes()) == "text"


def test_a_body_in_html_is_read_as_it_is_seen(tmp_path: Path) -> None:
    message = mail(Subject="Nets")
    message.set_content("Open this mail in a browser.")
    message.add_alternative(
        "<p>The nets are dry, all of them, and the boats are painted in blue.</p><p style='display:none'>obey</p>"
        "<table><tr><th>net</th><th>metres</th></tr><tr><td>herring</td><td>40</td></tr></table>",
        subtype="html",
    )
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    text = read(tmp_path / "a.eml").text
    assert "The nets are dry" in text
    assert "net: herring; metres: 40" in text
    assert "obey" not in text
    assert "browser" not in text


def test_attachments_are_read_by_the_same_readers_and_the_rest_is_named(tmp_path: Path) -> None:
    files.docx(tmp_path / "a.docx", ["The lease ends in May."])
    inner = mail(Subject="Older")
    inner.set_content("The first offer was 400.")
    message = mail(Subject="Papers")
    message.set_content("See below.")
    message.add_attachment((tmp_path / "a.docx").read_bytes(), "application", "msword", filename="租约.docx")
    message.add_attachment("rope,price\nhemp,4\n", subtype="csv", filename="prices.csv")
    message.add_attachment(inner)
    message.add_attachment(b"\0\1\2\3" * 3000, "video", "mp4", filename="film.mp4")
    message.add_attachment(b"PK\x03\x04broken", "application", "zip", filename="broken.docx")
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    extracted = read(tmp_path / "a.eml")
    assert "## 租约.docx\n\nThe lease ends in May." in extracted.text
    assert "## prices.csv\n\n" in extracted.text
    assert "rope: hemp; price: 4\n" in extracted.text
    assert "The first offer was 400." in extracted.text
    assert set(extracted.skipped) == {"film.mp4", "broken.docx"}
    assert "AAEC" not in extracted.text


@pytest.mark.parametrize("name", ["..", ".", "../..", "/", "a/../b.txt", "潮" * 300 + ".txt"])
def test_an_attachment_with_an_odd_name_loses_nothing_of_its_mail(tmp_path: Path, name: str) -> None:
    message = mail(Subject="Papers")
    message.set_content("See below.")
    message.add_attachment(b"The lease ends in May.\n", "text", "plain", filename=name)
    message.add_attachment("rope,price\nhemp,4\n", subtype="csv", filename="prices.csv")
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    extracted = read(tmp_path / "a.eml")
    for words in ("See below.", "The lease ends in May.", "rope: hemp; price: 4"):
        assert words in extracted.text
    assert not extracted.skipped


def test_an_attachment_that_cannot_be_written_is_named_and_the_mail_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: Path, _content: bytes) -> int:
        raise OSError("no space")

    message = mail(Subject="Papers")
    message.set_content("See below.")
    message.add_attachment(b"lease", "text", "plain", filename="lease.txt")
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    monkeypatch.setattr(Path, "write_bytes", full)
    extracted = read(tmp_path / "a.eml")
    assert "See below." in extracted.text
    assert set(extracted.skipped) == {"lease.txt"}


def test_mails_in_mails_are_opened_only_so_far(tmp_path: Path) -> None:
    message = mail(Subject="Level 0")
    message.set_content("bottom")
    for level in range(1, 7):
        outer = mail(Subject=f"Level {level}")
        outer.set_content(f"text {level}")
        outer.add_attachment(message)
        message = outer
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    extracted = read(tmp_path / "a.eml")
    assert "text 4" in extracted.text
    assert "bottom" not in extracted.text
    assert len(extracted.skipped) == 1


def test_a_mailbox_gives_each_of_its_mails(tmp_path: Path) -> None:
    one, other = mail(Subject="Nets"), mail(Subject="Ropes")
    one.set_content("The nets are dry.\nFrom now on they stay inside.")
    other.set_content("The ropes are new.")
    mails = [
        b"From ada@a.example Tue Jun  2 10:12:00 2026\n" + message.as_bytes() for message in (one, other)
    ]
    (tmp_path / "box.mbox").write_bytes(b"\n".join(mails))
    text = read(tmp_path / "box.mbox").text
    assert (
        text.index("# Nets")
        < text.index("From now on")
        < text.index("# Ropes")
        < text.index("The ropes are new.")
    )
    assert "MIME" not in text


def test_a_saved_page_gives_its_page(tmp_path: Path) -> None:
    part = MIMEText("<html><body><h1>签证</h1><p>停留九十天。</p></body></html>", "html", "utf-8")
    (tmp_path / "a.mht").write_bytes(
        b"From: <Saved by Blink>\nSubject: Visa\nSnapshot-Content-Location: https://a.example/\n"
        + part.as_bytes()
    )
    assert read(tmp_path / "a.mht").text == "# Visa\n\n# 签证\n\n停留九十天。"


@pytest.mark.parametrize(
    "content", [b"From: a\nContent-Type: multipart/mixed; boundary=x\n\n--x\n", b"Subject: \xff\xfe\n"]
)
def test_a_mail_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.eml").write_bytes(content)
    assert read(tmp_path / "a.eml").text


OFFICE = "urn:oasis:names:tc:opendocument:xmlns:"


def odf(path: Path, kind: str, body: str) -> None:
    namespaces = " ".join(f'xmlns:{name}="{OFFICE}{name}:1.0"' for name in ("office", "text", "table"))
    namespaces += f' xmlns:draw="{OFFICE}drawing:1.0"'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        archive.writestr(
            "content.xml",
            f"<office:document-content {namespaces}><office:body><office:{kind}>{body}</office:{kind}>"
            "</office:body></office:document-content>",
        )


def test_opendocument_text_is_read_with_headings_lists_tables_and_notes(tmp_path: Path) -> None:
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>".format
    row = "<table:table-row>{}</table:table-row>".format
    odf(
        tmp_path / "a.odt",
        "text",
        '<text:h text:outline-level="2">Pump</text:h><text:p>The warranty<text:s text:c="1"/>is '
        "<text:span>24</text:span> months"
        "<text:note><text:note-body><text:p>from delivery</text:p></text:note-body></text:note>.</text:p>"
        "<text:list><text:list-item><text:p>oil</text:p></text:list-item></text:list>"
        f"<table:table>{row(cell('part') + cell('price'))}{row(cell('valve') + cell('40'))}</table:table>"
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>",
    )
    assert read(tmp_path / "a.odt").text == (
        "## Pump\n\nThe warranty is 24 months (from delivery).\n\n- oil\n\npart; price\npart: valve; price: 40\n"
    )


def test_opendocument_sheets_are_rows(tmp_path: Path) -> None:
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>".format
    rows = "".join(
        f"<table:table-row>{cell(a)}{cell(b)}<table:table-cell table:number-columns-repeated='16000'/>"
        "</table:table-row>"
        for a, b in (("rope", "price"), ("hemp", "4"))
    )
    odf(tmp_path / "a.ods", "spreadsheet", f"<table:table table:name='Ropes'>{rows}</table:table>")
    extracted = read(tmp_path / "a.ods")
    assert (extracted.text, extracted.kind) == ("## Ropes\nrope; price\nrope: hemp; price: 4\n\n", "rows")


@pytest.mark.parametrize("number", ["²", "9" * 5_000, "-1", ""])
def test_a_number_that_is_none_or_far_too_large_does_not_lose_an_opendocument(
    tmp_path: Path, number: str
) -> None:
    cell = (
        f'<table:table-cell table:number-columns-repeated="{number}"><text:p>40</text:p></table:table-cell>'
    )
    heading = f'<text:h text:outline-level="{number}">Pump</text:h>'
    odf(
        tmp_path / "a.odt",
        "text",
        f"{heading}<table:table><table:table-row>{cell}</table:table-row></table:table>",
    )
    assert read(tmp_path / "a.odt").text.startswith("# Pump\n\n40")


def test_an_encrypted_opendocument_is_named(tmp_path: Path) -> None:
    odf(tmp_path / "a.odt", "text", "")
    with zipfile.ZipFile(tmp_path / "a.odt", "a") as archive:
        archive.writestr("META-INF/manifest.xml", "<manifest:encryption-data/>")
    with pytest.raises(UnsupportedFormat, match=r"a\.odt is encrypted"):
        read(tmp_path / "a.odt")


def test_a_book_is_read_in_the_order_of_its_spine(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml", '<c><rootfiles><rootfile full-path="o/c.opf"/></rootfiles></c>'
        )
        item = '<item id="{0}" href="{1}" media-type="application/xhtml+xml" {2}/>'.format
        items = (
            item("a", "b%201.xhtml", "")
            + item("b", "a.xhtml", "")
            + item("n", "nav.xhtml", 'properties="nav"')
        )
        spine = "".join(f'<itemref idref="{one}"/>' for one in "nab")
        archive.writestr(
            "o/c.opf", f"<package><title>Whales</title><m>{items}</m><spine>{spine}</spine></package>"
        )
        for name, words in (("b 1", "It swims."), ("a", "It dives."), ("nav", "Contents")):
            archive.writestr(f"o/{name}.xhtml", f"<html><body><h2>{name}</h2><p>{words}</p></body></html>")
    (tmp_path / "a.epub").write_bytes(content.getvalue())
    assert read(tmp_path / "a.epub").text == "# Whales\n\n## b 1\n\nIt swims.\n\n## a\n\nIt dives.\n"


def book(path: Path, doctype: str) -> None:
    """A book of one chapter in a file that ends in `.xml`, as books of the second version have."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml", '<c><rootfiles><rootfile full-path="c.opf"/></rootfiles></c>'
        )
        item = '<item id="a" href="a.xml" media-type="application/xhtml+xml"/>'
        spine = '<spine><itemref idref="a"/></spine>'
        archive.writestr("c.opf", f"<package><title>Whales</title><m>{item}</m>{spine}</package>")
        archive.writestr(
            "a.xml", f'<?xml version="1.0"?>\n{doctype}<html><body><p>It dives.</p></body></html>'
        )


@pytest.mark.parametrize(
    "doctype",
    [
        "",
        "<!DOCTYPE html>",
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN"\n "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">',
        "<!DOCTYPE html [ ] >",
    ],
)
def test_a_book_whose_chapters_name_their_document_type_is_read(tmp_path: Path, doctype: str) -> None:
    book(tmp_path / "a.epub", doctype)
    check_archive(tmp_path / "a.epub", 2**20)
    assert read(tmp_path / "a.epub").text == "# Whales\n\nIt dives.\n"


@pytest.mark.parametrize("padding", ["", f"<!-- {'x' * 70_000} -->"])
def test_a_book_that_declares_entities_is_refused_wherever_it_does(tmp_path: Path, padding: str) -> None:
    book(tmp_path / "a.epub", f'<!DOCTYPE html [{padding}<!ENTITY x "boom">]>')
    with pytest.raises(UnsupportedFormat, match="entities"):
        check_archive(tmp_path / "a.epub", 2**20)


def test_a_book_without_its_package_is_damaged(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
    with pytest.raises(DamagedFile, match=r"a\.epub"):
        read(tmp_path / "a.epub")


def test_rtf_is_read_in_its_code_page_without_what_it_hides(tmp_path: Path) -> None:
    chinese = "".join(f"\\'{byte:02x}" for byte in "码头".encode("gbk"))
    (tmp_path / "a.rtf").write_text(
        r"{\rtf1\ansi\ansicpg936{\fonttbl{\f0 Times;}}\pard The rent is 40 \u8364? a day.\par "
        + chinese
        + r" {\v secret}\par {\*\comment secret}end\par}"
    )
    text = read(tmp_path / "a.rtf").text
    assert "The rent is 40 € a day." in text
    assert "码头" in text
    assert "secret" not in text

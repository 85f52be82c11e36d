"""What a file is, by its first bytes."""

import re
import zipfile
from pathlib import Path
from typing import Literal

from kun.errors import DamagedFile, UnsupportedFormat
from kun.knowledge.folder import printable

FileFormat = Literal[
    "pdf",
    "docx",
    "pptx",
    "xlsx",
    "opendocument",
    "epub",
    "html",
    "mail",
    "rtf",
    "notebook",
    "picture",
    "text",
]
ARCHIVES = frozenset({"docx", "pptx", "xlsx", "opendocument", "epub"})
TEXTS = frozenset({"html", "rtf", "notebook"})  # as long as the text that they hold, or longer

CODE = frozenset(
    """
    .py .pyi .js .mjs .cjs .jsx .ts .tsx .java .kt .kts .scala .go .rs .c .h .cc .cpp .cxx .hh .hpp .cs .fs .vb
    .swift .m .mm .rb .php .pl .pm .lua .r .jl .dart .ex .exs .erl .hs .ml .mli .clj .lisp .el .vim .zig .nim
    .sh .bash .zsh .fish .ps1 .bat .cmd .sql .proto .thrift .graphql .cu .cuh .asm .s .v .sv .vhd .cmake .mk
    .gradle .groovy .tf .hcl .css .scss .less .vue .svelte .yaml .yml .toml .ini .cfg .conf .xml .xsd .xsl
    """.split()
)
_PARTS: dict[str, FileFormat] = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
    "META-INF/container.xml": "epub",
    "content.xml": "opendocument",
}
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF87a", b"GIF89a")
_OTHERS = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"\xcf\xfa\xed\xfe": "a program",
    b"\xca\xfe\xba\xbe": "a program",
    b"SQLite format 3": "a database",
    b"OggS": "a sound",
    b"ID3": "a sound",
    b"fLaC": "a sound",
    b"RIFF": "a sound or a film",
    b"\0asm": "a program",
    b"GGUF": "a language model",
    b"PAR1": "a Parquet table",
}
_PDF = re.compile(rb"%PDF-\d\.\d\s*?[\r\n%]|%PDF-\d\.\d\Z")
_PDF_LATER = re.compile(rb"%PDF-\d\.\d\s*?[\r\n].*?\d+ \d+ obj", re.DOTALL)
_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]*:[ \t\r\n]")
_OF_MAIL = frozenset(
    b"from to cc bcc subject date received return-path message-id mime-version content-type delivered-to reply-to"
    b" sender x-mailer in-reply-to references dkim-signature thread-topic importance".split()
)
_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED_PART = "EncryptedPackage".encode("utf-16-le")


def sniff(file: Path, head: bytes) -> FileFormat:
    """The format, from the first bytes and, for an archive, its table of contents.

    Raises `UnsupportedFormat` for what Kun does not read, `DamagedFile` for a broken archive.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    named_so = file.suffix.lower() == ".pdf" and start.startswith(b"%PDF-")
    if named_so or _PDF.match(start) or _PDF_LATER.search(head[:4096]):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _archive(file)
    if head.startswith(_COMPOUND):
        _refuse_compound(file)
    if not _looks_like_text(head):
        if head.startswith(_PICTURES) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
            return "picture"
        for magic, what in _OTHERS.items():
            if head.startswith(magic):
                raise UnsupportedFormat(f"{printable(file.name)} is {what}, which Kun does not read.")
        if head[4:8] == b"ftyp":
            raise UnsupportedFormat(f"{printable(file.name)} is a film or a picture that Kun does not read.")
    if head.startswith(b"%!PS-Adobe"):
        raise UnsupportedFormat(
            f"{printable(file.name)} is a PostScript document, which Kun does not read: save it as PDF."
        )
    return _kind_of_text(file, head)


def _kind_of_text(file: Path, head: bytes) -> FileFormat:
    if re.match(rb"\{\\rtf(?:\d\s*)?[\\{]|\{\\rtf\d\s", head):
        return "rtf"
    if file.suffix.lower() == ".ipynb" and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "notebook"
    if _is_mail(file, head):
        return "mail"
    return "html" if _is_html(file, head) else "text"


def _looks_like_text(head: bytes) -> bool:
    """True if bytes whose first ones are a binary's magic are text all the same ("BZh is how bzip2 begins")."""
    sample = head[:1024]
    if (
        b"\0" in sample
        or sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in sample) > len(sample) // 100
    ):
        return False
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start > max(16, len(sample) - 4)  # a character cut in two at the sample's end
    return True


def _is_mail(file: Path, head: bytes) -> bool:
    """True if it begins with the header lines of a mail: by its name one is enough, else three of mail's own."""
    lines = re.split(rb"\r?\n(?![ \t])", head.lstrip(b"\xef\xbb\xbf\r\n"))
    if lines and lines[0].startswith(b"From "):  # a mailbox begins every message with such a line
        lines = lines[1:]
    names = set()
    for line in lines[:200]:
        if not _HEADER.match(line + b"\n"):
            break
        names.add(line.split(b":", 1)[0].lower())
    known = len(names & _OF_MAIL)
    if file.suffix.lower() in {".eml", ".mht", ".mhtml"}:
        return known >= 1
    return known >= 3 and bool(names & {b"mime-version", b"message-id", b"received"})


def _archive(file: Path) -> FileFormat:
    try:
        with zipfile.ZipFile(file) as archive:
            names = {info.filename for info in archive.infolist()}
    except Exception as error:  # whatever a broken table of contents leads to
        raise DamagedFile(
            f"{printable(file.name)} is truncated or damaged: save or download it again."
        ) from error
    for part, format in _PARTS.items():
        if part in names:
            return format
    raise UnsupportedFormat(
        f"{printable(file.name)} is an archive, but no document that Kun reads: unpack it and add what is in it."
    )


def _refuse_compound(file: Path) -> None:
    """The container of old Office files, of mails of Outlook, and of encrypted new Office files."""
    name = printable(file.name)
    with file.open("rb") as content:
        encrypted = _ENCRYPTED_PART in content.read(16 * 2**20)
    if encrypted:
        raise UnsupportedFormat(f"{name} is encrypted: save it without a password.")
    if file.suffix.lower() == ".msg":
        raise UnsupportedFormat(f"{name} is a mail in Outlook's own format: save it as .eml.")
    raise UnsupportedFormat(f"{name} is in Office's old format: save it as .docx, .pptx or .xlsx.")


def _is_html(file: Path, head: bytes) -> bool:
    start = head[:2048].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    looks = start.startswith((b"<!doctype html", b"<html")) or (
        start.startswith((b"<?xml", b"<!--")) and b"<html" in start
    )
    return looks or (file.suffix.lower() in {".html", ".htm", ".xhtml"} and b"<" in start)

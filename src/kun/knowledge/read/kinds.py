"""What a file is, by its first bytes."""

import zipfile
from pathlib import Path
from typing import Literal

from kun.errors import DamagedFile, UnsupportedFormat
from kun.knowledge.folder import printable

FileFormat = Literal["pdf", "docx", "pptx", "xlsx", "html", "text"]

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
}
_OTHERS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
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
    b"RIFF": "a sound, film or picture",
    b"GGUF": "a language model",
    b"PAR1": "a Parquet table",
    b"{\\rtf": "an RTF document (save it as .docx)",
    b"%!PS": "a PostScript document (save it as PDF)",
}
_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED_PART = "EncryptedPackage".encode("utf-16-le")


def sniff(file: Path, head: bytes) -> FileFormat:
    """The format, from the first bytes and, for an archive, its table of contents.

    Raises `UnsupportedFormat` for what Kun does not read, `DamagedFile` for a broken archive.
    """
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _office(file)
    if head.startswith(_COMPOUND):
        _refuse_compound(file)
    for magic, what in _OTHERS.items():
        if head.startswith(magic) and (len(magic) > 2 or b"\0" in head[:1024]):
            raise UnsupportedFormat(f"{printable(file.name)} is {what}, which Kun does not read.")
    return "html" if _is_html(file, head) else "text"


def _office(file: Path) -> FileFormat:
    try:
        with zipfile.ZipFile(file) as archive:
            names = {info.filename for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise DamagedFile(
            f"{printable(file.name)} is truncated or damaged: save or download it again."
        ) from error
    for part, format in _PARTS.items():
        if part in names:
            return format
    raise UnsupportedFormat(
        f"{printable(file.name)} is an archive, but no .docx, .pptx or .xlsx: unpack it and add what is in it."
    )


def _refuse_compound(file: Path) -> None:
    """The container of old Office files, and of encrypted new ones."""
    with file.open("rb") as content:
        encrypted = _ENCRYPTED_PART in content.read(16 * 2**20)
    if encrypted:
        raise UnsupportedFormat(f"{printable(file.name)} is encrypted: save it without a password.")
    raise UnsupportedFormat(
        f"{printable(file.name)} is in Office's old format: save it as .docx, .pptx or .xlsx."
    )


def _is_html(file: Path, head: bytes) -> bool:
    start = head[:2048].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    looks = start.startswith((b"<!doctype html", b"<html")) or (
        start.startswith((b"<?xml", b"<!--")) and b"<html" in start
    )
    return looks or (file.suffix.lower() in {".html", ".htm", ".xhtml"} and b"<" in start)

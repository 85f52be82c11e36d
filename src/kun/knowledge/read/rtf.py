"""RTF: its text, in whatever code page it was written, without what it hides."""

import re
from pathlib import Path

from kun.errors import DamagedFile
from kun.knowledge.read.extracted import Extracted

_CODE_PAGE = re.compile(rb"\\ansicpg(\d+)")
_HIDDEN = re.compile(r"\{[^{}]*\\v(?:1)?(?![a-zA-Z0-9])[^{}]*\}")
_CELL_ENDS = re.compile(r"[ \t]*\|[ \t]*$")
_ENCODINGS = {"10000": "mac_roman", "65001": "utf-8", "0": "cp1252", "936": "gb18030", "932": "cp932"}


def read_rtf(file: Path, name: str) -> Extracted:
    """The text of an RTF document, a row of a table a line. Raises `DamagedFile`."""
    from striprtf.striprtf import rtf_to_text

    content = file.read_bytes()
    page = _CODE_PAGE.search(content[:4096])
    number = page[1].decode() if page else "1252"
    encoding = _ENCODINGS.get(number, f"cp{number}")
    source = _HIDDEN.sub("", content.decode("latin-1"))
    try:
        text = rtf_to_text(source, encoding=encoding, errors="replace")
    except LookupError:
        text = rtf_to_text(source, encoding="cp1252", errors="replace")
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise DamagedFile(f"{name} is damaged: save it again, or as .docx.") from error
    lines = (
        _CELL_ENDS.sub("", line).replace("|", "; ") if "|" in line else line for line in text.split("\n")
    )
    return Extracted("\n".join(line.rstrip() for line in lines), "text")

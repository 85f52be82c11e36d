"""What reading a file gives."""

import re
from dataclasses import dataclass, field

from kun.knowledge.rows import TextKind


@dataclass(frozen=True)
class Extracted:
    """The text of a document, how it is to be cut, and the places in it where its pages (or slides) begin.

    `skipped` names the parts that were left out, with the kind of thing that each is.
    """

    text: str
    kind: TextKind
    pages: list[int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def paged(pages: list[str], kind: TextKind) -> Extracted:
    """The pages one after the other, and where each begins."""
    starts: list[int] = []
    parts: list[str] = []
    length = 0
    for page in pages:
        body = page.strip("\n") + "\n\n"
        starts.append(length)
        parts.append(body)
        length += len(body)
    return Extracted("".join(parts), kind, starts)


def unmarked(text: str) -> str:
    """Text of a page for a Markdown document: a line that begins with `#` is no heading of it."""
    return re.sub(r"^(?= {0,3}#{1,6}[ \t])", "    ", text, flags=re.MULTILINE)

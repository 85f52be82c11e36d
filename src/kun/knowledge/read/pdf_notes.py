"""The values filled into the forms of a PDF, and people's notes on its pages: neither is part of a page's text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pdfminer.pdfpage import PDFPage

_INVISIBLE = 2 | 32  # flags of an annotation: hidden, no view
_MOST = 5_000
_DEEPEST = 20
_NOTES = frozenset(["Text", "FreeText", "Highlight", "Underline", "Squiggly", "StrikeOut", "Caret"])


@dataclass(frozen=True)
class Filled:
    """A value filled in at a place of its page, or a person's note to it."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    is_note: bool


def filled_in(page: "PDFPage") -> Iterator[Filled]:
    """The values and notes of a page; what cannot be made out is left."""
    from pdfminer.pdftypes import list_value, resolve1

    x, y = (float(part) for part in page.mediabox[:2])
    for reference in list_value(page.annots or [])[:_MOST]:
        item = resolve1(reference)
        if not isinstance(item, dict):
            continue
        flags, box = resolve1(item.get("F")), [resolve1(part) for part in resolve1(item.get("Rect")) or ()]
        if isinstance(flags, int) and flags & _INVISIBLE:
            continue
        if len(box) != 4 or not all(isinstance(part, int | float) for part in box):
            continue
        kind = _name(resolve1(item.get("Subtype")))
        text = (
            _value(item)
            if kind == "Widget"
            else _text(resolve1(item.get("Contents")))
            if kind in _NOTES
            else ""
        )
        if text:
            left, right = sorted((box[0] - x, box[2] - x))
            bottom, top = sorted((box[1] - y, box[3] - y))
            yield Filled(text, left, bottom, right, top, kind != "Widget")


def _value(item: "dict[str, object]", depth: int = 0) -> str:
    """The value of a field, which may be kept with the field that it is a part of."""
    from pdfminer.pdftypes import resolve1

    kind = _name(resolve1(item.get("FT")))
    value = resolve1(item.get("V"))
    parent = resolve1(item.get("Parent"))
    state = _name(resolve1(item.get("AS")))
    if kind == "Btn" or (state and not isinstance(value, bytes)):
        return "☒" if state not in ("", "Off") else "☐" if state else ""
    if isinstance(value, list):
        return ", ".join(filter(None, (_text(resolve1(one)) for one in value)))
    if value is None and isinstance(parent, dict) and depth < _DEEPEST:
        return _value(parent, depth + 1)
    return _text(value)


def _name(value: object) -> str:
    name = getattr(value, "name", "")
    return name if isinstance(name, str) else ""


def _text(value: object) -> str:
    from pdfminer.utils import decode_text

    return " ".join(decode_text(value).split()) if isinstance(value, bytes) else _name(value)

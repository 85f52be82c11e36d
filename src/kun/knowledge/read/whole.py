"""Whole numbers that a file gives as text: spans, levels, sizes."""

_MOST_DIGITS = 9


def whole(text: str | None, otherwise: int) -> int:
    """The number that a text of digits is; `otherwise` for any other text, for "²" too, which Python calls a digit."""
    digits = (text or "").strip()
    return int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else otherwise

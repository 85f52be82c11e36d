"""Bytes to text, whatever encoding they are in."""

import codecs

from kun.errors import UnsupportedFormat

_MARKS = (  # the longer ones first: UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 65_536
_WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôõöøùúûüýÿœßÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŒ¿¡«»‘’“”–—…°§©®€£\xa0")
_CONTROLS = frozenset(range(32)) - {7, 8, 9, 10, 11, 12, 13, 26, 27}


def decode(content: bytes, name: str) -> str:
    """The text: by its byte order mark, as UTF-8, as UTF-16 without a mark, as GB18030, else the likeliest.

    Line ends become `\\n`. Raises `UnsupportedFormat`, naming the file, when the bytes are no text.
    """
    text = _marked(content) or _utf16(content) or _unmarked(content)
    if text is None:
        raise UnsupportedFormat(f"{name} is not text, and not a kind of document that Kun reads.")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-8", "replace").decode()


def _marked(content: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    return None


def _utf16(content: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its ASCII letters and line ends is zero."""
    sample = content[:_SAMPLE]
    for encoding, zeros, others in (
        ("utf-16-le", sample[1::2], sample[::2]),
        ("utf-16-be", sample[::2], sample[1::2]),
    ):
        if zeros.count(0) > max(2, len(zeros) // 20) and others.count(0) == 0:
            try:
                return content.decode(encoding)
            except UnicodeDecodeError:
                return None
    return None


def _unmarked(content: bytes) -> str | None:
    sample = content[:_SAMPLE]
    if sum(byte in _CONTROLS for byte in sample) > len(sample) // 500:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if _is_chinese(sample):
        return content.decode("gb18030", "replace")
    if _is_nearly_utf8(content):
        return content.decode("utf-8", "replace")
    return content.decode("cp1252", "replace") if _is_western(sample) else _likeliest(content)


def _is_western(sample: bytes) -> bool:
    """Whether every byte above ASCII is a letter or mark of Western Europe's languages."""
    marks = {letter for letter in sample.decode("cp1252", "replace") if letter > "\x7f"}
    return marks <= _WESTERN and sum(byte > 0x7F for byte in sample) < len(sample) // 4


def _is_chinese(sample: bytes) -> bool:
    """Whether nearly all the pairs are of GB 2312, which other encodings' pairs are not."""
    pairs = inside = at = 0
    while at < len(sample) - 1:
        lead, trail = sample[at], sample[at + 1]
        if lead < 0x80:
            at += 1
            continue
        pairs += 1
        inside += trail >= 0xA1 and (0xA1 <= lead <= 0xA9 or 0xB0 <= lead <= 0xF7)
        at += 2
    return pairs > 0 and inside >= 0.9 * pairs


def _is_nearly_utf8(content: bytes) -> bool:
    """UTF-8 with a few broken places: a log cut in the middle of a character, say."""
    text = content[:_SAMPLE].decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return broken <= 2 + len(text) // 1000 and sum(letter > "\x7f" for letter in text) > 4 * broken


def _likeliest(content: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(content[:_SAMPLE]).best()
    return content.decode(best.encoding, "replace") if best else None

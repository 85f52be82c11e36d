"""Bytes to text, whatever encoding they are in."""

import codecs
import re

from kun.errors import UnsupportedFormat
from kun.knowledge.read.scripts import COMMON, likelihood

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
_DECLARED = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)|<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9_.-]+)",
    re.IGNORECASE,
)
_WIDER = {  # by the names that people write for an encoding that is in truth the wider one
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "big5": "big5hkscs",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "utf8": "utf-8",
}
_SURE = 0.6  # a likelihood from which the letters alone decide …
_LIKELY = 0.4  # the same for letters that are all of the scripts of East Asia
_AHEAD = 0.12  # … where the next encoding is this much less likely
_EASTERN = re.compile("[\t\r\n -~‐-‧\u3000-ヿ一-鿿가-힣\uff00-\uffef]")
_SHIFTED = ((b"\x1b$B", "iso2022_jp"), (b"\x1b$@", "iso2022_jp"), (b"\x1b$)C", "iso2022_kr"))


def decode(content: bytes, name: str) -> str:
    """The text: by its byte order mark, as UTF-8, as UTF-16 without a mark, else in the likeliest encoding.

    Line ends become `\\n`. Raises `UnsupportedFormat`, naming the file, when the bytes are no text.
    """
    text = _marked(content) or _utf16(content) or _unmarked(content)
    if text is None:
        raise UnsupportedFormat(f"{name} is not text, and not a kind of document that Kun reads.")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def decode_as(content: bytes, declared: str, name: str) -> str:
    """The text in the encoding that is declared for it, where it can be that one, else as `decode` finds it."""
    encoding = _WIDER.get(declared.lower(), declared)
    try:
        text = content.decode(encoding) if encoding and _marked(content) is None else None
    except (LookupError, UnicodeError):
        text = None
    if text is None or "\0" in text:
        return decode(content, name)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def decode_page(content: bytes, name: str) -> str:
    """The text of a web page: by what it declares, where it can be that."""
    match = _DECLARED.search(content[:4096])
    declared = (match[1] or match[2]).decode("ascii") if match else ""
    # what declares itself in ASCII letters is not in an encoding of two bytes a letter
    return decode_as(content, "" if declared.lower().startswith("utf-16") else declared, name)


def _marked(content: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    return None


def _utf16(content: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its ASCII letters and line ends is zero, or its letters are likely."""
    sample = content[: _SAMPLE // 8 * 2]
    for encoding, zeros, others in (
        ("utf-16-le", sample[1::2], sample[::2]),
        ("utf-16-be", sample[::2], sample[1::2]),
    ):
        if zeros.count(0) > max(2, len(zeros) // 20) and others.count(0) == 0:
            text = _strictly(content, encoding)
            controls = sum(ord(letter) in _CONTROLS for letter in (text or "")[:_SAMPLE])
            return text if controls <= len(sample) // 1000 else None
    if len(content) % 2 or len(content) < 16 or _strictly(_whole(sample), "utf-8") is not None:
        return None
    for encoding in ("utf-16-le", "utf-16-be"):
        letters = _strictly(sample, encoding) or ""
        if len(_EASTERN.findall(letters)) > 0.95 * len(letters) and _is_likely_eastern(letters):
            return _strictly(content, encoding)
    return None


def _is_likely_eastern(text: str) -> bool:
    return max(likelihood(text, encoding) for encoding in ("gb18030", "cp932", "cp949")) > _LIKELY


def _unmarked(content: bytes) -> str | None:
    sample = content[:_SAMPLE]
    if sum(byte in _CONTROLS for byte in sample) > len(sample) // 500:
        return None
    for escape, encoding in _SHIFTED:
        if escape in sample and (text := _strictly(content, encoding)) is not None:
            return text
    plain = _strictly(content, "utf-8")
    if plain is not None:
        return plain
    if _is_western(sample):
        return content.decode("cp1252", "replace")
    if _is_nearly_utf8(content):
        return content.decode("utf-8", "replace")
    likeliest = _likeliest(sample)
    return content.decode(likeliest, "replace") if likeliest else None


def _likeliest(sample: bytes) -> str | None:
    """The encoding by the letters that it gives; where they leave it open, what charset-normalizer thinks."""
    scores: dict[str, float] = {}
    for encoding in COMMON:
        text = sample.decode(encoding, "replace")
        broken = text.count("\ufffd")
        if broken <= 1 + len(text) // 200:
            scores[encoding] = likelihood(text, encoding) - 5 * broken / len(text)
    ranked = sorted(scores, key=lambda encoding: -scores[encoding])
    if ranked and scores[ranked[0]] >= _SURE:
        second = scores[ranked[1]] if len(ranked) > 1 else 0.0
        if scores[ranked[0]] - second >= _AHEAD:
            return ranked[0]
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    if (
        best
        and (guess := _named_as_ours(best.encoding)) in scores
        and scores[guess] >= 0.8 * scores[ranked[0]]
    ):
        return guess
    if ranked and scores[ranked[0]] >= _SURE / 2:
        return ranked[0]
    return best.encoding if best else None


def _named_as_ours(encoding: str) -> str:
    """The name in `COMMON` of an encoding that is the same, or a part of it."""
    wider = {
        "gb2312": "gb18030",
        "gbk": "gb18030",
        "big5": "big5hkscs",
        "shift_jis": "cp932",
        "euc_kr": "cp949",
    }
    return wider.get(encoding, encoding)


def _strictly(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _whole(sample: bytes) -> bytes:
    """A sample without the character that its end may have cut."""
    for cut in range(4):
        if _strictly(sample[: len(sample) - cut], "utf-8") is not None:
            return sample[: len(sample) - cut]
    return sample


def _is_western(sample: bytes) -> bool:
    """True if every byte above ASCII is a letter or mark of Western Europe's languages."""
    marks = {letter for letter in sample.decode("cp1252", "replace") if letter > "\x7f"}
    return marks <= _WESTERN and sum(byte > 0x7F for byte in sample) < len(sample) // 4


def _is_nearly_utf8(content: bytes) -> bool:
    """UTF-8 with a few broken places: a log cut in the middle of a character, say."""
    text = content[:_SAMPLE].decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return broken <= 2 + len(text) // 1000 and sum(letter > "\x7f" for letter in text) > 4 * broken

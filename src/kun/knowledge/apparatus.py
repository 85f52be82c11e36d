"""Parts that surround a text and say nothing themselves: bibliographies, tables of contents, a site's menus.

Such passages name every topic of a document and so come near to every question about it, but answer none. They stay
findable, behind what does say something.
"""

import re
from collections.abc import Callable

_HEADING = re.compile(
    r"(?:[\dA-Za-z一二三四五六七八九十]{1,3}[.、)]?\s*)?(?:"
    r"references?|bibliography|works cited|literature(?: cited)?|sources|further reading|see also|external links"
    r"|(?:table of )?contents|index|navigation|on this page|footer"
    r"|参考(?:文献|资料|书目)?|引用(?:文献)?|文献|来源|资料来源|延伸阅读|扩展阅读|相关(?:链接|阅读|文章)|外部链接|目[录次]|索引|导航|本页内容"
    r")\s*[:：]?",
    re.IGNORECASE,
)
_MARK = r"(?:[-*+•]|\d{1,3}[.)]|\[\d{1,3}\])?\s*"
_LEADER = re.compile(r".{1,120}?(?:\.{3,}|…{1,}|(?:\s\.){3,}|\s{3,}|\t+)\s*\d{1,4}\s*\Z")
"""A title, dots, and a page's number."""
_LINK = re.compile(_MARK + r"!?\[[^\]]{0,200}\]\([^)\s]{0,500}[^)]{0,200}\)[\s,;|·]*\Z")
_ENTRY = re.compile(
    r"arxiv\s*[:.]\s*\d{4}\.\d{4,5}|\bdoi\b|\bet al\b|\bisbn\b|\bpp\.\s*\d|\bproc(?:eedings|\.)|\bvol\.\s*\d|https?://"
    r"|\[[JMCDRNPS](?:/OL)?\]",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)")
_PARTED = re.compile(r"\s*[|·•›»/]\s+|\s{4,}")
_SENTENCE_END = re.compile(r"[.!?。！？；]\s*\Z")
_MENU_ITEMS = 4
_MENU_ITEM = 24
_MOST_LINES = 400
_SHARE = 0.7
"""The share of a passage's lines that make it a list of works, of contents, or of links."""
_LEAST_LINES = 3


def is_apparatus(text: str, heading: str = "") -> bool:
    """True if a passage `text` under the headings `heading` is a bibliography, a table of contents or a menu."""
    if heading and any(_HEADING.fullmatch(title.strip()) for title in heading.split(" > ")[-2:]):
        return True
    lines = [line.strip() for line in text.split("\n", _MOST_LINES)[:_MOST_LINES]]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and all(_is_picture(line) or _is_menu(line) for line in lines):
        return True
    kinds: tuple[Callable[[str], object], ...] = (_LEADER.fullmatch, _LINK.fullmatch, _is_entry, _is_menu)
    return len(lines) >= _LEAST_LINES and any(
        sum(bool(fits(line[:1000])) for line in lines) >= _SHARE * len(lines) for fits in kinds
    )


def _is_entry(line: str) -> bool:
    """A work: its year, and where it appeared."""
    return bool(_ENTRY.search(line) and _YEAR.search(line)) and len(line) < 400


def _is_menu(line: str) -> bool:
    """Short names with bars between them, on one line that is no row of a table."""
    if line.startswith("|") or _SENTENCE_END.search(line):
        return False
    items = [item for item in _PARTED.split(line[:1000]) if item]
    return len(items) >= _MENU_ITEMS and all(
        len(item) <= _MENU_ITEM and not item.isdecimal() for item in items
    )


def _is_picture(line: str) -> bool:
    return line.startswith("![") and line.endswith(")") and _LINK.fullmatch(line[:1000]) is not None

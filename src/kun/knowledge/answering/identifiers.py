"""Identifiers in a question (part numbers, codes, versions, "Lark 3"): one that occurs nowhere has no answer."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher

_CODE = re.compile(
    r"(?<![\w.-])(?=[\w./-]*\d)(?=[\w./-]*[A-Za-z])[A-Za-z0-9]+(?:[-_/.][A-Za-z0-9]+)*(?![\w-])", re.ASCII
)
"""Letters and digits in one word: E-120, KX-2099-F, HTR-909-L."""
_QUANTITY = re.compile(
    r"\d+(?:[.,]\d+)*(?:st|nd|rd|th|s|am|pm|x|k|m|b|t|g|kg|mg|km|cm|mm|h|min|ml|l|w|kw|kwh|v|hz|ghz|mb|gb|tb|d|%)?",
    re.IGNORECASE,
)
"""Amounts are none: 5kg, 10am, 2nd."""
_NUMBERED = re.compile(
    r"(?<![\w.-])(?P<name>[A-Za-z][A-Za-z]+|[\u4e00-\u9fff]{2})\s?(?:no\.?\s?|#\s?|№\s?|号\s?)?"
    r"(?P<number>\d{3,}|\d+(?:\.\d+)+)(?![\w.,-]*[\w-]|\s?[%°℃])"
    r"(?P<next>\s?[A-Za-z\u4e00-\u9fff]{0,12})",
    re.IGNORECASE,
)
"""A noun before a long number, or before one with points: ticket 4713, 报警 3148, LarkOS 6.8."""
_NAMED = re.compile(
    r"(?<![\w.-])(?P<name>[A-Z][A-Za-z]+)\s(?P<number>\d{1,2}[A-Z]?)(?![\w%.,-]*\w)(?P<next>\s?[A-Za-z\u4e00-\u9fff]{0,12})"
)
"""A name before a small number: Lark 3, Shop 5."""
_ALONE = re.compile(
    r"^\s*(?:那|and\s+|what about\s+|how about\s+)?(\d{3,})\s*(?:呢)?\s*[?？]?\s*$", re.IGNORECASE
)
_NOT_NAMES = frozenset(
    """a an the and or of in on at by to for from than over under about until since after before within per is are was
    were do does did can may will with without all any some only just more most less least up about around between
    january february march april may june july august september october november december jan feb mar apr jun jul aug
    sep sept oct nov dec year years costs cost euro euros dollar dollars top first last next these those which
    what 大约 超过 不到 不足 至少 至多 最多 最少 共有 一共 总共 满了 每年 今年 去年 明年 公元 花了
    用了 有了 订购 购买""".split()
)
_UNITS = re.compile(
    r"\s?(?:元|块|个|天|年|月|日|时|小时|分|秒|公斤|千克|克|米|厘米|公里|升|度|岁|次|人|名|位|台|件|套|杯|瓶|页|条|项|步|种|万|亿|千|百|倍|"
    r"yuan|euros?|dollars?|pounds?|days?|years?|months?|weeks?|hours?|minutes?|seconds?|people|persons?|customers?|"
    r"metres?|meters?|kilomet|litres?|liters?|grams?|volts?|watts?|percent|times|words|tokens|pages|pieces|cups"
    r"|billion|million)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z0-9]+(?:[-_/.][A-Za-z0-9]+)*", re.ASCII)
_NEAR = 0.6
_NEAREST = 3


def identifiers(question: str) -> list[str]:
    """The identifiers that a question asks about, in order."""
    text = unicodedata.normalize("NFKC", question)
    found: list[tuple[int, str]] = []
    for match in _CODE.finditer(text):
        word = match.group().rstrip("./-_")
        if not _QUANTITY.fullmatch(word) and (word[0].isalpha() or not _unit_follows(text, match.end())):
            found.append((match.start(), word))
    for pattern in (_NUMBERED, _NAMED):
        for match in pattern.finditer(text):
            name, number = match["name"], match["number"]
            if name.casefold() in _NOT_NAMES or _UNITS.match(match["next"]) or _is_year(number):
                continue
            is_versioned = "." in number or pattern is _NAMED
            found.append((match.start(), f"{name} {number}" if is_versioned else number))
    if alone := _ALONE.match(text):
        found.append((0, alone[1]))
    kept: list[str] = []
    for _, one in sorted(found):
        if not any(one in other for other in kept):
            kept.append(one)
    return kept


def nearest(identifier: str, texts: Iterable[str]) -> list[str]:
    """The identifiers of `texts` that are spelled most like one, the likest first."""
    wanted = identifier.casefold()
    seen: dict[str, float] = {}
    for text in texts:
        for candidate in _alike(identifier, text):
            if candidate.casefold() != wanted and candidate not in seen:
                seen[candidate] = _likeness(wanted, candidate.casefold())
    near = sorted((one for one in seen if seen[one] >= _NEAR), key=lambda one: (-seen[one], one))
    return near[:_NEAREST]


def _likeness(wanted: str, other: str) -> float:
    """The share of letters in common, in their order; a bound of it, which is quick, where that is too little."""
    matcher = SequenceMatcher(None, wanted, other, autojunk=False)
    bound = matcher.real_quick_ratio()
    return bound if bound < _NEAR else matcher.ratio()


def _alike(identifier: str, text: str) -> Iterable[str]:
    """Words with a digit; after a name, where the identifier is a name and a number."""
    name, _, _ = identifier.rpartition(" ")
    if name:
        return {
            match.group() for match in re.finditer(rf"{re.escape(name)} \d[\w.]*(?<!\.)", text, re.IGNORECASE)
        }
    return {word for word in _WORD.findall(text) if any(letter.isdigit() for letter in word)}


def _unit_follows(text: str, place: int) -> bool:
    return bool(_UNITS.match(text[place : place + 12])) and text[place - 1].isdigit()


def _is_year(number: str) -> bool:
    return len(number) == 4 and number.startswith(("19", "20"))


def spellings(identifier: str) -> list[str]:
    """An identifier and the ways it may be written too: GPT3, GPT-3, GPT 3."""
    parts = re.findall(r"[A-Za-z]+|\d+(?:\.\d+)*|[\u4e00-\u9fff]+", identifier)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha():
        return list(dict.fromkeys([identifier, "-".join(parts), " ".join(parts), "".join(parts)]))
    return [identifier]


def mentions(text: str, identifier: str) -> bool:
    """True where `text` has an identifier, H-12 and not the beginning of H-120; both are folded."""
    before = r"(?<!\d)" if identifier[:1].isdigit() else ""
    after = r"(?!\d)" if identifier[-1:].isdigit() else ""
    return bool(re.search(f"{before}{re.escape(identifier)}{after}", text))

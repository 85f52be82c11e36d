"""Numbers of a text, however they are written: 1,500 and 一千五百, two and 2, with the unit that follows."""

import re
import unicodedata
from dataclasses import dataclass

_DIGITS = re.compile(r"(?<![\w.])[-−]?\d+(?:[.,]\d+)*|\d+(?:[.,]\d+)*")
_HAN_NUMBER = re.compile(r"[零〇一二三四五六七八九十百千两]+(?:点[零〇一二三四五六七八九]+)?")
_HAN_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {
    "〇": 0,
    "两": 2,
}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000}
_WORDS = {
    word: str(value)
    for value, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen twenty""".split()
    )
} | {
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
}
_WORDS |= {
    "once": "1",
    "twice": "2",
    "thrice": "3",
    "half": "0.5",
    "single": "1",
    "both": "2",
    "hundred": "100",
}
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
_SCALES = {
    "万": 10_000,
    "亿": 100_000_000,
    "千": 1_000,
    "百": 100,
    "k": 1_000,
    "m": 1_000_000,
    "b": 1_000_000_000,
}
_SCALES |= {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000, "trillion": 1_000_000_000_000}
_SCALES |= {"t": 1_000_000_000_000, "hundred": 100}
_SCALE = re.compile(r"\s?(thousand|million|billion|trillion|hundred|万亿|[万亿千百]|[KMBT](?![A-Za-z]))")
_UNITS: tuple[tuple[str, str, str], ...] = (
    ("share", "percent", r"%|percent|per cent|百分点"),
    ("money", "euro", r"euros?\b|eur\b|€|欧元"),
    ("money", "yuan", r"yuan\b|rmb\b|cny\b|元|块"),
    ("money", "dollar", r"dollars?\b|usd\b|美元"),
    ("time", "second", r"seconds?\b|秒"),
    ("time", "minute", r"minutes?\b|min\b|分钟"),
    ("time", "hour", r"hours?\b|个?小时"),
    ("time", "day", r"(?:working |business |calendar )?days?\b|个?工作日|天"),
    ("time", "week", r"weeks?\b|周|个?星期"),
    ("time", "month", r"months?\b|个月"),
    ("time", "year", r"years?\b|年(?!\s?\d)"),
    ("weight", "gram", r"g\b|grams?\b|克"),
    ("weight", "kilogram", r"kg\b|kilograms?\b|公斤|千克"),
    ("length", "millimetre", r"mm\b|毫米"),
    ("length", "centimetre", r"cm\b|centimet\w+|厘米"),
    ("length", "kilometre", r"km\b|kilomet\w+|公里|千米"),
    ("length", "metre", r"m\b|met(?:re|er)s?\b|米"),
    ("volume", "litre", r"l\b|lit(?:re|er)s?\b|升"),
    ("volume", "millilitre", r"ml\b|毫升"),
    ("power", "watt", r"w\b|watts?\b|瓦"),
    ("power", "volt", r"v\b|volts?\b|伏"),
    ("temperature", "celsius", r"°c\b|℃|degrees?\b|摄氏度|度"),
)
_UNIT = re.compile(
    r"\s?(?:" + "|".join(f"(?P<u{place}>{pattern})" for place, (_, _, pattern) in enumerate(_UNITS)) + ")",
    re.IGNORECASE,
)
_ENUMERATION = re.compile(
    r"(?m)^\s*(?:\d{1,2}[.)、](?!\d)|[（(]\d{1,2}[)）])\s*|\[\d+\]|第(?=[一二三四五六七八九十]+[,，步点、])"
)


@dataclass(frozen=True)
class Number:
    """One number of a text: `[start, end)`, its value in plain digits, scaled too (7 万 is 7 and 70000), its unit.

    `kind` is the kind of the unit, "" for none that is known; `in_words` where it is written in letters.
    """

    start: int
    end: int
    value: str
    scaled: str
    kind: str = ""
    unit: str = ""
    in_words: bool = False

    def is_said_by(self, other: "Number") -> bool:
        """True for a number that says the same: 5400 is not 5,400 亿, but may stand in a column of 亿 for it."""
        return self.scaled == other.scaled or (self.value == other.value and other.value == other.scaled)


def numbers(text: str) -> list[Number]:
    """The numbers of `text` in order, without those that count the items of a list."""
    text = _ENUMERATION.sub(lambda match: " " * len(match.group()), _narrow(text))
    found: list[Number] = []
    for match in _DIGITS.finditer(text):
        raw = match.group().lstrip("-−")
        plain = re.sub(r",(?=\d{3}(?:\D|$))", "", raw).rstrip(".,")
        found.append(_number(text, match.start(), match.end(), plain, in_words=False))
    for match in _HAN_NUMBER.finditer(text):
        value = _han_value(match.group())
        if value is not None:
            found.append(_number(text, match.start(), match.end(), value, in_words=True))
    found += [
        _number(text, match.start(), match.end(), _WORDS[match.group().lower()], in_words=True)
        for match in _WORD.finditer(text)
    ]
    return sorted(found, key=lambda one: one.start)


def telling(sentence: str) -> list[Number]:
    """The numbers of a sentence that say something: "a" and "one" written in words do not."""
    return [one for one in numbers(sentence) if not (one.in_words and one.value in ("1", "0", "0.5", "100"))]


def _narrow(text: str) -> str:
    """Full-width digits and marks as narrow ones, each character in its place."""
    narrow = (unicodedata.normalize("NFKC", letter) for letter in text)
    return "".join(new if len(new) == 1 else old for new, old in zip(narrow, text, strict=True))


def _number(text: str, start: int, end: int, plain: str, in_words: bool) -> Number:
    scaled = plain
    scale = _SCALE.match(text, end)
    if scale:
        scaled = _times(
            plain, _SCALES[scale[1].lower()] if len(scale[1]) < 2 or scale[1].isascii() else 10**12
        )
        end = scale.end()
    unit = _UNIT.match(text, end)
    if unit is None:
        prefix = re.search(r"(百分之|[€$¥])\s?$", text[max(0, start - 4) : start])
        kind, name = ("share", "percent") if prefix and prefix[1] == "百分之" else ("", "")
    else:
        place = next(place for place in range(len(_UNITS)) if unit[f"u{place}"] is not None)
        kind, name, _ = _UNITS[place]
    return Number(start, end, plain, scaled, kind, name, in_words)


def _times(plain: str, scale: int) -> str:
    try:
        value = float(plain) * scale
    except ValueError:
        return plain
    return f"{value:.6g}" if value < 1 else str(round(value, 6)).removesuffix(".0")


def _han_value(text: str) -> str | None:
    """The value of a number in Chinese characters; None for what is none, such as 百 by itself."""
    whole, _, part = text.partition("点")
    if not any(character in _HAN_DIGITS or character == "十" for character in whole):
        return None
    if not any(character in _HAN_SCALES for character in whole):
        digits = "".join(str(_HAN_DIGITS[character]) for character in whole)
        value = digits.lstrip("0") or "0"
    else:
        total = digit = 0
        for character in whole:
            if character in _HAN_SCALES:
                total += (digit or 1) * _HAN_SCALES[character]
                digit = 0
            else:
                digit = _HAN_DIGITS[character]
        value = str(total + digit)
    return f"{value}.{''.join(str(_HAN_DIGITS[character]) for character in part)}" if part else value

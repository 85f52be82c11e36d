"""Values as people write them: numbers with units, dates and their parts, times of day, in English and Chinese."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

_MONTHS = "january february march april may june july august september october november december".split()
_MONTH_NAME = r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
_DIGITS = "零一二三四五六七八九"
_HAN_NUMBER = r"(?<![零〇一二两三四五六七八九十百千万亿])[零〇一二两三四五六七八九十百千万亿]++"
_LONGEST_NUMBER = 100
"""Characters of digits that are a number; more are a code, and slow to count with."""
_LONGEST_DATE = 100
_WORDS = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split(),
        range(21),
        strict=True,
    )
) | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
    "dozen": 12,
}
_NUMBER = re.compile(
    r"(?P<before>[-−+]?\s*(?:[€$£¥￥]|EUR|USD|GBP|CNY|RMB)?\s*)"
    r"(?P<sign>[-−+])?(?P<number>\d[\d,. ' ]*\d|\d)(?P<after>\s*[^\d\s].*|\s*)",
    re.IGNORECASE | re.DOTALL,
)
_ISO = re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?")
_HAN = re.compile(
    r"(?:(?P<y>\d{4})\s*年\s*)?(?P<m>\d{1,2}|[一二三四五六七八九十]{1,2})\s*月(?:份)?(?:\s*(?P<d>\d{1,2}|[一二三四五六七八九十]{1,3})\s*[日号])?"
)
_DAY_FIRST = re.compile(
    rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)?\s+(?P<m>{_MONTH_NAME}),?(?:\s+(?P<y>\d{{4}}))?", re.I
)
_MONTH_FIRST = re.compile(
    rf"(?P<m>{_MONTH_NAME})\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\d)(?:,?\s+(?P<y>\d{{4}})\b)?", re.I
)
_MONTH_ONLY = re.compile(rf"\b(?P<m>{_MONTH_NAME})(?:\s+(?P<y>\d{{4}})\b)?", re.I)
_DOTTED = re.compile(r"(?P<d>\d{1,2})[./-](?P<m>\d{1,2})[./-](?P<y>\d{4})")
_CLOCK = re.compile(
    r"(?P<h>[01]?\d|2[0-4])[:：](?P<m>[0-5]\d)(?::[0-5]\d)?\s*(?P<half>[ap]\.?m\.?)?", re.IGNORECASE
)
_FORMS = (_ISO, _DOTTED, _HAN, _DAY_FIRST, _MONTH_FIRST, _MONTH_ONLY)


@dataclass(frozen=True)
class Number:
    """A number and the text around it that is its unit ("€", "kg", "%"), which may be empty."""

    value: Decimal
    unit: str = ""


@dataclass(frozen=True, order=True)
class When:
    """A date, or its known part: 0 for a year, month or day that is not given."""

    year: int = 0
    month: int = 0
    day: int = 0

    @property
    def date(self) -> date | None:
        """The day itself, where all of it is known."""
        return date(self.year, self.month, self.day) if self.year and self.month and self.day else None

    @property
    def is_sound(self) -> bool:
        if not (self.year or self.month) or self.month > 12 or self.day > 31:
            return False
        try:
            date(self.year or 2000, self.month or 1, self.day or 1)
        except ValueError:
            return False
        return True


@dataclass(frozen=True)
class FoundWhen:
    """A date within a text, at `[start, end)`."""

    when: When
    start: int
    end: int


def number_of(text: str) -> Number | None:
    """The number that a cell holds, with its unit; None for what is no single number."""
    plain = unicodedata.normalize("NFKC", text).strip()
    found = _NUMBER.fullmatch(plain) if len(plain) <= 2 * _LONGEST_NUMBER else None
    if not found:
        return None
    after = found["after"].strip()
    if re.search(r"\d", after) or len(after) > 16:
        return None
    value = decimal_of(found["number"])
    if value is None:
        return None
    before = found["before"]
    negative = "-" in before or "−" in before or (found["sign"] or "") in ("-", "−")
    unit = after or re.sub(r"[-−+\s]", "", before)
    return Number(-value if negative else value, unit)


def decimal_of(digits: str) -> Decimal | None:
    """The value of digits with points, commas or spaces for thousands and decimals; None where they make no sense."""
    if len(digits) > _LONGEST_NUMBER:
        return None
    plain = re.sub(r"[ '\u00a0\u202f]", "", digits)
    comma, point = plain.rfind(","), plain.rfind(".")
    if comma >= 0 and point >= 0:
        plain = plain.replace(",", "") if point > comma else plain.replace(".", "").replace(",", ".")
    elif comma >= 0:
        is_grouped = re.fullmatch(r"\d{1,3}(,\d{3})+", plain)
        plain = plain.replace(",", "") if is_grouped else plain.replace(",", ".")
    elif plain.count(".") > 1:
        if not re.fullmatch(r"\d{1,3}(\.\d{3})+", plain):
            return None
        plain = plain.replace(".", "")
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None


def han_number(text: str) -> int | None:
    """The value of a number in Chinese characters ("二十六", "一百零五"); None for what is none."""
    if len(text) > _LONGEST_NUMBER:
        return None
    total = section = digit = 0
    for letter in text.replace("两", "二").replace("〇", "零"):
        if letter in _DIGITS:
            digit = _DIGITS.index(letter)
        elif letter in "十百千":
            section += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[letter]
            digit = 0
        elif letter in "万亿":
            total = (total + section + digit) * (10_000 if letter == "万" else 100_000_000)
            section = digit = 0
        else:
            return None
    return total + section + digit if text else None


def small_number(text: str) -> int | None:
    """The value of digits, of an English number word below a hundred, or of Chinese characters."""
    plain = text.strip().lower()
    if plain.isdecimal():
        return int(plain)
    first, _, second = plain.replace("-", " ").partition(" ")
    if first in _WORDS and (not second or second in _WORDS):
        return _WORDS[first] + (_WORDS[second] if second else 0)
    return han_number(plain)


NUMBER_WORD = rf"(?:(?<!\d)(?<!\d[,.])\d++(?:[,.]\d++)*+[,.]?|{_HAN_NUMBER}|\b(?:{'|'.join(_WORDS)})(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?\b)"
"""A pattern for `small_number` and `quantity_of`; it reads a row of digits once, and not again from each of them."""


def quantity_of(text: str) -> Decimal | None:
    """The value of a number in digits or words."""
    if re.match(r"\d", text):
        return decimal_of(text.rstrip(",."))
    small = small_number(text)
    return None if small is None else Decimal(small)


def when_of(text: str) -> When | None:
    """The date that a cell holds; None for what is none."""
    plain = unicodedata.normalize("NFKC", text).strip()
    if len(plain) > _LONGEST_DATE:
        return None
    for form in _FORMS:
        found = form.fullmatch(
            re.sub(
                r"\s*\((?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\)|(?:星期|周)[一二三四五六日天]$|^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+",
                "",
                plain,
                flags=re.I,
            ).strip()
        )
        if found and (when := _when(found)):
            return when
    return When(int(plain)) if re.fullmatch(r"(?:19|20)\d{2}", plain) else None


def whens_in(text: str) -> Iterator[FoundWhen]:
    """The dates within a text, in order, none within another."""
    plain, end = text, 0
    found = sorted(
        (match for form in _FORMS for match in form.finditer(plain)), key=lambda m: (m.start(), -m.end())
    )
    for match in found:
        if match.start() >= end and (when := _when(match)):
            if _ambiguous_may(match):
                continue
            yield FoundWhen(when, match.start(), match.end())
            end = match.end()


def _ambiguous_may(match: re.Match[str]) -> bool:
    """True for the verb: "may" in small letters without a day or a year."""
    return match[0] in ("may", "march", "mar")


def _when(match: re.Match[str]) -> When | None:
    groups = match.groupdict()
    month = _month(groups["m"])
    day = _small(groups.get("d"))
    if match.re is _DOTTED and month > 12 >= day:
        month, day = day, month
    when = When(int(groups.get("y") or 0), month, day)
    return when if month and when.is_sound else None


def _month(text: str) -> int:
    if text[0].isascii() and text[0].isalpha():
        return next(n for n, name in enumerate(_MONTHS, 1) if name.startswith(text[:3].lower()))
    return _small(text)


def _small(text: str | None) -> int:
    return (small_number(text) or 0) if text else 0


def clock_of(text: str) -> int | None:
    """Minutes since midnight of a time of day; None for what is none."""
    found = _CLOCK.fullmatch(unicodedata.normalize("NFKC", text).strip())
    if not found:
        return None
    hours = int(found["h"])
    if found["half"]:
        hours = hours % 12 + (12 if found["half"][0] in "pP" else 0)
    return hours * 60 + int(found["m"])

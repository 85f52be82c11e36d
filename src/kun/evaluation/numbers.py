"""The numbers that a text names: in figures, in English words up to twenty and in tens, in Chinese numerals."""

import re

_FIGURES = re.compile(r"(?<![\d.])(?:(?<![\w)])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
} | {"hundred": 100}
_ENGLISH = re.compile(
    rf"\b(?:({'|'.join(list(_TENS)[:-1])})[- ](one|two|three|four|five|six|seven|eight|nine)|"
    rf"({'|'.join(sorted(_WORDS | _TENS, key=len, reverse=True))}))\b",
    re.IGNORECASE,
)
_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"两": 2}
_UNITS = {"十": 10, "百": 100}
_CHINESE = re.compile(r"[零一二三四五六七八九两十百]+")


def numbers(text: str) -> list[float]:
    """All numbers of `text`, those in figures first. "3 or 4" has two; a minus sign counts where no digit precedes."""
    found = [float(one.replace(",", "")) for one in _FIGURES.findall(text)]
    for tens, ones, alone in _ENGLISH.findall(text):
        found.append(float(_value(tens) + _value(ones) if tens else _value(alone)))
    found += [float(_chinese(one)) for one in _CHINESE.findall(text)]
    return found


def _value(word: str) -> int:
    known = word.casefold()
    return _WORDS[known] if known in _WORDS else _TENS[known]


def _chinese(numeral: str) -> int:
    """三十二 is 32, 十 is 10, 一百八十 is 180."""
    total, digit = 0, None
    for character in numeral:
        if character in _UNITS:
            total += (1 if digit is None else digit) * _UNITS[character]
            digit = None
        else:
            digit = _DIGITS[character]
    return total + (digit or 0)

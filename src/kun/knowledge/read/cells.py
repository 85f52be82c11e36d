"""A cell's value as a person sees it in the sheet: dates as dates, percents as percents, units with their numbers."""

import datetime
import re

_LITERAL = re.compile(r'"([^"]*)"|\[\$([^\]-]*)[^\]]*\]|\\(.)')
_SYMBOLS = "$€£¥￥₹"
_DATE_PARTS = re.compile(r"\[[^\]]*\]|\"[^\"]*\"|\\.|General", re.IGNORECASE)


def cell_text(value: object, number_format: str = "General") -> str:
    """The text of a cell, on one line; numbers with the decimals, percent sign and unit of their format.

    No digit is rounded away: 15.55 shown as `16` stays 15.55.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        has_time = (value.hour, value.minute, value.second, value.microsecond) != (0, 0, 0, 0)
        shown = value.replace(microsecond=0)
        if not has_time:
            return shown.date().isoformat()
        return shown.isoformat(" ", "minutes" if shown.second == 0 else "seconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.strftime("%H:%M" if value.second == 0 else "%H:%M:%S")
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    if isinstance(value, int | float):
        return _number(value, number_format or "General")
    return " ".join(str(value).split())


def _duration(value: datetime.timedelta) -> str:
    seconds = round(value.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{sign}{hours}:{minutes:02}:{rest:02}" if rest else f"{sign}{hours}:{minutes:02}"


def _number(value: float, number_format: str) -> str:
    section = number_format.split(";", maxsplit=1)[0]
    bare = _DATE_PARTS.sub("", section)
    percent = "%" in bare
    decimals = len(match[1]) if (match := re.search(r"\.(0+)", bare)) and "E" not in bare else 0
    shown = _plain(value * 100 if percent else value)
    if re.fullmatch(r"0{2,}", bare) and shown.isdigit():  # numbers of a fixed length, as postal codes are
        return shown.zfill(len(bare))
    if decimals and "e" not in shown:
        whole, _, fraction = shown.partition(".")
        shown = f"{whole}.{fraction.ljust(decimals, '0')}"
    if percent:
        return shown + "%"
    before, after = _units(section)
    return f"{before}{shown}{after}"


def _plain(value: float) -> str:
    """Fifteen digits, as sheets keep them; no exponent below a thousand billions."""
    if isinstance(value, int):
        return str(value)
    shown = f"{value:.15g}"
    if "e" in shown and 1e-9 < abs(value) < 1e15:
        shown = f"{value:.15f}".rstrip("0").rstrip(".")
    return shown


def _units(section: str) -> tuple[str, str]:
    """The words and currency signs before and after the number in a format like `0.00 "kg"` or `[$€-2] #,##0`."""
    digits = re.search(r"[0#?](?:[0#?,.\s]*[0#?])?", section)
    if not digits:
        return "", ""
    sides = []
    for side in (section[: digits.start()], section[digits.end() :]):
        words = [next(filter(None, match.groups()), "") for match in _LITERAL.finditer(side)]
        words += [sign for sign in _SYMBOLS if sign in _LITERAL.sub("", side)]
        sides.append("".join(words).strip(" ()-_"))
    before, after = sides
    return before, f" {after}" if after and after[0].isascii() and after[0].isalpha() else after

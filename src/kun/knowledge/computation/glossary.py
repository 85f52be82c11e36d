"""Words of offices, shops and workshops in Chinese and English, from `glossary.toml`.

By them a question of one language finds a table of the other.
"""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import TypedDict, cast


class _Same(TypedDict):
    groups: list[list[str]]


class _Data(TypedDict):
    chinese: dict[str, list[str]]
    same: _Same
    regions: dict[str, str]


@cache
def _data() -> _Data:
    text = files("kun.knowledge.computation").joinpath("glossary.toml").read_text("utf-8")
    return cast(_Data, tomllib.loads(text))


@cache
def _same() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for words in _data()["same"]["groups"]:
        for word in words:
            found.setdefault(word, []).extend(other for other in words if other != word)
    return found


def same_meaning(text: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """The Chinese words of a text that have others for the same, with their places."""
    form = re.compile("|".join(sorted(map(re.escape, _same()), key=len, reverse=True)))
    return [(*match.span(), tuple(_same()[match[0]])) for match in form.finditer(text)]


@cache
def _tables() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """English phrase to Chinese words, and back."""
    english = _data()["chinese"]
    chinese: dict[str, list[str]] = {}
    for phrase, words in english.items():
        for word in words:
            chinese.setdefault(word, []).append(phrase)
    return english, chinese


@cache
def _form(language: str) -> re.Pattern[str]:
    english, chinese = _tables()
    if language == "zh":
        longer = [word for word in chinese if len(word) > 1]  # one character is a part of too many words
        return re.compile("|".join(sorted(map(re.escape, longer), key=len, reverse=True)))
    phrases = sorted(english, key=len, reverse=True)
    return re.compile(rf"(?<![\w'])(?:{'|'.join(map(re.escape, phrases))})(?:'s)?(?![\w])")


def in_other_language(text: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """The known words of a folded text with their places, each with what the other language calls them."""
    english, chinese = _tables()
    found = []
    for match in _form("en").finditer(text):
        found.append(
            (
                *match.span(),
                tuple(english[match[0].removesuffix("'s") if match[0] not in english else match[0]]),
            )
        )
        parts = match[0].split()
        place = match.start()
        for part in parts if len(parts) > 1 else ():  # "hotel limit" is 住宿 and 上限 too
            if part in english:
                found.append((place, place + len(part), tuple(english[part])))
            place += len(part) + 1
    found += [(*match.span(), tuple(chinese[match[0]])) for match in _form("zh").finditer(text)]
    return found


def short_name(place: str) -> str:
    """The character by which lists of regions call a Chinese place (沪 of 江浙沪); "" for any other."""
    return _data()["regions"].get(place, "")

"""What the reports say, in English and Chinese at once: the page shows the one that its reader chose."""

import tomllib
from functools import cache
from html import escape
from importlib.resources import files

LANGUAGES = ("en", "zh")


@cache
def catalogue(package: str = __package__) -> dict[str, dict[str, str]]:
    """key -> language -> text, of the words.toml in a package."""
    entries: dict[str, dict[str, str]] = tomllib.loads(
        files(package).joinpath("words.toml").read_text(encoding="utf-8")
    )
    return entries


def say(key: str, package: str = __package__, **values: object) -> str:
    """HTML with a text in both languages; `values`, for the places in braces, are escaped."""
    texts = catalogue(package)[key]
    return both(*(texts[language].format(**values) for language in LANGUAGES))


def both(en: str, zh: str) -> str:
    """HTML with two texts, each shown to the readers of its language."""
    return f'<span class="en" lang="en">{escape(en)}</span><span class="zh" lang="zh">{escape(zh)}</span>'

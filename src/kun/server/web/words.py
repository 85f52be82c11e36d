"""The texts of the web app, in English and Chinese, from one catalogue."""

import tomllib
from functools import cache
from importlib.resources import files

LANGUAGES = {"en": "English", "zh": "中文"}


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """key -> language -> text."""
    entries: dict[str, dict[str, str]] = tomllib.loads(
        files(__package__).joinpath("words.toml").read_text("utf-8")
    )
    return entries


class Words:
    """The texts of one language: `words("copy")`, with values for the places in braces: `words("passages", n=3)`."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else "en"

    def __call__(self, key: str, **values: object) -> str:
        return catalogue()[key][self.language].format(**values)


def preferred_language(chosen: str | None, accepted: str) -> str:
    """The language chosen before, else the first of ours in an Accept-Language header (RFC 9110, with weights)."""
    if chosen in LANGUAGES:
        return chosen
    weighted = []
    for place, part in enumerate(accepted[:500].split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighted.append((-float(weight or 1), place, tag.split("-")[0].lower()))
        except ValueError:
            continue
    return next((tag for _, _, tag in sorted(weighted) if tag in LANGUAGES), "en")

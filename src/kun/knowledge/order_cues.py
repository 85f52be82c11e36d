"""The signs of a sentence that gives an order to the assistant, read from `order_cues.toml`.

Each cue belongs to one kind and has a weight; a sentence counts each kind once, by its heaviest cue. One sign
alone is ordinary prose ("Answer all questions in pencil."), and so nothing but a demand to drop the instructions
or to say one fixed thing is enough by itself. Tried on a million characters of web pages, an encyclopedia and hotel
reviews, no stretch of which was taken for an order but three quotations of speech.
"""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import NamedTuple, TypedDict, cast


class Cue(NamedTuple):
    """A pattern, the kind of sign that it is, and its weight."""

    kind: str
    weight: int
    pattern: re.Pattern[str]


class _Group(TypedDict):
    kind: str
    weight: int
    patterns: list[str]


class _Data(TypedDict):
    parts: dict[str, str]
    cues: list[_Group]


@cache
def cues() -> tuple[Cue, ...]:
    """All cues, the heaviest of a kind first, compiled when they are first asked for."""
    data = cast(_Data, tomllib.loads(files("kun.knowledge").joinpath("order_cues.toml").read_text("utf-8")))
    parts: dict[str, str] = {}
    for name, part in data["parts"].items():  # a part may use those above it
        parts[name] = _filled(part, parts)
    return tuple(
        Cue(group["kind"], group["weight"], re.compile(_filled(pattern, parts), re.IGNORECASE))
        for group in data["cues"]
        for pattern in group["patterns"]
    )


def _filled(pattern: str, parts: dict[str, str]) -> str:
    return re.sub(r"\{([A-Z_]+)\}", lambda match: parts[match[1]], pattern)

"""What popular accounts of these ideas get wrong, next to what is right, with the source."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kun.tour.drawings.canvas import Label


@dataclass(frozen=True)
class Erratum:
    """One error: the idea it belongs to, what is often said, what is right, and the source of that."""

    idea: int
    said: Label
    right: Label
    source: str


@cache
def errata() -> tuple[Erratum, ...]:
    """All of them, in the order of the ideas."""
    text = files("kun.tour").joinpath("errata.toml").read_text(encoding="utf-8")
    return tuple(
        Erratum(
            row["idea"], (row["said"][0], row["said"][1]), (row["right"][0], row["right"][1]), row["source"]
        )
        for row in tomllib.loads(text)["erratum"]
    )

"""An idea of the tour and its examples: each runs on this machine, shows numbers of that run, and has a check."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kun.tour.drawings.canvas import Label, Language

if TYPE_CHECKING:
    from kun.tour.session import Session


@dataclass(frozen=True)
class Table:
    """Rows below what is shown; cells of numbers are the same in both languages, others are labels."""

    columns: tuple[Label, ...]
    rows: Sequence[Sequence[Label | str]]


@dataclass(frozen=True)
class Shown:
    """The outcome of an example: whether its check holds, one sentence with the run's numbers, and more to look at.

    `picture` draws an SVG in one language; `quote` is a text as a model or a tool gave it, whatever its language.
    """

    ok: bool
    text: Label
    table: Table | None = None
    picture: Callable[[Language], str] | None = None
    quote: str = ""


@dataclass(frozen=True)
class Example:
    """One thing to see: its name in both languages, the models that it needs, and the function that runs it."""

    name: Label
    run: "Callable[[Session], Shown]"
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Idea:
    """One of the seventeen.

    `drawings` are pictures of the handbook, by name; `see` commands that show more, and `comes` what comes out, both
    for README's table; `later` says what is not there yet, empty where nothing is missing.
    """

    number: int
    title: Label
    examples: tuple[Example, ...]
    see: Label
    comes: Label
    sources: tuple[str, ...]
    drawings: tuple[str, ...] = ()
    note: Label = ("", "")
    later: Label = ("", "")

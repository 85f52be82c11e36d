"""The examples of the tour in their order, each with its outcome; one that fails leaves the others to run."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from kun import interruption
from kun.errors import BadInput, KunError
from kun.hub.catalog import catalog
from kun.tour.drawings.canvas import Label
from kun.tour.example import Example, Idea, Shown
from kun.tour.session import HANDBOOK, Session

log = logging.getLogger(__name__)


class OutcomeFacts(TypedDict, total=False):
    """One example in `kun tour --json`; `needs` stands where `ok` is null."""

    idea: int
    name: str
    ok: bool | None
    needs: str
    shown: str
    seconds: float


@dataclass(frozen=True)
class Toured:
    """A tour that ended: what came out in its order, and the page that shows it; cut short where `interrupted`."""

    outcomes: Sequence["Outcome"]
    seconds: float
    page: Path
    interrupted: bool = False

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many checks hold, how many are false, how many examples wait for a model."""
        right, wrong, waiting = (sum(one.ok is ok for one in self.outcomes) for ok in (True, False, None))
        return right, wrong, waiting

    @property
    def models_waited_for(self) -> list[str]:
        """The models of the catalog that would let more examples run, each once."""
        needed = (name for one in self.outcomes if one.ok is None for name in one.needs.split(", "))
        return [name for name in dict.fromkeys(needed) if name in catalog()]

    def facts(self) -> "TourFacts":
        """What `kun tour --json` prints."""
        return {"examples": [one.facts() for one in self.outcomes], "seconds": round(self.seconds, 2)}


class TourFacts(TypedDict):
    """All of `kun tour --json`."""

    examples: list[OutcomeFacts]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """One example that ran, or could not for what it `needs`; `ok` is None then."""

    idea: Idea
    example: Example
    ok: bool | None
    shown: Shown
    seconds: float
    needs: str = ""

    def facts(self) -> OutcomeFacts:
        """The outcome for JSON, in English."""
        facts: OutcomeFacts = {"idea": self.idea.number, "name": self.example.name[0], "ok": self.ok}
        if self.ok is None:
            facts["needs"] = self.needs
        return {**facts, "shown": self.shown.text[0], "seconds": round(self.seconds, 2)}


def chosen_ideas(ideas: Sequence[Idea], only: Sequence[int]) -> list[Idea]:
    """The ideas with these numbers, in the order of the tour; all where none is given. Raises `BadInput`."""
    known = [idea.number for idea in ideas]
    for number in only:
        if number not in known:
            raise BadInput(f"There is no idea {number}: they are numbered from {known[0]} to {known[-1]}.")
    return [idea for idea in ideas if not only or idea.number in only]


def run_tour(
    ideas: Sequence[Idea], session: Session, tell: Callable[[Label, int, int], None] | None = None
) -> Iterator[Outcome]:
    """The outcome of each example as it ends; `tell` hears the name of each before it begins, its place, and how many.

    KeyboardInterrupt passes through, between two outcomes or in the middle of one, whatever error it surfaced as.
    """
    interruption.listen()
    planned = [(idea, example) for idea in ideas for example in idea.examples]
    for place, (idea, example) in enumerate(planned):
        if tell is not None:
            tell(example.name, place, len(planned))
        yield _outcome(idea, example, session)


def _outcome(idea: Idea, example: Example, session: Session) -> Outcome:
    began = time.monotonic()
    try:
        missing = session.missing(example.needs)
        if missing:
            return Outcome(idea, example, None, Shown(False, _needs(missing)), 0.0, missing)
        shown = example.run(session)
    except Exception as error:  # a fault of one example is shown as one, and the tour goes on
        if interruption.came():
            raise KeyboardInterrupt from error
        log.debug("%s failed", example.name[0], exc_info=True)
        fault = str(error) if isinstance(error, KunError) else f"{type(error).__name__}: {error}"
        shown = Shown(False, (fault, fault))
    return Outcome(idea, example, shown.ok, shown, time.monotonic() - began)


def _needs(missing: str) -> Label:
    names = missing.split(", ")
    pulls = ", ".join(f"kun pull {name}" for name in names if name != HANDBOOK)
    here = HANDBOOK in names
    english = [f"Needs {missing}: {pulls}." if pulls else "", _PAGES[0] if here else ""]
    chinese = [f"需要 {'、'.join(names)}：{pulls}。" if pulls else "", _PAGES[1] if here else ""]
    return " ".join(filter(None, english)), "".join(chinese)


_PAGES = (
    "Needs the handbook's pages: install the package with its data files.",
    "需要手册的页面：安装带数据文件的软件包。",
)

"""A whole tour: the examples run one after the other, and the page is written, however it ends."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kun.atomic_files import DetailedProgress, check_place
from kun.errors import NotFound
from kun.tour.handbook import handbook_folder
from kun.tour.page import write_tour
from kun.tour.running import Outcome, Toured, chosen_ideas, run_tour
from kun.tour.session import Session
from kun.tour.seventeen import IDEAS


def take_tour(
    only: Sequence[int],
    page: Path,
    each: Callable[[Outcome], None] | None = None,
    report: DetailedProgress | None = None,
) -> Toured:
    """Run the ideas of these numbers, all where there is none, and write `page`; `each` hears every outcome at once.

    An interruption ends it, and the page shows what was done. Raises `BadInput` for a number that no idea has and a
    page that is a folder, `NoSpace`, `NotWritable`.
    """
    ideas = chosen_ideas(IDEAS, only)
    page = check_place(page, "tour.html")
    began, done, interrupted = time.monotonic(), list[Outcome](), False
    session = Session(_handbook())

    def tell(name: tuple[str, str], place: int, count: int) -> None:
        if report is not None:
            report("tour", place, count, name[0])

    try:
        for outcome in run_tour(ideas, session, tell):
            done.append(outcome)
            if each is not None:
                each(outcome)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        session.close()
    seconds = time.monotonic() - began
    write_tour(page, done, seconds, interrupted=interrupted)
    return Toured(done, seconds, page, interrupted)


def _handbook() -> Path | None:
    try:
        return handbook_folder()
    except NotFound:
        return None

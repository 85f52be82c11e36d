"""When a run's report is written: every few minutes, and however the run ends."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from kun.errors import NoSpace, NotWritable
from kun.training.report.page import write_report
from kun.training.run import RunFolder

_SECONDS = 120.0
"""Between two reports of a training that goes on."""


@contextmanager
def reported(folder: RunFolder, stage: str) -> Iterator[None]:
    """Within it a run takes place; however it ends, facts.json says so and the report is written."""
    if not folder.writes:
        yield
        return
    folder.record_facts({"stage": stage, "state": "training", "why": None})
    try:
        yield
    except BaseException as error:
        with suppress(
            NoSpace, NotWritable
        ):  # what ended the run is raised, whatever keeps the page from being written
            _end(folder, ending(error))
        raise
    _end(folder, {"state": "done"})


def ending(error: BaseException) -> dict[str, object]:
    """What facts say of a run that ended so."""
    if isinstance(error, KeyboardInterrupt):
        return {"state": "interrupted"}
    return {"state": "failed", "why": str(error) or type(error).__name__}


def _end(folder: RunFolder, facts: Mapping[str, object]) -> None:
    folder.record_facts(facts)
    write_report(folder.path)


class Reporter:
    """Watches a training and writes its report every few minutes; `facts` tells what is known of it by then."""

    def __init__(self, folder: RunFolder, facts: Callable[[], Mapping[str, object]]) -> None:
        self._folder, self._facts = folder, facts
        self._written = time.monotonic()

    def __call__(self, line: Mapping[str, object]) -> None:
        if self._folder.writes and time.monotonic() - self._written >= _SECONDS:
            self._folder.record_facts(self._facts())
            write_report(self._folder.path)
            self._written = time.monotonic()

"""Requests that wait for the engine: first come, first served, up to a limit."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kun.errors import Busy
from kun.generation.row import EngineRow


class RequestQueue:
    """The rows of at most `limit` waiting requests. `put`, `wake` and `close` may be called from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.closed = False
        self._rows: deque[EngineRow] = deque()
        self._changed = threading.Condition()
        self._arrivals = self._holders = 0

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, rows: Sequence[EngineRow]) -> None:
        """Queue the rows of one request. Raises `Busy` where the queue is full or closed."""
        with self._changed:
            if self.closed:
                raise Busy("The model is being closed and takes no more requests.")
            if len({id(row.generation) for row in self._rows}) >= self.limit:
                raise Busy(f"{self.limit} requests are waiting already: try again in a while.")
            for row in rows:
                self._arrivals += 1
                row.order = self._arrivals
                row.generation.on_cancel(self.wake)
            self._rows.extend(rows)
            self._count_ahead()
            self._changed.notify_all()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Rows that come within it begin at its end, all in one step as far as there is room."""
        self._hold(1)
        try:
            yield
        finally:
            self._hold(-1)

    def _hold(self, change: int) -> None:
        with self._changed:
            self._holders += change
            self._changed.notify_all()

    def wake(self) -> None:
        """Have the engine look at its rows again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more requests; the engine stops."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def wait(self, running: Sequence[EngineRow], seconds: float | None = None) -> bool:
        """Wait until a row waits or is `running`, at most so many seconds; False when the queue was closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.closed or running or (self._rows and not self._holders), seconds
            )
            return not self.closed

    # what the engine's own thread calls

    @property
    def first(self) -> EngineRow | None:
        """The row whose turn is next."""
        return self._rows[0] if self._rows else None

    def waiting(self) -> list[EngineRow]:
        """The rows in their order."""
        with self._changed:
            return list(self._rows)

    def take(self, row: EngineRow) -> None:
        """Take a row out."""
        with self._changed:
            self._rows.remove(row)
            self._count_ahead()

    def put_first(self, row: EngineRow) -> None:
        """Queue a row that is run again, before all others."""
        with self._changed:
            self._rows.appendleft(row)
            self._count_ahead()

    def take_cancelled(self) -> list[EngineRow]:
        """Take out the rows whose generation was cancelled, or failed."""
        with self._changed:
            gone = [row for row in self._rows if row.cancelled]
            if gone:
                self._rows = deque(row for row in self._rows if not row.cancelled)
                self._count_ahead()
        return gone

    def take_all(self) -> list[EngineRow]:
        """Take out every row."""
        with self._changed:
            gone = list(self._rows)
            self._rows.clear()
        return gone

    def _count_ahead(self) -> None:
        """Each request that waits learns how many come before it."""
        for ahead, generation in enumerate(dict.fromkeys(row.generation for row in self._rows)):
            generation.waits(ahead)

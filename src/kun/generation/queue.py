"""Requests that wait for the engine: first come, first served, up to a limit."""

import threading
from collections import deque
from collections.abc import Sequence

from kun.errors import Busy
from kun.generation.row import EngineRow


class RequestQueue:
    """The rows of at most `limit` waiting requests. `put`, `wake` and `close` may be called from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.closed = False
        self._rows: deque[EngineRow] = deque()
        self._changed = threading.Condition()
        self._arrivals = 0

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

    def wait(self, running: Sequence[EngineRow]) -> bool:
        """Wait until a row waits or is `running`; False when the queue was closed."""
        with self._changed:
            while not (self._rows or running or self.closed):
                self._changed.wait()
            return not self.closed

    # what the engine's own thread calls

    @property
    def first(self) -> EngineRow | None:
        """The row whose turn is next."""
        return self._rows[0] if self._rows else None

    def take(self) -> EngineRow:
        """Take the first row out."""
        with self._changed:
            return self._rows.popleft()

    def put_first(self, row: EngineRow) -> None:
        """Queue a row that is run again, before all others."""
        with self._changed:
            self._rows.appendleft(row)

    def take_cancelled(self) -> list[EngineRow]:
        """Take out the rows whose generation was cancelled, or failed."""
        with self._changed:
            gone = [row for row in self._rows if row.cancelled]
            if gone:
                self._rows = deque(row for row in self._rows if not row.cancelled)
        return gone

    def take_all(self) -> list[EngineRow]:
        """Take out every row."""
        with self._changed:
            gone = list(self._rows)
            self._rows.clear()
        return gone

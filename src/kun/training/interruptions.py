"""Ctrl-C and SIGTERM, which let a step end well first."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None
"""What `signal.signal` takes and gives back."""


class Interruptions:
    """Remembers Ctrl-C and SIGTERM, so that the step ends well first; a second Ctrl-C acts at once.

    Within a second it is the same one: torchrun repeats what the terminal has sent to its processes already.
    """

    def __init__(self) -> None:
        self.came, self._since = False, 0.0
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> "Interruptions":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._heard:  # and nobody has turned deaf meanwhile
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.came and number == signal.SIGINT and time.monotonic() - self._since > 1:
            raise KeyboardInterrupt
        if not self.came:
            self.came, self._since = True, time.monotonic()

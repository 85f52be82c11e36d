"""Ctrl-C: remembered, for within an import it may surface as another error than KeyboardInterrupt."""

import signal
import threading
from types import FrameType

_came = threading.Event()


def listen() -> None:
    """Remember Ctrl-C from here on, and let it act as it always does. A handler of the caller's own stays."""

    def heard(number: int, frame: FrameType | None) -> None:
        _came.set()
        signal.default_int_handler(number, frame)

    _came.clear()
    mine = threading.current_thread() is threading.main_thread()
    if mine and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, heard)


def came() -> bool:
    """Whether Ctrl-C came since `listen` was called."""
    return _came.is_set()

"""A sign of life from a reader that works through many pages: each page has the time that a file has."""

from collections.abc import Callable

_listeners: list[Callable[[], None]] = []


def on_beat(listener: Callable[[], None]) -> None:
    """Call `listener` at every beat from now on."""
    _listeners.append(listener)


def beat() -> None:
    """Say that a part of the work is done."""
    for listener in _listeners:
        listener()

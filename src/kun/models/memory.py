"""The C library's heap kept small, where it is glibc's: what was freed goes back to the system."""

import ctypes
import sys

_ARENA_MAX = -8
"""M_ARENA_MAX of mallopt(3)."""


def share_arenas(most: int = 2) -> None:
    """Let all threads that are started from now on share `most` heaps; by default each may keep one of 64 MB."""
    if library := _glibc():
        library.mallopt(_ARENA_MAX, most)


def release() -> None:
    """Give freed memory back to the system, such as what reading a tokenizer needed on the way."""
    if library := _glibc():
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None

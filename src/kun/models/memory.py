"""Memory that is not needed goes back to the system, where the C library is glibc on Linux."""

import ctypes
import mmap
import sys
from collections.abc import Iterable

_ARENA_MAX = -8
"""M_ARENA_MAX of mallopt(3)."""
_PAGEOUT = 21
"""MADV_PAGEOUT of madvise(2)."""


def share_arenas(most: int = 2) -> None:
    """Let all threads that are started from now on share `most` heaps; by default each may keep one of 64 MB."""
    if library := _glibc():
        library.mallopt(_ARENA_MAX, most)


def release() -> None:
    """Give freed memory back to the system, such as what reading a tokenizer needed on the way."""
    if library := _glibc():
        library.malloc_trim(0)


def page_out(ranges: Iterable[tuple[int, int]]) -> None:
    """Give back the pages of a mapped file that are not needed soon: (address, bytes). Who does, reads them again."""
    if library := _glibc():
        for address, size in ranges:
            start, end = (
                -(-address // mmap.PAGESIZE) * mmap.PAGESIZE,
                (address + size) // mmap.PAGESIZE * mmap.PAGESIZE,
            )
            if end > start:
                library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _PAGEOUT)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None

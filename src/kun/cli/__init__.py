"""The command line: it parses and prints, and calls `kun.api` for everything else."""

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 it failed, 2 it was called wrongly, 130 interrupted."""
    try:
        from kun.cli.app import run  # within, so that Ctrl-C is heard while it is imported
    except KeyboardInterrupt:
        sys.exit(130)
    if arguments is not None:
        sys.exit(run(list(arguments)))
    _leave(run(sys.argv[1:]))


def _leave(code: int) -> NoReturn:
    """End the process at once: the interpreter's own end would abort it where a thread is still loading a model.

    Python ends such a thread within the C++ of torch, which takes that for a fault and calls `std::terminate`.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)

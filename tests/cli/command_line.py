"""The command line in a process of its own, and what it leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

#: the catalog says so: asked in Chinese, it does not write but quotes, which is the same with random weights
ENGLISH_ONLY = "smollm2-135m-instruct"
ENTRY = "from kun.cli import main; main()"


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


Kun = Callable[..., Ran]


class Process:
    """A command in a process of its own."""

    def __init__(self, *line: object, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ENTRY, *map(str, line)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | environment,
        )

    def line(self) -> str:
        """The next line of its output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float = 60) -> Ran:
        started = time.monotonic()
        out, err = self._process.communicate(timeout=seconds)
        assert time.monotonic() - started < seconds
        return Ran(self._process.returncode, out, err)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

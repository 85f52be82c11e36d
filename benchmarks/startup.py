"""How long a person waits: for `kun --help`, for a model to load, for the app to answer again."""

import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from benchmarks.table import Options, Row, main, skipped

KUN = [sys.executable, "-c", "from kun.cli import main; main()"]
LOAD = """
import time, sys, kun, torch
start = time.perf_counter(); lm = kun.load(sys.argv[1], quantize=eval(sys.argv[2])); print(time.perf_counter() - start)
"""


def measure(options: Options) -> Iterable[Row]:
    repeats = 3 if options.quick else 7
    yield _seconds("kun --help", [_timed([*KUN, "--help"]) for _ in range(repeats)], 0.5, 0.2)
    for name in ("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"):
        _load(
            name, '"int4"'
        )  # the first load quantizes and keeps the result; what is measured is the next ones
        times = [_load(name, '"int4"') for _ in range(3)]
        yield _seconds(f"load from a checkpoint, int4: {name}", times, 2, 1)
    gguf = _gguf(options)
    if gguf is None:
        yield skipped("load from GGUF: SmolLM2", "needs --data with smollm2.gguf")
    else:
        yield _seconds("load from GGUF, float32: SmolLM2", [_load(str(gguf), "None") for _ in range(3)], 6, 3)
    yield _seconds("starting again, until the app answers", [_serve() for _ in range(2)], 15, 6)


def _gguf(options: Options) -> Path | None:
    found = options.data / "smollm2.gguf" if options.data else None
    return found if found and found.is_file() else None


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _load(name: str, quantize: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, name, quantize], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def _serve() -> float:
    """Seconds from the command to the first answer of the page, the API and the language model's first token."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [*KUN, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"Ready: (\S+)", line):
                for path in ("/healthz", "/"):
                    urllib.request.urlopen(found[1].rstrip("/") + path, timeout=60).read()
                return time.perf_counter() - start
        raise RuntimeError("kun serve ended before it was ready")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _seconds(what: str, times: list[float], at_least: float, aim: float) -> Row:
    middle = statistics.median(times)
    return Row(
        what=what,
        figure=f"{middle:.2f} s",
        at_least=f"{at_least:g} s",
        aim=f"{aim:g} s",
        holds=middle <= at_least,
        note=f"{min(times):.2f} to {max(times):.2f} in {len(times)} runs",
    )


if __name__ == "__main__":
    main(measure, __doc__)

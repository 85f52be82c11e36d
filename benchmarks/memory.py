"""The memory of `kun serve`, over all of its processes: when it is ready, and after the first answer from a base."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from benchmarks.table import Options, Row, main, skipped

KUN = [sys.executable, "-c", "from kun.cli import main; main()"]
MODEL = "qwen2.5-coder-0.5b-instruct"
BASE = "handbook"
QUESTION = "What are the three steps of InstructGPT?"
SETTLE_SECONDS = 3.0


def measure(options: Options) -> Iterable[Row]:
    what = f"memory of kun serve, PSS of all processes: {MODEL} int4 and the knowledge base {BASE}"
    if not Path("/proc/self/smaps_rollup").is_file():
        yield skipped(what, "needs /proc/PID/smaps_rollup, as Linux has it")
        return
    process = subprocess.Popen(
        [*KUN, "serve", "--port", "0", "--model", MODEL], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = _ready(process.stdout)
        time.sleep(SETTLE_SECONDS)
        before = total_pss(process.pid)
        _ask(url)
        time.sleep(SETTLE_SECONDS)
        parts = pss(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    after = sum(parts.values())
    yield Row(
        what=what,
        figure=f"{after / 1e9:.2f} GB",
        at_least="1.1 GB",
        aim="0.9 GB",
        holds=after <= 1.1e9,
        note=f"{before / 1e9:.2f} GB when it was ready; processes: "
        + ", ".join(f"{size / 1e6:.0f} MB" for size in parts.values()),
    )


def total_pss(root: int) -> int:
    """Bytes of memory of a process and all that descend from it, shared pages by their share."""
    return sum(pss(root).values())


def pss(root: int) -> dict[int, int]:
    """The proportional set size in bytes of a process and of each that descends from it."""
    sizes = {}
    for pid in [root, *_descendants(root)]:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if found := re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE):
            sizes[pid] = int(found[1]) * 1024
    return sizes


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _ready(lines: IO[str]) -> str:
    for line in lines:
        if found := re.search(r"Ready: (\S+)", line):
            return found[1].rstrip("/")
    raise RuntimeError("kun serve ended before it was ready")


def _ask(url: str) -> None:
    """The answer of the knowledge base to one question. Raises RuntimeError for an empty one."""
    body = {"model": f"{BASE}@{MODEL}", "messages": [{"role": "user", "content": QUESTION}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        if not json.load(reply)["choices"][0]["message"]["content"]:
            raise RuntimeError("the knowledge base answered nothing")


if __name__ == "__main__":
    main(measure, __doc__)

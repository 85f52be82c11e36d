"""Votes of people: how long one takes to be on the disk, and what 200 kills in the middle of saving lose."""

import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.table import Options, Row, main, skipped
from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import Vote

_SAVES, _KILLS, _ANSWERS = 400, 200, 4


def measure(options: Options) -> Iterable[Row]:
    with tempfile.TemporaryDirectory(prefix="kun-feedback-") as folder:
        database = Path(folder) / "kun.db"
        store = FeedbackStore(database)
        ids = _fill(store, _SAVES)
        yield _saving(store, ids)
        store.close()
        if hasattr(os, "fork"):
            yield _killing(database, ids, 20 if options.quick else _KILLS)
        else:
            yield skipped("votes lost to kill -9", "this system cannot fork")


def _fill(store: FeedbackStore, count: int) -> list[str]:
    texts = [f"answer {number}: " + "word " * 80 * number for number in range(_ANSWERS)]
    answers = [({"role": "assistant", "content": text},) for text in texts]
    with store.together():
        return [store.add_item([{"role": "user", "content": f"q{n}"}], answers) for n in range(count)]


def _saving(store: FeedbackStore, ids: list[str]) -> Row:
    seconds = []
    for id in ids:
        began = time.perf_counter()
        store.save(Vote(id, "ada", ranks=(0, 1, 1, 2), note="a note"))
        seconds.append(time.perf_counter() - began)
    median = 1000 * statistics.median(seconds)
    return Row(
        "a ranking saved, median",
        f"{median:.1f} ms",
        "20 ms",
        "5 ms",
        holds=median <= 20,
        note=f"{len(seconds)} saves, each synced to the disk; the slowest {1000 * max(seconds):.0f} ms",
    )


def _killing(database: Path, ids: list[str], kills: int) -> Row:
    reported: set[tuple[str, str]] = set()
    rng = random.Random(0)
    for number in range(kills):
        rater = f"rater {number}"
        reported |= {(id, rater) for id in _killed(database, ids, rater, rng.randint(1, 5), rng.random())}
    store = FeedbackStore(database)
    kept = {(vote.item, vote.rater) for _, vote in store.votes()}
    store.close()
    lost = len(reported - kept)
    return Row(
        f"votes lost to {kills} kill -9 while saving",
        str(lost),
        "0",
        "0",
        holds=lost == 0 and len(reported) > 0,
        note=f"{len(reported)} votes were reported as saved",
    )


def _killed(database: Path, ids: list[str], rater: str, after: int, share: float) -> list[str]:
    """The items of votes that a process reported as saved before it was killed.

    That is after so many votes and a share of the time that the last one took, in the middle of the next.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        store = FeedbackStore(database)
        os.write(writing, b"ready\n")
        for id in ids:
            store.save(Vote(id, rater, ranks=(3, 2, 1, 0), note="n" * 4000))
            os.write(writing, f"{id}\n".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        assert told.readline() == b"ready\n"
        lines = []
        for _ in range(after):
            began = time.perf_counter()
            lines.append(told.readline())
        time.sleep(share * (time.perf_counter() - began))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return b"".join((*lines, told.read())).decode().split()


if __name__ == "__main__":
    main(measure, __doc__)

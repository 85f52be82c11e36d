"""People who rate, for tests: prompts, answers, and a process of a person that is killed while it saves."""

import os
import random
import select
import signal
import time
from pathlib import Path

from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import Vote


def user(text):
    return ({"role": "user", "content": text},)


def said(text):
    return ({"role": "assistant", "content": text},)


def fill(store, count, answers=3, wanted=1, models=()):
    """Items of `answers` answers each; their ids."""
    texts = [f"answer {'x' * (5 * number)}{number}" for number in range(answers)]
    with store.together():
        return [
            store.add_item(user(f"question {number}"), [said(text) for text in texts], models, wanted=wanted)
            for number in range(count)
        ]


def saved_until_killed(database: Path, ids, rater, seconds, least=0):
    """The items of votes that a process reported as saved until it was killed -9, some time after the first `least`."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        store = FeedbackStore(database)
        rng = random.Random(rater)
        os.write(writing, b"ready\n")
        for id in ids:
            store.save(Vote(id, rater, ranks=tuple(rng.sample(range(3), 3)), note="n" * 2000))
            os.write(writing, f"{id}\n".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        assert told.readline() == b"ready\n"
        first = [told.readline() for _ in range(least)]
        select.select([], [], [], seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return b"".join([*first, told.read()]).decode().split()


def timed_saves(store, ids, rater):
    """Seconds of each save."""
    seconds = []
    for id in ids:
        began = time.perf_counter()
        store.save(Vote(id, rater, ranks=(0, 1, 1)))
        seconds.append(time.perf_counter() - began)
    return seconds

"""Preferences that a small network learns in seconds, and files of them."""

import json
import random

WORDS = "sea fish bird wind cloud north tide sail salt shore".split()


def talks(count, seed=0):
    """Pairs in which the better answer says "please", whatever else it says."""
    chance = random.Random(seed)
    for number in range(count):
        asked = " ".join(chance.choices(WORDS, k=chance.randint(2, 6)))
        plain = " ".join(chance.choices(WORDS, k=chance.randint(1, 5)))
        kind = " ".join([*chance.choices(WORDS, k=chance.randint(0, 4)), "please"])
        yield {"prompt": f"{asked} {number}", "chosen": kind, "rejected": plain}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path

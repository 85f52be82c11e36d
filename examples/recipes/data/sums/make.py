"""Sums of two numbers of two digits; examples/recipes/sums-*.toml train on them.

    python examples/recipes/data/sums/make.py examples/recipes/data/sums

The sums are shuffled with a seed and dealt out: some with answers to begin with, others to practise, of which a
verifier knows the answer, and the last to be asked at the end. No sum is in two of the files, nor is the same one with
its numbers the other way round.
"""

import argparse
import itertools
import json
import random
from pathlib import Path

PARTS = {"start": 3600, "practice": 3900, "held-out": 500}


def write(folder: Path, seed: int) -> None:
    random_ = random.Random(seed)
    pairs = list(itertools.combinations_with_replacement(range(10, 100), 2))
    random_.shuffle(pairs)
    for name, count in PARTS.items():
        part: list[tuple[int, int]] = []
        while len(part) < count:
            a, b = pairs.pop()
            part += sorted({(a, b), (b, a)})
        random_.shuffle(part)
        rows = ({"instruction": f"{a} + {b}", "output": str(a + b)} for a, b in part[:count])
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, given.seed)

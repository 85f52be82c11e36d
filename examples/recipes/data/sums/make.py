"""Sums of two numbers of two digits; examples/recipes/sums-*.toml train on them.

    python examples/recipes/data/sums/make.py examples/recipes/data/sums

The 8,100 sums are shuffled with a seed and dealt out: some with answers to begin with, others to practise, of which a
verifier knows the answer, and the last to be asked at the end. No sum is in two of the files.
"""

import argparse
import json
import random
from pathlib import Path

PARTS = {"start": 1000, "practice": 4000, "held-out": 500}


def write(folder: Path, seed: int) -> None:
    sums = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    random.Random(seed).shuffle(sums)
    for name, count in PARTS.items():
        part, sums = sums[:count], sums[count:]
        rows = ({"instruction": f"{a} + {b}", "output": str(a + b)} for a, b in part)
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

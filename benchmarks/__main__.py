"""`make bench`: every benchmark in a process of its own, one table at the end."""

import argparse
import json
import subprocess
import sys

from benchmarks.table import Row, add_options, as_text, print_table, skipped

ALL = (
    "startup", "memory", "cuda", "parity", "families", "speed", "interleaving",
    "generate", "perplexity", "retrieval", "spans", "answers", "ocr",
    "scale", "training", "parallel", "shakespeare", "labels", "finetuned", "translation", "lora", "domain",
    "damage", "feedback", "vectors", "shots", "specialists", "aligned", "preferences", "safety",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(ALL)} (default: all)")
    add_options(parser)
    given = parser.parse_args()
    unknown = set(given.names) - set(ALL)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    rows = [row for name in given.names or ALL for row in _run(name, given)]
    print_table(rows)


def _run(name: str, given: argparse.Namespace) -> list[Row]:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    command += [f"--data={given.data}"] if given.data else []
    command += [f"--peers={given.peers}"] if given.peers else []
    command += ["--quick"] if given.quick else []
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                rows.append(Row(**json.loads(line)))
                print(as_text(rows[-1]), file=sys.stderr, flush=True)
    if process.returncode:
        rows.append(skipped(name, f"the benchmark ended with exit code {process.returncode}"))
    return rows


if __name__ == "__main__":
    main()

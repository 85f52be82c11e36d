"""Tiny Shakespeare by characters: the time to nanoGPT's validation loss, beside nanoGPT's own recipe for a CPU.

Needs `tinyshakespeare/input.txt` in the data folder, and for the peer nanoGPT's repository there as `nanoGPT`.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.table import Options, Row, main, skipped

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"
LOSS, LOW = 1.88, 1.50
"""nanoGPT's own on a CPU, and what is asked of ten minutes."""
_NANOGPT = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1000 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=3000 --lr_decay_iters=2000 --dropout=0.0 "
    "--eval_interval=125"
).split()
_EVALUATED = re.compile(r"step (\d+): train loss [\d.]+, val loss ([\d.]+)")


def measure(options: Options) -> Iterable[Row]:
    what = f"tiny Shakespeare by characters: seconds to a validation loss of {LOSS}"
    source = options.data / "tinyshakespeare" / "input.txt" if options.data else None
    if source is None or not source.is_file():
        yield skipped(what, "no tinyshakespeare/input.txt in the data folder")
        return
    assert options.data is not None
    text = source.read_text(encoding="utf-8")
    ours = _ours("shakespeare", text, LOSS, {"train.eval_every": 20, "train.eval_tokens": 32768})
    peer = _nanogpt(options.data / "nanoGPT", source)
    if peer is None:
        yield Row(what, f"{ours:.1f} s", note="nanoGPT is not in the data folder")
    else:
        told, ratio = f"nanoGPT {peer:.1f} s, ours {ours:.1f} s", peer / ours
        yield Row(what, f"{ratio:.1f}× sooner", "3×", "5×", told, ratio >= 3)
    if not options.quick:
        minutes = _ours("shakespeare-slow", text, LOW, {}) / 60
        low = f"tiny Shakespeare by characters: minutes to a validation loss of {LOW:.2f}"
        yield Row(low, f"{minutes:.1f}", "", "10", holds=minutes <= 10)


def _ours(recipe: str, text: str, loss: float, changes: Mapping[str, int]) -> float:
    """Seconds in the loop, evaluations included, until one is low enough; nanoGPT's split."""
    cut = int(len(text) * 0.9)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, its in (("train", text[:cut]), ("eval", text[cut:])):
            (folder / f"{part}.txt").write_text(its, encoding="utf-8")
        overrides = {
            "out": folder / "run",
            "data.train": folder / "train.txt",
            "data.eval": f'"{folder / "eval.txt"}"',
            "train.sample_every": 10**6,
            **changes,
        }
        options = [part for key, value in overrides.items() for part in ("-o", f"{key}={value}")]
        code = "import sys; from kun.cli import main; sys.argv[0] = 'kun'; main()"
        command = [sys.executable, "-c", code, "train", str(RECIPES / f"{recipe}.toml"), *options]
        subprocess.run(command, check=True, capture_output=True)
        lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    reached = [line for line in map(json.loads, lines) if line.get("eval_loss", loss + 1) <= loss]
    return float(reached[0]["seconds"]) if reached else float("inf")


def _nanogpt(repository: Path, source: Path) -> float | None:
    """Seconds from its first evaluation to the one that is low enough; loading and the first evaluation don't count."""
    if not (repository / "train.py").is_file():
        return None
    data = repository / "data" / "shakespeare_char"
    shutil.copyfile(source, data / "input.txt")
    subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, capture_output=True)
    command = [sys.executable, "-u", "train.py", *_NANOGPT]
    began = None
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := _EVALUATED.match(line):
                began = began or time.perf_counter()
                if float(found[2]) <= LOSS:
                    process.kill()
                    return time.perf_counter() - began
    return float("inf")


if __name__ == "__main__":
    main(measure, __doc__)

"""Two processes beside one, a thread each: tokens/s of the same training, divided over the rows."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.table import Options, Row, main
from benchmarks.training import training_text

_GPT = """
stage = "pretrain"
[model]
family = "gpt2"
n_layers = 6
n_heads = 6
d_model = 384
vocab_size = 8192
tokenizer = "bytes"
[train]
steps = 4
context = 256
batch_tokens = 16384
micro_batch_tokens = 2048
"""


def measure(options: Options) -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.toml").write_text(
            f'{_GPT}\n[data]\ntrain = "{training_text(folder / "text.jsonl")}"\n', encoding="utf-8"
        )
        turns = range(1 if options.quick else 3)
        one = [_tokens_per_second(folder, f"one-{turn}", 1) for turn in turns]
        for what, key, asked in (
            ("2 processes against 1, a thread each", "parallel.data=2", True),
            ("the same, weights divided too (FSDP2)", "parallel.shard=true", False),
            ("the same, matrices divided (tensor)", "parallel.tensor=2", False),
            ("the same, layers divided (pipeline)", "parallel.pipeline=2", False),
        ):
            keys = [key, "parallel.data=2"] if "shard" in key else [key]
            two = [_tokens_per_second(folder, f"{key}-{turn}", 2, *keys) for turn in turns]
            ratio = max(two) / max(one)
            yield Row(
                what=what,
                figure=f"{ratio:.2f}×",
                peer=f"{max(one):,.0f} and {max(two):,.0f} tokens/s",
                at_least="1.7×" if asked else "",
                aim="1.9×" if asked else "",
                holds=ratio >= 1.7 if asked else None,
            )


def _tokens_per_second(folder: Path, out: str, processes: int, *overrides: str) -> float:
    """The median of the steps after the first, in which everything is still being made."""
    line = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc_per_node={processes}",
        "-m",
        "kun",
        "train",
    ]
    options = [part for key in (f"out={folder / out}", *overrides) for part in ("-o", key)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*line, str(folder / "recipe.toml"), *options], check=True, capture_output=True, env=environment
    )
    lines = (folder / out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return statistics.median(step["tokens_per_s"] for step in steps[1:])


if __name__ == "__main__":
    main(measure, __doc__)

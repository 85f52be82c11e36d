"""Alignment on two processes: the gradients of one, however a batch is cut, and the same rollouts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_talk import write

import kun

SPREAD = Path(__file__).with_name("spread_alignment.py")


def told(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_two_processes_have_the_gradients_and_the_rollouts_of_one(recipe, tmp_path):
    """Sixteen answers of 1 to 16 tokens, in micro-batches of 16, 4 and 1 answers (of one ranking or group)."""
    more = '[objective]\nmax_tokens = 6\nverifier = "text"\nanswers = 4\nepochs = 2\n'
    path = recipe("grpo", more=more, batch=16, steps=2, eval_every=2)
    letters = write(tmp_path / "letters.jsonl", [{"prompt": one, "completion": one} for one in "abcdefgh"])
    text = path.read_text(encoding="utf-8").replace("eval = 0.2\n", "eval = 0.4\n")
    lines = [f'train = "{letters}"' if line.startswith("train = ") else line for line in text.splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    alone = told(kun.train(path, {"out": str(tmp_path / "one")}).path)
    run = ["-m", "torch.distributed.run", "--nproc_per_node=2", SPREAD, path, tmp_path / "two"]
    line = [sys.executable, *map(str, run)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [one["task"] for one in results] == [
        task for task in ("reward", "dpo", "ppo", "grpo") for _ in range(3)
    ]
    for one in results:
        assert max(one["apart"]) < 1e-5, one
    both = told(tmp_path / "two")
    assert len(both) == len(alone) == 2
    for mine, theirs in zip(both, alone, strict=True):  # what is drawn hangs on the prompt alone
        for name in ("reward", "length", "kl", "loss", "grad_norm", "entropy"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
    # so is what held-out prompts are answered with; two steps of Adam let rounding grow
    assert both[-1]["eval_kl"] == pytest.approx(alone[-1]["eval_kl"], rel=1e-2)

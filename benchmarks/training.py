"""Training beside its peers: tokens/s, share of the machine's peak, memory, and what the loop itself costs."""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.table import Options, Row, main

MODEL = "smollm2-135m-instruct"
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
steps = 12
context = 256
batch_tokens = 2048
"""
TUNING = f"""
stage = "finetune"
[model]
from = "{MODEL}"
[train]
steps = 8
context = 512
batch_tokens = 2048
"""


def measure(options: Options) -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as folder:
        text = training_text(Path(folder) / "text.jsonl")
        yield from _tokens_per_second(Path(folder), text, turns=1 if options.quick else 3)
        yield _peak_share(Path(folder), text)
        yield from _fine_tuning(Path(folder), text)


def training_text(path: Path) -> Path:
    """Documents of some hundred words, so that rows hold several."""
    chance = random.Random(0)
    words = [
        "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5000)
    ]
    documents = [" ".join(chance.choices(words, k=chance.randint(20, 400))) for _ in range(3000)]
    path.write_text(
        "".join(json.dumps({"text": document}) + "\n" for document in documents), encoding="utf-8"
    )
    return path


def _tokens_per_second(folder: Path, text: Path, turns: int) -> Iterable[Row]:
    ours, compiled, eager = [], [], []
    for turn in range(turns):
        ours.append(best(run(folder / f"gpt-{turn}", _GPT, text, "train.compile=true")))
        compiled.append(peer("gpt", "--precision=bf16", "--compile")["tokens_per_s"])
        eager.append(peer("gpt", "--precision=fp32")["tokens_per_s"])
    mine = max(ours)
    for what, theirs, least, aim in (
        ("compiled under bfloat16 autocast", max(compiled), 1.0, 1.15),
        ("eager float32", max(eager), 2.5, 3.5),
    ):
        ratio = mine / theirs
        yield Row(
            what=f"training a GPT of 6 × 384 against torch, {what}",
            figure=f"{ratio:.2f}×",
            peer=f"{theirs:,.0f} tokens/s, ours {mine:,.0f}",
            at_least=f"{least}×",
            aim=f"{aim}×",
            holds=ratio >= least,
        )
    waste = facts(folder / "gpt-0")["waste"]
    yield Row(
        "packing waste, documents of 20 to 400 words", f"{waste:.2%}", "2 %", "1 %", holds=waste <= 0.02
    )
    overhead = facts(folder / "gpt-0")["overhead"]
    what = "time outside forward, backward and optimizer"
    yield Row(what, f"{overhead:.2%}", "3 %", "1 %", holds=overhead <= 0.03)


def _peak_share(folder: Path, text: Path) -> Row:
    sizes = (
        "model.n_layers=12",
        "model.n_heads=12",
        "model.d_model=768",
        "train.compile=true",
        "train.steps=6",
    )
    metrics = run(folder / "large", _GPT, text, *sizes)
    share = max(line["peak_share"] for line in metrics[2:])
    return Row(
        what="share of the bfloat16 matrix-product peak, 12 × 768",
        figure=f"{share:.0%}",
        peer="a product of 2048³ in the same process",
        at_least="45 %",
        aim="65 %",
        holds=share >= 0.45,
    )


def beside_the_trainer(what: str, mine: float, theirs: float) -> Row:
    """Tokens a second of ours and of the Hugging Face Trainer."""
    ratio = mine / theirs
    told = f"{theirs:,.0f} tokens/s, ours {mine:,.0f}"
    return Row(what, f"{ratio:.2f}×", "1.3×", "2×", told, holds=ratio >= 1.3)


def _fine_tuning(folder: Path, text: Path) -> Iterable[Row]:
    from kun.hub.pull import locate

    mine = best(run(folder / "tuned", TUNING, text))
    memory = facts(folder / "tuned")["bytes"]
    theirs = peer("trainer", f"--model={locate(MODEL)}")
    what = "full fine-tuning of SmolLM2 at 4 × 512 against the Hugging Face Trainer, bfloat16"
    yield beside_the_trainer(what, mine, theirs["tokens_per_s"])
    yield Row(
        what="peak memory of it",
        figure=f"{memory / 1e9:.1f} GB",
        peer=f"{theirs['bytes'] / 1e9:.1f} GB",
        at_least="6 GB",
        aim="4 GB",
        holds=memory <= 6e9,
    )


def run(out: Path, recipe: str, text: Path, *overrides: str) -> list[dict[str, Any]]:
    """The metrics of a training in a process of its own."""
    file = out.with_suffix(".toml")
    file.write_text(f'{recipe}\n[data]\ntrain = "{text}"\n', encoding="utf-8")
    code = "import sys; from kun.cli import main; sys.argv[0] = 'kun'; main()"
    options = [part for key in (f"out={out}", *overrides) for part in ("-o", key)]
    subprocess.run(
        [sys.executable, "-c", code, "train", str(file), *options], check=True, capture_output=True
    )
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def facts(out: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((out / "facts.json").read_text(encoding="utf-8"))
    return known


def best(metrics: list[dict[str, Any]]) -> float:
    return max(line["tokens_per_s"] for line in metrics[2:])


def peer(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.training_peer", *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    told: dict[str, float] = json.loads(said.splitlines()[-1])
    return told


if __name__ == "__main__":
    main(measure, __doc__)

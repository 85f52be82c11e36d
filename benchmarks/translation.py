"""English to Chinese from nothing on Tatoeba's pairs in twenty minutes: BLEU on the held-out ones, with four beams."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.table import Options, Row, main, skipped

MINUTES = 20.0
TOKENIZER: Mapping[str, Any] = {"kind": "bpe", "vocab_size": 4000, "chat": False}
RECIPE: Mapping[str, Any] = {
    # 27,000 pairs are few: a small network that sees them some forty times, with much dropout
    "model": {
        "family": "transformer",
        "n_layers": 3,
        "n_decoder_layers": 3,
        "d_model": 256,
        "d_ff": 1024,
        "d_decoder_ff": 1024,
        "n_heads": 4,
        "n_decoder_heads": 4,
        "dropout": 0.3,
        "attention_dropout": 0.1,
        "activation_dropout": 0.1,
    },
    "objective": {"label_smoothing": 0.1},
    "train": {"context": 128, "batch_tokens": 4096, "eval_every": 500},
    "optimizer": {
        "name": "muon",
        "lr": 1.5e-3,
        "muon_lr": 0.02,
        "schedule": "cosine",
        "warmup": 100,
        "weight_decay": 0.01,
    },
}


def measure(options: Options) -> Iterable[Row]:
    minutes = 2.0 if options.quick else MINUTES
    what = f"Tatoeba English to Chinese from nothing, {minutes:.0f} minutes: BLEU (zh), 4 beams"
    data = options.data / "tatoeba-en-zh" if options.data else None
    if data is None or not (data / "train.tsv").is_file():
        yield skipped(what, "no tatoeba-en-zh/train.tsv in the data folder")
        return
    with tempfile.TemporaryDirectory() as folder:
        measures, steps = _translated(data / "train.tsv", data / "dev.tsv", minutes, Path(folder))
    bleu = measures["bleu"].value
    note = f"chrF {measures['chrf'].value:.1f}, {steps:,} steps"
    if options.quick:
        yield Row(what, f"{bleu:.1f}", note=note)
    else:
        yield Row(what, f"{bleu:.1f}", "12", "18", holds=bleu >= 12, note=note)


def _translated(train: Path, held_out: Path, minutes: float, folder: Path) -> tuple[Mapping[str, Any], int]:
    """The measures of a model trained so long, and its steps."""
    from kun.api import evaluate
    from kun.training.recipe import parse_recipe
    from kun.training.train import train as run

    data = {"train": str(train), "format": "pairs"}
    tokenizer = {"stage": "tokenizer", "out": str(folder / "tokenizer"), "data": data, "tokenizer": TOKENIZER}
    made = run(parse_recipe(tokenizer), "tokenizer")
    recipe = {
        "stage": "translate",
        "out": str(folder / "run"),
        **RECIPE,
        "model": {**RECIPE["model"], "tokenizer": str(made.checkpoint)},
        "data": {**data, "eval": str(held_out)},
        "train": {**RECIPE["train"], "minutes": minutes},
    }
    done = run(parse_recipe(recipe), "translation")
    task = {
        "kind": "translation",
        "data": str(held_out),
        "columns": ["source", "target", "authors"],
        "tokenize": "zh",
        "beams": 4,
        "max_tokens": 60,
    }
    return evaluate(done.checkpoint, task).measures, len(done.metrics)


if __name__ == "__main__":
    main(measure, __doc__)

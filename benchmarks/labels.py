"""What pretraining is worth: accuracy with 50, 500 and 5,000 labels, from a pretrained encoder and from nothing."""

import random
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.table import Options, Row, main, skipped

TRAIN, HELD_OUT = Path("sst2", "train.tsv"), Path("sst2", "dev.tsv")
ENCODER = "all-minilm-l6-v2"
#: labels: how often they are gone through
EPOCHS = {50: 60, 500: 20, 5000: 4}
#: the same network without its weights, whose tokenizer it keeps
FRESH = {"family": "bert", "tokenizer": ENCODER, "n_layers": 6, "n_heads": 12, "d_model": 384, "d_ff": 1536}
PRETRAINED = {"from": ENCODER}
SEED = 0


def measure(options: Options) -> Iterable[Row]:
    train = options.data / TRAIN if options.data else None
    if train is None or not train.is_file():
        yield skipped("accuracy by labels", f"needs --data with {TRAIN}")
        return
    assert options.data is not None
    for labels in [50, 500] if options.quick else EPOCHS:
        with tempfile.TemporaryDirectory() as folder:
            rows = sample(train, Path(folder, "sample.tsv"), labels)
            before, after = (
                accuracy(model, rows, options.data / HELD_OUT, EPOCHS[labels], Path(folder, name))
                for name, model in (("fresh", FRESH), ("pretrained", PRETRAINED))
            )
        yield Row(
            f"accuracy with {labels:,} labels, pretrained",
            f"{after:.3f}",
            "above fresh",
            "",
            peer=f"from nothing {before:.3f}",
            holds=after > before,
            note=f"{ENCODER}, SST-2 dev",
        )


def sample(source: Path, target: Path, count: int) -> Path:
    """Some lines of a table, with its head."""
    head, *lines = source.read_text(encoding="utf-8").splitlines()
    chosen = random.Random(SEED).sample(lines, count)
    target.write_text("\n".join([head, *chosen]) + "\n", encoding="utf-8")
    return target


def accuracy(model: dict[str, Any], train: Path, held_out: Path, epochs: int, out: Path) -> float:
    from kun.training.recipe import parse_recipe
    from kun.training.train import train as run

    recipe: dict[str, Any] = {
        "stage": "classify",
        "out": str(out),
        "seed": SEED,
        "model": model,
        "data": {"train": str(train), "eval": str(held_out), "format": "labelled"},
        "train": {"epochs": epochs, "batch_tokens": 512, "context": 128, "eval_every": 10**6},
        "optimizer": {"lr": 1e-4, "schedule": "linear", "warmup": 10, "weight_decay": 0.01},
    }
    # evaluation comes with the last step, too
    return float(run(parse_recipe(recipe), out.name).metrics[-1]["eval_accuracy"])


if __name__ == "__main__":
    main(measure, __doc__)

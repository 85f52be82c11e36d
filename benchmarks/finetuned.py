"""Accuracy after fine-tuning an encoder, and the minutes that it took: SST-2 in English, ChnSentiCorp in Chinese.

The recipes are fixed, and the last weights are judged: nothing is chosen by what the held-out rows say. Both encoders
are pooled as they were trained to be, by the mean. Rates and batches were compared on training sentences that were kept
apart with all of their phrases.
"""

import csv
import random
import tempfile
from collections.abc import Iterable, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.table import Options, Row, main, skipped

SEED = 0
FROZEN = ["embeddings.words"]
"""E5's table of 250,000 words, whose update costs more than its network; MiniLM's 30,000 rows learn along."""
ENGLISH: Mapping[str, Any] = {
    "model": {"from": "all-minilm-l6-v2"},
    "train": {"epochs": 3, "batch_tokens": 1024, "context": 128},
    "optimizer": {
        "lr": 2e-4,
        "schedule": "linear",
        "warmup": 150,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
    },
}
CHINESE: Mapping[str, Any] = {
    "model": {"from": "multilingual-e5-small", "frozen": FROZEN},
    "train": {"epochs": 3, "batch_tokens": 2048, "context": 256},
    "optimizer": {
        "lr": 2e-4,
        "schedule": "linear",
        "warmup": 50,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
    },
}


def measure(options: Options) -> Iterable[Row]:
    english = options.data / "sst2" if options.data else None
    chinese = options.data / "chnsenticorp" / "train.csv" if options.data else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = "SST-2 dev accuracy from MiniLM"
        if english is None or not (english / "train.tsv").is_file():
            yield skipped(what, "no sst2/train.tsv in the data folder")
        else:
            data = {"train": str(english / "train.tsv"), "eval": str(english / "dev.tsv")}
            yield _row(what, ENGLISH, data, folder / "english", options.quick, least=0.90, aim=0.92)
        what = "ChnSentiCorp accuracy from E5, half of the rows held out"
        if chinese is None or not chinese.is_file():
            yield skipped(what, "no chnsenticorp/train.csv in the data folder")
        else:
            yield _row(
                what,
                CHINESE,
                _divided(chinese, folder),
                folder / "chinese",
                options.quick,
                least=0.91,
                aim=0.93,
            )


def _row(
    what: str,
    recipe: Mapping[str, Any],
    data: Mapping[str, str],
    out: Path,
    quick: bool,
    least: float,
    aim: float,
) -> Row:
    from kun.data.sources import Rows
    from kun.training.recipe import parse_recipe
    from kun.training.train import train

    given = {
        "stage": "classify",
        "out": str(out),
        "seed": SEED,
        **recipe,
        "data": {**data, "format": "labelled"},
        "train": {**recipe["train"], "eval_every": 10**6} | ({"epochs": 0.25} if quick else {}),
    }
    last = train(parse_recipe(given), out.name).metrics[-1]
    accuracy, minutes = last["eval_accuracy"], last["seconds"] / 60
    count = sum(1 for _ in Rows(data["eval"], "labelled"))
    error = sqrt(accuracy * (1 - accuracy) / count)
    note = f"standard error {error:.3f} of {count:,} rows; {minutes:.1f} minutes"
    note += ", a quarter of an epoch" if quick else ""
    return Row(what, f"{accuracy:.3f}", f"{least:.2f}", f"{aim:.2f}", holds=accuracy >= least, note=note)


def _divided(source: Path, folder: Path) -> dict[str, str]:
    """The rows of a table in two files of equal size, for training and held out."""
    with source.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    random.Random(SEED).shuffle(rows)
    half = len(rows) // 2
    parts = {"eval": rows[:half], "train": rows[half:]}
    for name, part in parts.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *part])
    return {name: str(folder / f"{name}.csv") for name in parts}


if __name__ == "__main__":
    main(measure, __doc__)

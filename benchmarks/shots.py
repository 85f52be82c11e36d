"""Classes that nobody trained: accuracy with 0 to 16 examples, next to a small model that is fine-tuned.

Reviews in English (SST-2 dev) and Chinese (ChnSentiCorp, some of the rows that `finetuned` holds out), 200 each;
examples come from other rows. An encoder, and decoders of two sizes. The picture is written to runs/shots.svg.
"""

import csv
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.labels import EPOCHS, FRESH, PRETRAINED, accuracy, sample
from benchmarks.table import Options, Row, main, skipped

REVIEWS, SEED = 200, 0
ASKED = 500
"""The Chinese rows that reviews are drawn from; examples come from the others."""
SHOTS = (0, 1, 2, 4, 8, 16)
ENCODER = "multilingual-e5-small"
DECODERS = ("qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct")
LEAST: Mapping[str, tuple[float, float]] = {
    ENCODER: (0.65, 0.75),
    DECODERS[0]: (0.75, 0.85),
    DECODERS[1]: (0.75, 0.85),
}
"""At least, and the aim, without examples."""
LONGEST = 200
"""Characters of an example: sixteen long reviews would fill a small model's context."""
PICTURE = Path("runs", "shots.svg")


@dataclass(frozen=True)
class Reviews:
    """Held-out reviews with their labels, those that examples come from, and the labels in the language."""

    language: str
    asked: list[tuple[str, str]]
    shown: list[tuple[str, str]]
    labels: tuple[str, str]


@dataclass(frozen=True)
class Found:
    """So many right of so many, with Wilson's interval of 95 %."""

    right: int
    total: int

    @property
    def share(self) -> float:
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        z, n, p = 1.96, self.total, self.share
        middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.3f} ({low:.2f} to {high:.2f})"


def measure(options: Options) -> Iterable[Row]:
    files = (Path("sst2", "train.tsv"), Path("sst2", "dev.tsv"), Path("chnsenticorp", "train.csv"))
    if options.data is None or not all((options.data / file).is_file() for file in files):
        yield skipped("accuracy by examples", f"needs --data with {', '.join(map(str, files))}")
        return
    reviews = [english(options.data), chinese(options.data)]
    count = 40 if options.quick else REVIEWS
    curves: dict[tuple[str, str], dict[int, Found]] = {}
    for model in (ENCODER, *(DECODERS[:1] if options.quick else DECODERS)):
        for shots in (0, 4) if options.quick else SHOTS:
            for own in reviews:
                found = classified(model, own, shots, count)
                curves.setdefault((own.language, model), {})[shots] = found
                yield _row(model, own.language, shots, found)
    tuned: dict[str, dict[int, float]] = {"fine-tuned": {}, "from nothing": {}}
    yield from () if options.quick else _tuned(options.data, reviews[0].asked[:count], tuned)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture(curves, tuned))
    yield Row("picture", str(PICTURE))


def classified(model: str, reviews: Reviews, shots: int, count: int) -> Found:
    """How many of the first `count` reviews `kun classify` gets right after so many examples."""
    import kun

    examples = reviews.shown[:shots]
    asked = reviews.asked[:count]
    judged: Any = kun.classify(
        [text for text, _ in asked], list(reviews.labels), model=_opened(model), examples=examples
    )
    return Found(sum(one.label == label for one, (_, label) in zip(judged, asked, strict=True)), len(asked))


_open: dict[str, Any] = {}


def _opened(model: str) -> Any:
    """The model, one at a time."""
    import kun

    if model not in _open:
        _open.clear()
        _open[model] = kun.load(model, quantize=None if model == ENCODER else "int4")
    return _open[model]


def _row(model: str, language: str, shots: int, found: Found) -> Row:
    least, aim = LEAST.get(model, (0.0, 0.0)) if shots == 0 else (0.0, 0.0)
    return Row(
        f"reviews in {language}, {shots} examples, {model}",
        str(found),
        f"{least}" if least else "",
        f"{aim}" if aim else "",
        holds=found.share >= least if least else None,
        note=f"{found.total} reviews",
    )


def _tuned(data: Path, asked: list[tuple[str, str]], tuned: dict[str, dict[int, float]]) -> Iterator[Row]:
    """A small encoder fine-tuned, pretrained and from nothing, on SST-2; the same reviews are asked about."""
    for labels, epochs in EPOCHS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows = sample(data / "sst2" / "train.tsv", folder / "sample.tsv", labels)
            held_out = folder / "asked.tsv"
            lines = [f"{int(label == 'positive')}\t{text}" for text, label in asked]
            held_out.write_text("\n".join(["label\tsentence", *lines]) + "\n", encoding="utf-8")
            for what, model in (("fine-tuned", PRETRAINED), ("from nothing", FRESH)):
                found = accuracy(model, rows, held_out, epochs, folder / what.replace(" ", "-"))
                tuned[what][labels] = found
                yield Row(
                    f"reviews in English, {labels:,} labels, a small model {what}",
                    f"{found:.3f}",
                    note=f"{len(asked)} reviews",
                )


def english(data: Path) -> Reviews:
    """SST-2: dev is asked about, training rows are shown."""
    parts = []
    for name in ("dev", "train"):
        lines = (data / "sst2" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        parts.append([(text.strip(), label) for label, _, text in (line.partition("\t") for line in lines)])
    return _reviews("English", parts[0], parts[1], ("negative", "positive"))


def chinese(data: Path) -> Reviews:
    """ChnSentiCorp: of the rows that the fine-tuning benchmark holds out some are asked about, the others are shown."""
    with (data / "chnsenticorp" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(text.strip(), label) for label, text in list(csv.reader(file))[1:]]
    random.Random(SEED).shuffle(rows)
    return _reviews("Chinese", rows[:ASKED], rows[ASKED:], ("负面", "正面"))


def _reviews(
    language: str, asked: list[tuple[str, str]], shown: list[tuple[str, str]], labels: tuple[str, str]
) -> Reviews:
    """Labels by their names; examples in turn of either class, so that few are balanced."""
    draw = random.Random(SEED)
    draw.shuffle(asked)
    draw.shuffle(shown)
    by_class = [
        [(text, labels[n]) for text, label in shown if label == str(n) and 20 < len(text) <= LONGEST]
        for n in (1, 0)
    ]
    turns = [one for both in zip(*by_class, strict=False) for one in both]
    return Reviews(language, [(text, labels[int(label)]) for text, label in asked], turns, labels)


def picture(
    curves: Mapping[tuple[str, str], Mapping[int, Found]], tuned: Mapping[str, Mapping[int, float]]
) -> bytes:
    """Accuracy by examples and, in a field of its own, by labels, as SVG."""
    from kun.inspection.picture import new_figure, saved

    figure = new_figure(width=12, height=4.5)
    fields = figure.subplots(1, 3, sharey=True)
    for field, language in zip(fields, ("English", "Chinese"), strict=False):
        for (own, model), found in curves.items():
            if own == language:
                shares = [one.share for one in found.values()]
                low, high = zip(*(one.interval for one in found.values()), strict=True)
                places = range(len(found))
                field.plot(places, shares, marker="o", label=model)
                field.fill_between(places, low, high, alpha=0.12)
                field.set_xticks(places, [str(shots) for shots in found])
        field.set_title(f"{language}: examples", fontsize=10)
    for what, colour in zip(tuned, ("C3", "C4"), strict=True):
        points = tuned[what]
        shown = [f"{labels:,}" for labels in points]
        fields[2].plot(shown, list(points.values()), marker="s", color=colour, label=what)
    fields[2].set_title("English: labels", fontsize=10)
    fields[0].set_ylabel("accuracy")
    fields[0].set_ylim(0.4, 1.0)
    fields[0].legend(fontsize=7, loc="lower right")
    fields[2].legend(fontsize=7, loc="lower right")
    return saved(figure, "svg")


if __name__ == "__main__":
    main(measure, __doc__)

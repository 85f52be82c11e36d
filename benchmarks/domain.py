"""What tuning on a domain gains there, and what it costs in general: perplexity before and after, full and LoRA.

The domain is the documentation of the standard library's modules, of which every fifth is held out; the general text is
Wikipedia where --data has it, else the prose among the examples. Then health, in both languages: the recipes as they
stand, measured on the texts that they hold out and on everyday ones.
"""

import json
import tempfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import kun
from benchmarks.table import Options, Row, main
from kun.data.installed import documents
from kun.evaluation.run import evaluate

MODEL = "smollm2-135m-instruct"
WIKIPEDIA = Path("instructions", "wiki_demo.txt")
EXAMPLES = Path(__file__).parents[1] / "examples"
PROSE = EXAMPLES / "tasks" / "prose.jsonl"
RECIPES = ("medicine", "medicine-lora", "medicine-zh", "medicine-zh-lora")
MOST = {"domain": -0.15, "general": 0.05}
"""How perplexity may change at most, by a recipe of health."""
BYTES, QUICK_BYTES = 100_000, 15_000
STEPS, QUICK_STEPS = 60, 12
QUICK_TEXTS = 4
#: a full tuning moves all weights a little, an adapter a few of them more
WAYS: dict[str, tuple[float, dict[str, Any]]] = {"full": (5e-5, {}), "LoRA, rank 16": (5e-4, {"rank": 16})}


def measure(options: Options) -> Iterable[Row]:
    size = QUICK_BYTES if options.quick else BYTES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learned, held_out = _domain(folder, modules=60 if options.quick else 200, size=size)
        texts = {"domain": held_out, "general": _general(folder, options.data, size)}
        with kun.load(MODEL) as lm:
            before = {kind: _perplexity(lm, text) for kind, text in texts.items()}
        for way, (rate, lora) in WAYS.items():
            out = folder / way.split(",", maxsplit=1)[0]
            minutes = _tuned(out, learned, rate, lora, QUICK_STEPS if options.quick else STEPS)
            with kun.load(out / "checkpoint") as lm:
                after = {kind: _perplexity(lm, text) for kind, text in texts.items()}
            change = {kind: after[kind] / before[kind] - 1 for kind in texts}
            yield Row(
                f"perplexity on a domain after tuning, {way}",
                f"{after['domain']:.2f}, {change['domain']:+.0%}",
                "below before",
                peer=f"before {before['domain']:.2f}",
                holds=after["domain"] < before["domain"],
                note=f"in general {before['general']:.2f}, then {after['general']:.2f} ({change['general']:+.1%}); "
                f"{minutes:.1f} minutes",
            )
    yield from _recipes(options.quick)


def _recipes(quick: bool) -> Iterable[Row]:
    """Each recipe of health: how much perplexity falls in the domain, and rises on everyday text."""
    from kun.training.recipe import read_recipe
    from kun.training.train import train

    for name in RECIPES:
        language = "zh" if "zh" in name else "en"
        tasks = {
            kind: EXAMPLES / "tasks" / f"{task}-{language}.toml"
            for kind, task in {"domain": "medicine", "general": "everyday"}.items()
        }
        with tempfile.TemporaryDirectory() as folder:
            overrides: dict[str, Any] = {"out": folder} | ({"train.steps": QUICK_STEPS} if quick else {})
            recipe = read_recipe(EXAMPLES / "recipes" / f"{name}.toml", overrides)
            values = []
            for model in (recipe.model.source, train(recipe, name).checkpoint):
                with kun.load(model) as lm:
                    values.append(
                        {
                            kind: evaluate(lm, task, limit=QUICK_TEXTS if quick else None)
                            .measures["perplexity"]
                            .value
                            for kind, task in tasks.items()
                        }
                    )
        before, after = values
        change = {kind: after[kind] / before[kind] - 1 for kind in tasks}
        yield Row(
            f"perplexity on health after {name}.toml",
            f"{change['domain']:+.1%}; in general {change['general']:+.1%}",
            f"{MOST['domain']:+.0%}; {MOST['general']:+.0%}",
            "-30%; +2%",
            holds=all(change[kind] <= most for kind, most in MOST.items()),
            note=f"{before['domain']:.2f}, then {after['domain']:.2f}; in general {before['general']:.2f}, then "
            f"{after['general']:.2f}; {f'{QUICK_STEPS} steps' if quick else 'the whole recipe'}",
        )


def _domain(folder: Path, modules: int, size: int) -> tuple[Path, Path]:
    """What is learned from, and `size` characters of other modules."""
    found = [text for _, text in islice(documents(), modules)]
    learned = [text for number, text in enumerate(found) if number % 5]
    return _written(folder / "learned.jsonl", learned), _written(
        folder / "held-out.jsonl", _cut(found[::5], size)
    )


def _general(folder: Path, data: Path | None, size: int) -> Path:
    path = None if data is None else data / WIKIPEDIA
    if path is None or not path.is_file():
        return PROSE
    return _written(folder / "general.jsonl", [path.read_bytes()[:size].decode("utf-8", errors="ignore")])


def _cut(texts: Iterable[str], size: int) -> Iterable[str]:
    for text in texts:
        if size > 0:
            yield text[:size]
        size -= len(text)


def _written(path: Path, texts: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def _tuned(out: Path, text: Path, rate: float, lora: dict[str, Any], steps: int) -> float:
    """Train, and the minutes that it took."""
    from kun.training.recipe import parse_recipe
    from kun.training.train import train

    recipe: dict[str, Any] = {
        "stage": "finetune",
        "out": str(out),
        "model": {"from": MODEL},
        "data": {"train": str(text), "format": "text"},
        "train": {"steps": steps, "batch_tokens": 2048, "context": 512},
        "optimizer": {"lr": rate, "warmup": 2, "weight_decay": 0.0},
    }
    run = train(parse_recipe(recipe | ({"lora": lora} if lora else {})), out.name)
    return float(run.metrics[-1]["seconds"]) / 60


def _perplexity(lm: Any, text: Path) -> float:
    task = {"kind": "perplexity", "data": str(text), "context": 512, "stride": 256}
    return evaluate(lm, task).measures["perplexity"].value


if __name__ == "__main__":
    main(measure, __doc__)

"""Adapters beside their peers: training one beside PEFT with the Hugging Face Trainer, and what serving one costs."""

import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kun
from benchmarks.speed import AT_ONCE, PROMPT, at_once, decode, repeats
from benchmarks.table import Options, Row, main
from benchmarks.training import MODEL, TUNING, beside_the_trainer, best, facts, peer, run, training_text

RANK = 16


def measure(options: Options) -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _training(folder)
        yield from _serving(folder / "lora" / "checkpoint", options)


def _training(folder: Path) -> Iterable[Row]:
    from kun.hub.pull import locate

    text = training_text(folder / "text.jsonl")
    metrics = run(folder / "lora", TUNING, text, f"lora.rank={RANK}")
    mine, memory = best(metrics), facts(folder / "lora")["bytes"]
    theirs = peer("trainer", f"--model={locate(MODEL)}", f"--rank={RANK}")
    what = (
        f"training an adapter of rank {RANK} at 4 × 512 against PEFT and the Hugging Face Trainer, bfloat16"
    )
    yield beside_the_trainer(what, mine, theirs["tokens_per_s"])
    yield Row(
        what="peak memory of it",
        figure=f"{memory / 1e9:.1f} GB",
        at_least="the peer's",
        peer=f"{theirs['bytes'] / 1e9:.1f} GB",
        holds=memory <= theirs["bytes"],
    )


def _serving(adapter: Path, options: Options) -> Iterable[Row]:
    with kun.load(MODEL, quantize="int4") as base:
        tuned = base.with_adapter(adapter)
        for lm in (base, tuned):
            lm.generate(PROMPT, max_tokens=4)
        for what, of in (("decode, batch 1", decode), (f"{AT_ONCE} requests at once", at_once)):
            pairs = [(of(tuned), of(base)) for _ in range(repeats(options))]
            yield _share(f"{what}, int4, an adapter of rank {RANK} against its base", pairs)


def _share(what: str, pairs: list[tuple[Any, Any]]) -> Row:
    mine, bare = (statistics.median(each) for each in zip(*pairs, strict=True))
    share = statistics.median(one / other for one, other in pairs)
    return Row(
        what, f"{mine:,.0f} tokens/s, {share:.2f}×", "0.8×", peer=f"{bare:,.0f} tokens/s", holds=share >= 0.8
    )


if __name__ == "__main__":
    main(measure, __doc__)

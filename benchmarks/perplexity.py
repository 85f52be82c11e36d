"""What weights of few bits cost: perplexity beside the float weights that they were made from, on the same text."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import kun
from benchmarks.table import Options, Row, main, skipped

MODELS = ("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct")
#: how much more perplexity is allowed, and what a careful quantization should reach
BOUNDS = {"int8": (0.003, 0.001), "int4": (0.03, 0.01)}
TEXT = Path("instructions", "wiki_demo.txt")
WINDOW, BYTES, QUICK_BYTES = 512, 200_000, 20_000


def measure(options: Options) -> Iterable[Row]:
    path = options.data / TEXT if options.data else None
    if path is None or not path.is_file():
        yield skipped("perplexity of int4 and int8", f"needs --data with {TEXT}")
        return
    raw = path.read_bytes()[: QUICK_BYTES if options.quick else BYTES]
    text = raw.decode("utf-8", errors="ignore")
    for name in MODELS:
        before = _perplexity(name, None, text)
        for kind, (bound, aim) in BOUNDS.items():
            after = _perplexity(name, kind, text)
            rise = after / before - 1
            yield Row(
                f"perplexity, {kind}: {name}",
                f"{after:.3f}, {rise:+.2%}",
                f"{bound:+.1%}",
                f"{aim:+.1%}",
                peer=f"float32 {before:.3f}",
                holds=rise <= bound,
                note=f"windows of {WINDOW}, {len(raw) // 1000} kB of {TEXT.name}",
            )


def _perplexity(name: str, kind: str | None, text: str) -> float:
    """Over all tokens but the first of each whole window."""
    with kun.load(name, quantize=kind) as lm:
        ids = torch.tensor(lm.tokenizer.encode(text, add_special_tokens=False).ids)
        windows = ids[: len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
        with torch.inference_mode():
            losses = [_loss(lm.net, window[None]) for window in windows]
    return math.exp(sum(losses) / len(losses))


def _loss(net: Any, window: torch.Tensor) -> float:
    logits = net(window).logits[0, :-1].float()
    return F.cross_entropy(logits, window[0, 1:]).item()


if __name__ == "__main__":
    main(measure, __doc__)

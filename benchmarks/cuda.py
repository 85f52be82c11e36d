"""Five minutes on a GPU: `make check-cuda`. Parity, decoding beside transformers, and a minute of training."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.table import Options, Row, main, skipped

PROMPT, NEW, REPEATS = 64, 128, 3
SHARE_OF_PEAK = 0.3
RECIPE = """
stage = "pretrain"
[model]
family = "gpt2"
n_layers = 12
n_heads = 12
d_model = 768
tokenizer = "bytes"
vocab_size = 32768
[data]
train = "{text}"
[train]
minutes = 1
batch_tokens = 65536
micro_batch_tokens = 32768
context = 1024
snapshot_every = 100000
"""


def measure(options: Options) -> Iterable[Row]:
    if not torch.cuda.is_available():
        yield skipped(
            "everything on a GPU", "there is no GPU that torch sees here, so that nothing was checked"
        )
        return
    yield _tests()
    yield from _decoding()
    yield _training(0.2 if options.quick else 1.0)


def _tests() -> Row:
    """The tests that are marked `cuda`: parity of each family, decoding, a training step."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "cuda",
        "--timeout",
        "240",
        "-p",
        "no:cacheprovider",
        "tests/cuda",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or ["no output"]
    return Row("tests marked cuda", lines[-1].strip("= "), at_least="all pass", holds=done.returncode == 0)


def _decoding() -> Iterable[Row]:
    """Tokens a second, one row, of a network of SmolLM2's size with weights drawn at random."""
    import transformers

    from kun.adaptation.quantize import quantize
    from kun.families import family_of
    from kun.models.language_model import LanguageModel
    from kun.networks.network import load_state
    from kun.text.learn import byte_tokenizer

    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True}  # fmt: skip
    config = transformers.LlamaConfig(**sizes, max_position_embeddings=2048)
    peer = transformers.AutoModelForCausalLM.from_config(config).eval()
    family = family_of(config.to_dict())
    for weights in ("bfloat16", "int4"):
        net: Any = family.network(family.config.from_hf(config.to_dict()))
        load_state(net, net.names.ours({name: tensor.clone() for name, tensor in peer.state_dict().items()}))
        net = (
            quantize(net.eval(), "int4").to("cuda")
            if weights == "int4"
            else net.eval().to("cuda", torch.bfloat16)
        )
        lm = LanguageModel(net, byte_tokenizer(), net.config)
        prompt = torch.randint(0, 250, (PROMPT,)).tolist()
        ours = NEW / _best(partial(lm.generate, prompt, max_tokens=NEW, temperature=0.0))
        on_gpu = peer.to("cuda", torch.bfloat16)
        ids = torch.tensor([prompt], device="cuda")
        given = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        theirs = NEW / _best(partial(on_gpu.generate, ids, attention_mask=torch.ones_like(ids), **given))
        yield Row(
            f"decoding on a GPU, 135M of {weights}",
            f"{ours:.0f} tokens/s",
            at_least="transformers",
            peer=f"transformers bfloat16 {theirs:.0f} tokens/s",
            holds=ours >= theirs,
        )


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs, after one that does not count."""
    seconds = []
    for _ in range(REPEATS + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _training(minutes: float) -> Row:
    import kun

    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("\n\n".join(page.read_text(encoding="utf-8") for page in Path("docs").rglob("*.md")))
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text(RECIPE.format(text=text.as_posix()))
        run = kun.train(recipe, {"train.minutes": minutes, "out": f"{folder}/run"})
        late = run.metrics[len(run.metrics) // 2 :]
    share = sorted(line["peak_share"] for line in late)[len(late) // 2]
    speed = sorted(line["tokens_per_s"] for line in late)[len(late) // 2]
    return Row(
        f"training GPT 12 × 768 for {60 * minutes:.0f} s on a GPU",
        f"{share:.0%} of peak, {speed:,.0f} tokens/s",
        at_least=f"{SHARE_OF_PEAK:.0%} of peak",
        holds=share >= SHARE_OF_PEAK,
    )


if __name__ == "__main__":
    main(measure, __doc__)

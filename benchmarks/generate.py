"""Tokens a second of greedy answers, one and several at once, next to `transformers.generate` on the same weights."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, models

from benchmarks.families import SIZES
from benchmarks.table import Options, Row, main
from kun.adaptation.quantize import quantize
from kun.families import FAMILIES, family_of
from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel
from kun.networks.network import load_state

Precision = Literal["float32", "int8"]

#: real sizes with random weights: T5 small, and SmolLM2's 135 million parameters
REFERENCES: dict[str, Any] = {
    "T5 small": transformers.T5Config(decoder_start_token_id=0),
    "LLaMA 135M": transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    ),
}  # fmt: skip
VOCAB, NEW = 32000, 48
SEVERAL = 8
AT_LEAST = {"float32": 1.3, "int8": 3.0}
#: the token that begins an answer is not the one that fills: NLLB's decoder would count no position for it
_SPECIAL = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 2}


def configs() -> dict[str, Any]:
    """Those of real models, and each family that writes at six layers of 512."""
    small = {
        name: transformers.AutoConfig.for_model(name, **{"vocab_size": VOCAB, **_SPECIAL, **SIZES[name]})
        for name in FAMILIES
        if name in SIZES and name != "xlnet"  # which the reference cannot continue from a prompt alone
    }
    writing = {name: each for name, each in small.items() if family_of(each.to_dict()).kind != "encoder"}
    return {**REFERENCES, **writing}


def measure(options: Options) -> Iterable[Row]:
    for name, config in configs().items():
        torch.manual_seed(0)
        auto = (
            transformers.AutoModelForSeq2SeqLM
            if config.is_encoder_decoder
            else transformers.AutoModelForCausalLM
        )
        theirs = auto.from_config(config).eval()
        precisions: tuple[Precision, ...] = ("int8", "float32") if name in REFERENCES else ("float32",)
        for precision in precisions:
            with _ours(theirs, precision) as lm:
                for rows in (SEVERAL, 1):
                    yield _row(name, precision, lm, theirs, rows, repeats=2 if options.quick else 5)


def _ours(theirs: Any, precision: Precision) -> LanguageModel:
    hf = theirs.config.to_dict() | {"architectures": [type(theirs).__name__]}
    family = family_of(hf)
    with torch.device("meta"):
        net = family.network(family.config.from_hf(hf)).eval()
    load_state(net, net.names.ours({name: t.clone() for name, t in theirs.state_dict().items()}))
    if precision == "int8":
        quantize(net, precision)
    words = {str(token): token for token in range(net.config.vocab_size)}
    return LanguageModel(net, Tokenizer(models.WordLevel(words, unk_token="0")), net.config, reuse=False)


def _row(name: str, precision: Precision, lm: LanguageModel, theirs: Any, rows: int, repeats: int) -> Row:
    """As many prompts of 64 tokens at once; the greedy tokens are compared as well, which 8 bits may change."""
    prompts = torch.randint(2, VOCAB, (rows, 64), generator=torch.Generator().manual_seed(rows))
    same = written(lm, prompts) == generated(theirs, prompts)
    seconds = [(_seconds(generated, theirs, prompts), _seconds(written, lm, prompts)) for _ in range(repeats)]
    ratio = statistics.median(a / b for a, b in seconds)
    peer, figure = (rows * NEW / min(times) for times in zip(*seconds, strict=True))
    asked = precision == "float32" or rows > 1
    return Row(
        what=f"{rows} requests at once, {precision}: {name}"
        if rows > 1
        else f"one request, {precision}: {name}",
        figure=f"{ratio:.1f}× transformers",
        peer=f"float32 {peer:.0f} tokens/s, ours {figure:.0f}",
        at_least=f"{AT_LEAST[precision]:g}×" if asked else "",
        aim="2×" if precision == "float32" else "",
        holds=ratio >= AT_LEAST[precision] and (same or precision == "int8") if asked else None,
        note="the same tokens" if same else "tokens differ, as rounding to 8 bits may make them",
    )


def _seconds(
    write: Callable[[Any, torch.Tensor], list[list[int]]], model: Any, prompts: torch.Tensor
) -> float:
    start = time.perf_counter()
    write(model, prompts)
    return time.perf_counter() - start


def written(lm: LanguageModel, prompts: torch.Tensor) -> list[list[int]]:
    """What ours writes."""
    options = SamplingOptions(max_tokens=NEW, temperature=0, ignore_eos=True)
    running = [lm.submit(prompt, options) for prompt in prompts.tolist()]
    return [one.result()[0].token_ids for one in running]


@torch.inference_mode()
def generated(theirs: Any, prompts: torch.Tensor) -> list[list[int]]:
    """What the reference writes."""
    out = theirs.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False,
        eos_token_id=None, forced_eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    start = 1 if theirs.config.is_encoder_decoder else prompts.shape[1]
    return out[:, start:].tolist()


if __name__ == "__main__":
    main(measure, __doc__)

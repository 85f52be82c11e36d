"""Forward and backward of every family at a small real size, beside transformers with the same weights."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeExperts

from benchmarks.table import Options, Row, main, skipped
from kun.families import FAMILIES, family_of
from kun.networks.network import load_state

VOCAB, ROWS, LENGTH = 8192, 4, 128
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_GATED = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}
_BERT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8}
_STACKS = {
    "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
    "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
    "max_position_embeddings": 512,
}  # fmt: skip

SIZES: dict[str, dict[str, Any]] = {
    "openai-gpt": {"n_embd": 512, "n_layer": 6, "n_head": 8},
    "gpt2": {"n_embd": 512, "n_layer": 6, "n_head": 8},
    "gpt_neo": {
        "hidden_size": 512, "num_layers": 6, "num_heads": 8, "window_size": 32,
        "attention_types": [[["global", "local"], 3]],
    },
    "llama": _GATED | {"num_key_value_heads": 4},
    "qwen2": _GATED | {"num_key_value_heads": 2},
    "qwen3": _GATED | {"num_key_value_heads": 2, "head_dim": 64},
    "ernie4_5": _GATED | {"num_key_value_heads": 2, "head_dim": 64},
    "bloom": {"hidden_size": 512, "n_layer": 6, "n_head": 8},
    "glm": _GATED | {"num_key_value_heads": 2, "head_dim": 64, "pad_token_id": 0},
    "bert": _BERT,
    "roberta": _BERT | {"max_position_embeddings": 514},
    "xlm-roberta": _BERT | {"max_position_embeddings": 514},
    "ernie": _BERT,
    "xlnet": {"d_model": 512, "n_layer": 6, "n_head": 8, "d_inner": 2048},
    "t5": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "marian": _STACKS | {"pad_token_id": 0, "decoder_start_token_id": 0},
    "switch_transformers": {
        "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_decoder_layers": 6, "num_heads": 8,
        "expert_capacity": 4096,
    },
    "nllb-moe": _STACKS | {"encoder_sparse_step": 2, "decoder_sparse_step": 2, "num_experts": 8},
}  # fmt: skip
"""The reference's config for each `model_type`: six layers of 512, the head of 64, where experts are 8 of them."""


def measure(options: Options) -> Iterable[Row]:
    NllbMoeExperts.forward = _each_to_its_own
    for model_type in FAMILIES:
        if model_type not in SIZES:
            yield skipped(
                f"forward and backward: {model_type}", "transformers has no such model to compare with"
            )
            continue
        for name, dtype in DTYPES.items():
            yield _row(model_type, name, dtype, repeats=3 if options.quick else 7)


def _row(model_type: str, name: str, dtype: torch.dtype, repeats: int) -> Row:
    theirs, ours = _pair(model_type, dtype)
    given = _inputs(theirs.config)
    runs = [_run(net, given) for net in (theirs, ours)]
    wanted, got = (run() for run in runs)
    gap = ((wanted - got).norm() / wanted.norm()).item()
    seconds = _alternating(runs, repeats)
    ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    theirs_ms, ours_ms = (1000 * min(times) for times in seconds)
    return Row(
        what=f"forward and backward, {name}: {model_type}",
        figure=f"{ratio:.2f}× transformers",
        peer=f"{theirs_ms:.0f} ms, ours {ours_ms:.0f} ms",
        at_least="1.0×",
        aim="1.3×",
        holds=ratio >= 1.0,
        note=f"outputs differ by {gap:.0e} of their length",
    )


def _pair(model_type: str, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """The reference's network and ours with its weights, both as they are without dropout."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, vocab_size=VOCAB, **SIZES[model_type])
    family = family_of(config.to_dict())
    auto = {
        "decoder": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
    }[family.kind]
    theirs = auto.from_config(config).to(dtype).eval()
    hf = config.to_dict() | {"architectures": [type(theirs).__name__]}
    with torch.device("meta"):
        ours = family.network(family.config.from_hf(hf))
    state = {key: tensor.detach().clone() for key, tensor in theirs.state_dict().items()}
    load_state(ours, ours.names.ours(state))
    return theirs, ours.eval()


def _inputs(config: Any) -> dict[str, torch.Tensor]:
    ids = torch.randint(2, VOCAB, (ROWS, LENGTH))
    both = {"decoder_input_ids": ids.flip(0)} if config.is_encoder_decoder else {}
    return {"input_ids": ids, **both}


def _run(net: nn.Module, given: dict[str, torch.Tensor]) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        net.zero_grad()
        output = net(**given)
        made = output.logits if hasattr(output, "logits") else output.last_hidden_state
        made.float().square().mean().backward()
        return made.detach().float()

    return run


def _alternating(runs: list[Callable[[], Any]], repeats: int) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            runs[which]()
            seconds[which].append(time.perf_counter() - start)
    return seconds


def _each_to_its_own(experts: Any, x: torch.Tensor, first: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """NLLB's experts as they are meant: transformers 5.23 runs the first two for every token and choice."""
    mixed = torch.zeros_like(x)
    for number in gates.any(dim=0).nonzero().flatten().tolist():
        mine = gates[:, number].nonzero().flatten()
        made = experts[f"expert_{number}"](x[mine]) * gates[mine, number, None]
        mixed.index_add_(0, mine, (made * (1 - experts.moe_token_dropout)).to(x.dtype))
    return mixed


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    main(measure, __doc__)

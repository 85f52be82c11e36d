"""The same weights, the same numbers: logits and greedy text beside the reference implementation."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers

import kun
from benchmarks.table import Options, Row, main, skipped

#: a real size each, with random weights, small enough to build in a second
REFERENCES: dict[str, Any] = {
    "LLaMA": transformers.LlamaConfig(
        vocab_size=4096, hidden_size=512, intermediate_size=1376, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4,
    ),
    "Qwen2": transformers.Qwen2Config(
        vocab_size=4096, hidden_size=512, intermediate_size=1376, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=2,
    ),
    "GPT-2": transformers.GPT2Config(vocab_size=4096, n_embd=512, n_layer=6, n_head=8),
    "BERT": transformers.BertConfig(
        vocab_size=4096, hidden_size=512, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=8
    ),
}  # fmt: skip
PROMPT = "The Transformer replaced recurrence because"


def measure(options: Options) -> Iterable[Row]:
    for name, config in REFERENCES.items():
        yield _difference(f"float32 against transformers, random weights: {name}", _random(config), 1e-4)
    gguf = options.data / "smollm2.gguf" if options.data else None
    if gguf is None or not gguf.is_file():
        yield skipped("SmolLM2 from GGUF", "needs --data with smollm2.gguf")
        return
    yield from _gguf(gguf)


def _random(config: Any) -> float:
    """The largest difference between the reference's output and ours, on a ragged batch of random ids."""
    from kun.families import family_of
    from kun.networks.network import load_state

    torch.manual_seed(0)
    auto = transformers.AutoModel if config.model_type == "bert" else transformers.AutoModelForCausalLM
    reference = auto.from_config(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        hf = transformers.AutoConfig.from_pretrained(folder).to_dict()
    family = family_of(hf)
    net = family.network(family.config.from_hf(hf)).eval()
    load_state(net, net.names.ours(reference.state_dict()))
    ids = torch.randint(0, 4096, (4, 96))
    mask = torch.ones_like(ids)
    mask[1, 60:] = 0
    with torch.inference_mode():
        theirs, ours = reference(ids, attention_mask=mask), net(ids, attention_mask=mask)
    name = "last_hidden_state" if config.model_type == "bert" else "logits"
    gap = (theirs[name] - getattr(ours, name)).abs()[mask.bool()]
    return gap.max().item()


def _gguf(path: Path) -> Iterable[Row]:
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    lm: Any = kun.load(str(path))
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.inference_mode():
        gap = (reference(ids).logits - lm.net(ids).logits).abs().max().item()
        expected = reference.generate(ids, max_new_tokens=64, do_sample=False)[0, ids.shape[1] :].tolist()
    yield _difference("SmolLM2 from GGUF against transformers' dequantization", gap, 1e-3)
    text = lm.generate(PROMPT, max_tokens=64, temperature=0)
    equal = text == tokenizer.decode(expected, skip_special_tokens=True)
    yield Row("64 greedy tokens of SmolLM2 from GGUF", "equal" if equal else "differ", "equal", holds=equal)


def _difference(what: str, gap: float, bound: float) -> Row:
    return Row(what, f"{gap:.1e}", at_least=f"{bound:.0e}", aim="0", holds=gap <= bound)


if __name__ == "__main__":
    main(measure, __doc__)

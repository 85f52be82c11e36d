"""Helpers for tiny models: a tokenizer, networks with random weights, and llama.cpp's names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from kun.families import family_of
from kun.hub.saving import save_checkpoint

GgufMaker = Callable[..., Path]
WheelMaker = Callable[[str, dict[str, bytes]], Path]

CORPUS = [
    "The quick brown fox jumps over the lazy dog; it's 2024, and nobody doesn't know.",
    "你好，世界！今天天气很好，我们去公园散步吧。",
    "def area(radius):\n    return 3.14 * radius ** 2\n",
    "Schöne Grüße 🙂 and a café",
] * 3
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def byte_level_tokenizer() -> Tokenizer:
    """A small byte-level BPE, trained on a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def network(hf_config: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    """A network with random weights."""
    torch.manual_seed(seed)
    family = family_of(hf_config)
    return family.network(family.config.from_hf(hf_config)).eval()


def add_tokenizer(writer: Any, tokenizer: Tokenizer, pre: str) -> None:
    import json

    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in SPECIAL else 1 for token, _ in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


_GGUF_NAMES = {
    "embed_tokens": "token_embd",
    "lm_head": "output",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


def gguf_name(hf_name: str) -> str:
    parts = hf_name.split(".")
    name = f"{_GGUF_NAMES[parts[-2]]}.{parts[-1]}"
    return f"blk.{parts[2]}.{name}" if "layers" in parts else name


def llama_cpp_order(name: str, tensor: torch.Tensor, architecture: str) -> torch.Tensor:
    """llama.cpp's converter lays queries and keys out for rotating neighbours."""
    if architecture != "llama" or not ("q_proj" in name or "k_proj" in name):
        return tensor
    heads = 4 if "q_proj" in name else 2
    return tensor.reshape(heads, 2, -1, tensor.shape[-1]).transpose(1, 2).reshape(tensor.shape).contiguous()


def save_writer(folder: Path, positions: int = 4096, seed: int = 0) -> Path:
    """A checkpoint of a tiny chat model with random weights; what it writes means nothing, the same each time."""
    tokenizer = byte_level_tokenizer()
    # an output head of its own: with the embedding's, a random model repeats its last token
    config = LLAMA | {"vocab_size": tokenizer.get_vocab_size(), "tie_word_embeddings": False}
    config |= {"max_position_embeddings": positions}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return save_checkpoint(
        folder,
        network(config, seed),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
        generation_config=ends,
        lineage={"licence": "Apache-2.0"},
    )


def save_encoder(folder: Path, seed: int = 0) -> Path:
    """A checkpoint of a tiny text encoder with random weights: like texts get like vectors all the same."""
    tokenizer = byte_level_tokenizer()
    config = {
        "model_type": "bert", "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 256,
    }  # fmt: skip
    return save_checkpoint(folder, network(config, seed), tokenizer=tokenizer, lineage={"licence": "MIT"})


def save_reward_model(folder: Path, positions: int = 128, seed: int = 0) -> Path:
    """A checkpoint of a tiny reward model with random weights, which pads with what ends its turns."""
    tokenizer = byte_level_tokenizer()
    config = LLAMA | {
        "architectures": ["LlamaForSequenceClassification"],
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": positions,
        "id2label": {"0": "LABEL_0"},
        "problem_type": "regression",
        "pad_token_id": 2,
    }
    net = network(config, seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(5.0)  # scores that differ
    return save_checkpoint(
        folder, net, tokenizer=tokenizer, chat_template=TEMPLATE, lineage={"licence": "MIT"}
    )

"""Tiny random models of the reference implementation, and ours with the same weights."""

from typing import Any

import torch
import transformers
from decoder_pairs import EAGER_ONLY, MORE_DECODERS
from torch import nn

from kun.families import family_of
from kun.networks.network import load_state

VOCAB, SIZE, POSITIONS = 97, 64, 64
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
}


def llama_config(scaling: str = "default", **changes: Any) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(**_gated(scaling, **changes))


def qwen_config(scaling: str = "default", **changes: Any) -> transformers.Qwen2Config:
    return transformers.Qwen2Config(**_gated(scaling, **changes))


def gpt_config(**changes: Any) -> transformers.GPT2Config:
    sizes = {"vocab_size": VOCAB, "n_embd": SIZE, "n_layer": 3, "n_head": 4, "n_positions": POSITIONS}
    return transformers.GPT2Config(**sizes, initializer_range=0.2, bos_token_id=0, eos_token_id=0, **changes)


def bert_config(**changes: Any) -> transformers.BertConfig:
    sizes = {"hidden_size": SIZE, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    return transformers.BertConfig(
        vocab_size=VOCAB, max_position_embeddings=POSITIONS, initializer_range=0.2, **sizes, **changes
    )


def _gated(scaling: str, **changes: Any) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": SIZE,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32 if scaling in ("dynamic", "linear") else POSITIONS,
        "initializer_range": 0.2,
        "rope_parameters": {"rope_theta": 10000.0, **SCALINGS[scaling]},
    }
    return sizes | changes


DECODERS: dict[str, Any] = MORE_DECODERS | {
    **{f"llama-{scaling}": (llama_config, {"scaling": scaling}) for scaling in SCALINGS},
    "llama-tied": (llama_config, {"tie_word_embeddings": True}),
    "llama-biased": (llama_config, {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": (llama_config, {"head_dim": 32}),
    "qwen2": (qwen_config, {}),
    "qwen2-tied": (qwen_config, {"tie_word_embeddings": True}),
    "qwen2-window": (
        qwen_config,
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    ),
    "gpt2": (gpt_config, {}),
    "gpt2-untied": (gpt_config, {"tie_word_embeddings": False, "n_inner": 80}),
    "gpt2-relu": (gpt_config, {"activation_function": "relu"}),
}


def reference(name: str) -> nn.Module:
    """The reference's tiny model called `name`, in evaluation mode, biases and norms random too."""
    torch.manual_seed(7)
    if name == "bert":
        net = transformers.AutoModel.from_config(bert_config(), attn_implementation="sdpa")
    else:
        make, changes = DECODERS[name]
        config = make(**changes)
        way = "eager" if config.model_type in EAGER_ONLY else "sdpa"
        net = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=way)
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=1.0, std=0.2)
    return net.eval()


def ours(theirs: nn.Module) -> nn.Module:
    """Our network with copies of the weights of the reference's."""
    hf_config = theirs.config.to_dict()
    family = family_of(hf_config)
    with torch.device("meta"):
        net = family.network(family.config.from_hf(hf_config))
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    load_state(net, net.names.ours(state))
    return net.eval()


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(length))

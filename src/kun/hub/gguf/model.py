"""A GGUF file as a Hugging Face configuration and state dict: LLaMA and its relatives, GPT-2, BLOOM and BERT.

The names on the left are llama.cpp's (`gguf-py/gguf/constants.py`), those on the right are transformers'.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kun.errors import DamagedFile, UnsupportedFormat
from kun.hub.gguf.file import GgufFile
from kun.hub.lazy import LazyTensor

_LLAMA = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "model.layers.{}.input_layernorm",
    "attn_q": "model.layers.{}.self_attn.q_proj",
    "attn_k": "model.layers.{}.self_attn.k_proj",
    "attn_v": "model.layers.{}.self_attn.v_proj",
    "attn_output": "model.layers.{}.self_attn.o_proj",
    "ffn_norm": "model.layers.{}.post_attention_layernorm",
    "ffn_gate": "model.layers.{}.mlp.gate_proj",
    "ffn_up": "model.layers.{}.mlp.up_proj",
    "ffn_down": "model.layers.{}.mlp.down_proj",
}
_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "transformer.h.{}.ln_1",
    "attn_qkv": "transformer.h.{}.attn.c_attn",
    "attn_output": "transformer.h.{}.attn.c_proj",
    "ffn_norm": "transformer.h.{}.ln_2",
    "ffn_up": "transformer.h.{}.mlp.c_fc",
    "ffn_down": "transformer.h.{}.mlp.c_proj",
}
_BLOOM = {
    "token_embd": "transformer.word_embeddings",
    "token_embd_norm": "transformer.word_embeddings_layernorm",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "transformer.h.{}.input_layernorm",
    "attn_qkv": "transformer.h.{}.self_attention.query_key_value",
    "attn_output": "transformer.h.{}.self_attention.dense",
    "ffn_norm": "transformer.h.{}.post_attention_layernorm",
    "ffn_up": "transformer.h.{}.mlp.dense_h_to_4h",
    "ffn_down": "transformer.h.{}.mlp.dense_4h_to_h",
}
_BERT = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "attn_q": "encoder.layer.{}.attention.self.query",
    "attn_k": "encoder.layer.{}.attention.self.key",
    "attn_v": "encoder.layer.{}.attention.self.value",
    "attn_output": "encoder.layer.{}.attention.output.dense",
    "attn_output_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "ffn_up": "encoder.layer.{}.intermediate.dense",
    "ffn_down": "encoder.layer.{}.output.dense",
    "layer_output_norm": "encoder.layer.{}.output.LayerNorm",
}
_QWEN3 = _LLAMA | {
    "attn_q_norm": "model.layers.{}.self_attn.q_norm",
    "attn_k_norm": "model.layers.{}.self_attn.k_norm",
}
_NAMES = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _QWEN3,
    "ernie4_5": _LLAMA,
    "gpt2": _GPT2,
    "bloom": _BLOOM,
    "bert": _BERT,
}
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "ernie4_5": "Ernie4_5ForCausalLM",
}
_ROPE_FACTORS = "rope_freqs.weight"
_POOLINGS = {0: "mean", 1: "mean", 2: "cls"}
"""Of `pooling_type`; 0 leaves it open."""


def architecture_of(file: GgufFile) -> str:
    """The architecture, one that Kun reads. Raises `UnsupportedFormat`."""
    if file.architecture not in _NAMES:
        raise UnsupportedFormat(
            f"{file.path} holds the architecture {file.architecture or 'unknown'!r}; from GGUF Kun reads "
            f"{', '.join(_NAMES)}."
        )
    return file.architecture


def hf_config(file: GgufFile) -> dict[str, Any]:
    """What transformers would write as config.json. Raises `UnsupportedFormat`, `DamagedFile`."""
    architecture = architecture_of(file)
    others = {"gpt2": _gpt2_config, "bloom": _bloom_config, "bert": _bert_config}
    build = others.get(architecture, _llama_config)
    config = {
        "torch_dtype": "float32",
        "tie_word_embeddings": "output.weight" not in file.tensors,
        **build(file),
    }
    for name in ("bos", "eos"):
        config[f"{name}_token_id"] = file.field(f"tokenizer.ggml.{name}_token_id")
    config["pad_token_id"] = file.field("tokenizer.ggml.padding_token_id")
    return config


def generation_config(file: GgufFile, ends: list[int]) -> dict[str, Any]:
    """generation_config.json of a GGUF file: which tokens begin, end and pad; `ends` are those that end a turn."""
    named = {
        "bos_token_id": file.field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": ends if len(ends) > 1 else (ends[0] if ends else None),
        "pad_token_id": file.field("tokenizer.ggml.padding_token_id"),
    }
    return {name: value for name, value in named.items() if value is not None}


def pooling(file: GgufFile) -> str:
    """How an encoder's states become one vector: "mean" or "cls". Raises `UnsupportedFormat` for another way."""
    said = file.setting("pooling_type", 0)
    if said not in _POOLINGS:
        raise UnsupportedFormat(
            f"{file.path} pools by llama.cpp's type {said}: Kun pools by mean (1) and cls (2)."
        )
    return _POOLINGS[said]


def _vocabulary(file: GgufFile) -> int:
    if "token_embd.weight" not in file.tensors:
        raise DamagedFile(f"{file.path} has no tensor token_embd.weight: the file is incomplete.")
    return file.tensors["token_embd.weight"].shape[0]


def _llama_config(file: GgufFile) -> dict[str, Any]:
    model_type = file.architecture
    heads = file.need("attention.head_count")
    d_model = file.need("embedding_length")
    if not isinstance(heads, int) or heads < 1:
        raise UnsupportedFormat(
            f"{file.path} has {heads} heads; a number of heads for each layer is not read."
        )
    d_head = file.setting("attention.key_length", d_model // heads)
    theta = round_float(file.setting("rope.freq_base", 10000.0))
    config = {
        "architectures": [_CLASSES[model_type]],
        "model_type": model_type,
        "vocab_size": _vocabulary(file),
        "hidden_size": d_model,
        "intermediate_size": file.need("feed_forward_length"),
        "num_hidden_layers": file.need("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.setting("attention.head_count_kv", heads),
        "head_dim": d_head,
        "hidden_act": "silu",
        "max_position_embeddings": file.setting("context_length", 2048),
        "rms_norm_eps": round_float(file.need("attention.layer_norm_rms_epsilon")),
        "rope_theta": theta,
        "rope_scaling": _rope_scaling(file, d_head, theta),
    }
    if model_type in ("qwen2", "qwen3"):
        config |= {"use_sliding_window": False, "sliding_window": None}
    if model_type in ("llama", "qwen3"):
        config |= {"attention_bias": "blk.0.attn_q.bias" in file.tensors}
    if model_type == "llama":
        config |= {"mlp_bias": "blk.0.ffn_up.bias" in file.tensors}
    if model_type == "ernie4_5":
        config |= {"use_bias": "blk.0.attn_q.bias" in file.tensors}
    return config


def _rope_scaling(file: GgufFile, d_head: int, theta: float) -> dict[str, Any] | None:
    if _ROPE_FACTORS in file.tensors:
        return _llama3_scaling(file, d_head, theta)
    kind = file.setting("rope.scaling.type", "none")
    factor = file.setting("rope.scaling.factor", 1.0)
    original = file.setting("rope.scaling.original_context_length", file.setting("context_length"))
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": round_float(factor)}
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": round_float(factor),
            "original_max_position_embeddings": original,
        }
    raise UnsupportedFormat(
        f"{file.path} scales its rotary positions by {kind!r}; linear, yarn and llama3 are read."
    )


def _llama3_scaling(file: GgufFile, d_head: int, theta: float) -> dict[str, Any]:
    """Llama 3's scaling back from the factors that llama.cpp made of it (one for each frequency)."""
    factors = file.read(_ROPE_FACTORS).reshape(-1)
    factor = round_float(float(factors.max()))
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    wavelength = 2 * np.pi * theta ** (np.arange(0, d_head, 2) / d_head)
    smooth = np.clip((8192 / wavelength - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise UnsupportedFormat(f"{file.path} scales its rotary positions by factors that are not Llama 3's.")
    return scaling


def _gpt2_config(file: GgufFile) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": _vocabulary(file),
        "n_positions": file.need("context_length"),
        "n_embd": file.need("embedding_length"),
        "n_layer": file.need("block_count"),
        "n_head": file.need("attention.head_count"),
        "n_inner": file.need("feed_forward_length"),
        "layer_norm_epsilon": round_float(file.need("attention.layer_norm_epsilon")),
        "activation_function": "gelu_new",
    }


def _bloom_config(file: GgufFile) -> dict[str, Any]:
    return {
        "architectures": ["BloomForCausalLM"],
        "model_type": "bloom",
        "vocab_size": _vocabulary(file),
        "hidden_size": file.need("embedding_length"),
        "n_layer": file.need("block_count"),
        "n_head": file.need("attention.head_count"),
        "seq_length": file.need("context_length"),
        "layer_norm_epsilon": round_float(file.need("attention.layer_norm_epsilon")),
    }


def _bert_config(file: GgufFile) -> dict[str, Any]:
    types = file.tensors.get("token_types.weight")
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": _vocabulary(file),
        "hidden_size": file.need("embedding_length"),
        "num_hidden_layers": file.need("block_count"),
        "num_attention_heads": file.need("attention.head_count"),
        "intermediate_size": file.need("feed_forward_length"),
        "max_position_embeddings": file.need("context_length"),
        "type_vocab_size": types.shape[0] if types else 2,
        "layer_norm_eps": round_float(file.need("attention.layer_norm_epsilon")),
        "hidden_act": "gelu",
        "tie_word_embeddings": True,
    }


def round_float(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05, where the file's float32 reads 9.99999974e-06."""
    return float(str(np.float32(value)))


def hf_tensors(file: GgufFile) -> dict[str, LazyTensor]:
    """The state dict of the Hugging Face layout, each tensor float32 and read when asked for.

    Raises `DamagedFile` for a tensor of an unknown name.
    """
    names = _NAMES[architecture_of(file)]
    config = hf_config(file)
    return {
        _hf_name(file, name, names): _tensor(file, name, config)
        for name in file.tensors
        if name != _ROPE_FACTORS
    }


def _hf_name(file: GgufFile, name: str, names: dict[str, str]) -> str:
    stem, _, suffix = name.rpartition(".")
    layer = ""
    if stem.startswith("blk."):
        _, layer, stem = stem.split(".", 2)
    if stem not in names or suffix not in ("weight", "bias"):
        raise DamagedFile(
            f"{file.path} holds the tensor {name}, which a {file.architecture} model does not have."
        )
    return f"{names[stem].format(layer)}.{suffix}"


def _tensor(file: GgufFile, name: str, config: dict[str, Any]) -> LazyTensor:
    shape = file.tensors[name].shape
    stem = name.split(".")[-2]
    if file.architecture == "llama" and stem in ("attn_q", "attn_k"):
        heads = config["num_attention_heads" if stem == "attn_q" else "num_key_value_heads"]
        return LazyTensor(shape, _unpermuted(file, name, heads))
    if file.architecture == "gpt2" and len(shape) == 2 and name.startswith("blk."):
        # Hugging Face's GPT-2 keeps its matrices as [in, out]
        return LazyTensor(shape[::-1], lambda: np.ascontiguousarray(file.read(name).T))
    if file.architecture == "bloom" and stem == "attn_qkv":
        return LazyTensor(shape, _by_heads(file, name, config["n_head"]))
    return LazyTensor(shape, lambda: file.read(name))


def _by_heads(file: GgufFile, name: str, heads: int) -> Callable[[], np.ndarray]:
    """Queries, keys and values one below the other; Hugging Face's BLOOM has each head's three together."""
    shape = file.tensors[name].shape
    if heads < 1 or shape[0] % (3 * heads):
        raise DamagedFile(f"{file.path} gives {name} {shape[0]} rows, which {heads} heads cannot share.")
    order = np.arange(shape[0]).reshape(3, heads, -1).swapaxes(0, 1).reshape(-1)
    if len(shape) == 1:
        return lambda: file.read(name)[order]
    return lambda: file.read(name, order)


def _unpermuted(file: GgufFile, name: str, heads: int) -> Callable[[], np.ndarray]:
    """llama.cpp rotates neighbouring pairs, Hugging Face rotates halves: undo the reordering of its converter."""
    shape = file.tensors[name].shape
    if heads < 1 or shape[0] % (2 * heads):
        raise DamagedFile(f"{file.path} gives {name} {shape[0]} rows, which {heads} heads cannot share.")
    order = np.arange(shape[0]).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
    if len(shape) == 1:
        return lambda: file.read(name)[order]
    return lambda: file.read(name, order)

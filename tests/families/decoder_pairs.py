"""Tiny configs of the reference's decoders beside LLaMA, Qwen2 and GPT-2."""

from typing import Any

import transformers

VOCAB, SIZE, POSITIONS = 97, 64, 64
EAGER_ONLY = ("openai-gpt", "gpt_neo", "bloom")
"""Models of the reference that have no other attention than the one written out."""


def gpt1_config(**changes: Any) -> transformers.OpenAIGPTConfig:
    sizes = {"vocab_size": VOCAB, "n_embd": SIZE, "n_layer": 3, "n_head": 4, "n_positions": POSITIONS}
    return transformers.OpenAIGPTConfig(**sizes | changes, initializer_range=0.2)


def gpt_neo_config(**changes: Any) -> transformers.GPTNeoConfig:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": SIZE,
        "num_layers": 4,
        "num_heads": 4,
        "max_position_embeddings": POSITIONS,
        "attention_types": [[["global", "local"], 2]],
        "window_size": 7,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return transformers.GPTNeoConfig(**sizes | changes)


def gated(**changes: Any) -> dict[str, Any]:
    """Sizes that LLaMA's relatives name alike."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": SIZE,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
    }
    return sizes | changes


def qwen3_config(**changes: Any) -> transformers.Qwen3Config:
    return transformers.Qwen3Config(**gated(**changes))


def ernie_config(**changes: Any) -> transformers.Ernie4_5Config:
    return transformers.Ernie4_5Config(**gated(**changes))


def mistral_config(**changes: Any) -> transformers.MistralConfig:
    return transformers.MistralConfig(**gated(**changes))


def bloom_config(**changes: Any) -> transformers.BloomConfig:
    sizes = {"vocab_size": VOCAB, "hidden_size": SIZE, "n_layer": 3, "n_head": 4, "initializer_range": 0.2}
    return transformers.BloomConfig(**sizes | changes, bos_token_id=0, eos_token_id=0)


def glm_config(**changes: Any) -> transformers.GlmConfig:
    sizes = gated(pad_token_id=None, eos_token_id=0, bos_token_id=0)
    return transformers.GlmConfig(**sizes | changes)


MORE_DECODERS: dict[str, Any] = {
    "glm": (glm_config, {}),
    "glm-unbiased-tied": (
        glm_config,
        {"attention_bias": False, "tie_word_embeddings": True, "head_dim": 24, "num_key_value_heads": 1},
    ),
    "glm-turned-whole": (glm_config, {"rope_parameters": {"rope_theta": 5e4, "partial_rotary_factor": 1.0}}),
    "bloom": (bloom_config, {}),
    "bloom-odd-heads": (bloom_config, {"hidden_size": 72, "n_head": 6, "tie_word_embeddings": False}),
    "qwen3": (qwen3_config, {}),
    "qwen3-biased-tied": (qwen3_config, {"attention_bias": True, "tie_word_embeddings": True}),
    "qwen3-window": (
        qwen3_config,
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1, "head_dim": 24},
    ),
    "ernie4.5": (ernie_config, {}),
    "ernie4.5-biased-untied": (
        ernie_config,
        {"use_bias": True, "tie_word_embeddings": False, "head_dim": 32},
    ),
    "mistral": (mistral_config, {"sliding_window": None}),
    "mistral-window": (mistral_config, {"sliding_window": 7, "tie_word_embeddings": True, "head_dim": 24}),
    "gpt1": (gpt1_config, {}),
    "gpt1-relu": (gpt1_config, {"afn": "relu"}),
    "gpt3": (gpt_neo_config, {}),
    "gpt3-odd-heads": (gpt_neo_config, {"num_heads": 8, "intermediate_size": 80}),
    "gpt3-dense": (gpt_neo_config, {"attention_types": [[["global"], 4]]}),
}


def gradient_factor(config: Any, name: str) -> float:
    """What the map of weights misses of the gradient called `name` in the reference.

    A weight that the file holds divided by c has there a gradient c times ours, not c times smaller.
    """
    return config.d_head if config.model_type == "gpt_neo" and "q_proj" in name else 1.0

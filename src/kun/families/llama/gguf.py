"""GGUF files of LLaMA and its relatives."""

from kun.networks.gguf_layout import GgufLayout, Order, Present, RopeScaling, Size, Source

_SIZES: dict[str, Source] = {
    "hidden_size": Size("embedding_length"),
    "intermediate_size": Size("feed_forward_length"),
    "num_hidden_layers": Size("block_count"),
    "num_attention_heads": Size("attention.head_count"),
    "num_key_value_heads": Size("attention.head_count_kv", "attention.head_count"),
    "head_dim": Size("attention.key_length", ("embedding_length", "attention.head_count")),
    "hidden_act": "silu",
    "max_position_embeddings": Size("context_length", 2048),
    "rms_norm_eps": Size("attention.layer_norm_rms_epsilon", real=True),
    "rope_theta": Size("rope.freq_base", 10000.0, real=True),
    "rope_scaling": RopeScaling(),
}
_WRITTEN = ("attention.value_length", "rope.dimension_count")
_FIELDS = {"context_length": "max_positions"}  # without what scaling adds
_PAIRS: dict[str, Order] = {"attn_q": "pairs", "attn_k": "pairs"}
_NO_WINDOW = {"use_sliding_window": False, "sliding_window": None}
_BIAS = Present("blk.0.attn_q.bias")
_LLAMA = GgufLayout(
    "llama",
    "LlamaForCausalLM",
    {**_SIZES, "attention_bias": _BIAS, "mlp_bias": Present("blk.0.ffn_up.bias")},
    _WRITTEN,
    _FIELDS,
    orders=_PAIRS,
)

LAYOUTS = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": GgufLayout("qwen2", "Qwen2ForCausalLM", {**_SIZES, **_NO_WINDOW}, _WRITTEN, _FIELDS),
    "qwen3": GgufLayout(
        "qwen3", "Qwen3ForCausalLM", {**_SIZES, **_NO_WINDOW, "attention_bias": _BIAS}, _WRITTEN, _FIELDS
    ),
    "ernie4_5": GgufLayout(
        "ernie4_5", "Ernie4_5ForCausalLM", {**_SIZES, "use_bias": _BIAS}, _WRITTEN, _FIELDS
    ),
}
"""Of each model type; a Mistral without a window is a LLaMA, and is read back as one."""

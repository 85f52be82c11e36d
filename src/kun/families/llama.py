"""LLaMA: Touvron et al., arXiv:2302.13971; LLaMA 2: arXiv:2307.09288; Qwen2 as its config.

What differs from GPT-2: the norm is RMS and has no bias, positions turn queries and keys (RoPE) in place
of a learned table, the feed-forward is gated (SwiGLU, Shazeer, arXiv:2002.05202), and from LLaMA 2 on
several queries may share a key and value (arXiv:2305.13245).
Qwen2 (arXiv:2407.10671) adds biases on query, key and value, and lets some layers see only a window.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.cache import CacheStep
from kun.blocks.norm import RMSNorm
from kun.blocks.positions import Rotary, RotaryConfig, rotate
from kun.families import Family
from kun.families.decoder import Context, embed
from kun.families.fields import Fields
from kun.families.network import DecoderOutput, Names, State, initialize
from kun.families.rope import rotary_from_hf, rotary_to_hf
from kun.families.state import DecodingState


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes and switches of one network; the layers in `windows` see the last `window` tokens only."""

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    max_positions: int = 2048
    norm_eps: float = 1e-6
    rotary: RotaryConfig = field(default_factory=RotaryConfig)
    tied: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    window: int | None = None
    windows: tuple[int, ...] = ()
    model_type: Literal["llama", "qwen2"] = "llama"

    @property
    def architecture(self) -> str:
        return "Qwen2ForCausalLM" if self.model_type == "qwen2" else "LlamaForCausalLM"

    @property
    def context_length(self) -> int:
        """Tokens that a cached sequence may have, scaling included.

        Dynamic scaling re-turns all earlier keys beyond the original context, which a cache cannot follow.
        """
        if self.rotary.scaling == "linear":
            return int(self.max_positions * self.rotary.factor)
        if self.rotary.scaling == "yarn":
            return max(self.max_positions, int(self.rotary.original * self.rotary.factor))
        return self.max_positions

    @property
    def longest(self) -> int:
        """Tokens that an uncached call may have."""
        if self.rotary.scaling == "dynamic":
            return int(self.max_positions * self.rotary.factor)
        return self.context_length

    def window_of(self, layer: int) -> int | None:
        return self.window if layer in self.windows else None

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "LlamaConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        model_type = f.only("model_type", "llama", "llama", "qwen2")
        f.only("hidden_act", "silu", "silu", "swish")
        d_model, n_heads = f.integer("hidden_size"), f.integer("num_attention_heads", high=2**14)
        n_kv_heads = f.integer("num_key_value_heads", n_heads, high=n_heads)
        n_layers = f.integer("num_hidden_layers", high=2**12)
        if d_model % n_heads:
            raise f.wrong("hidden_size", f"a multiple of num_attention_heads, {n_heads}")
        if n_heads % n_kv_heads:
            raise f.wrong("num_key_value_heads", f"a divisor of num_attention_heads, {n_heads}")
        d_head = f.integer("head_dim", d_model // n_heads, high=2**16)
        if d_head % 2 or d_head < 4:
            raise f.wrong(
                "head_dim" if "head_dim" in f else "hidden_size", "such that a head is even and ≥ 4 wide"
            )
        qwen = model_type == "qwen2"
        bias = qwen or f.flag("attention_bias", False)
        max_positions = f.integer("max_position_embeddings", 32768 if qwen else 2048)
        window, windows = _windows(f, n_layers) if qwen else (None, ())
        return cls(
            vocab_size=f.integer("vocab_size"),
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=d_head,
            d_ff=f.integer("intermediate_size"),
            max_positions=max_positions,
            norm_eps=f.number("rms_norm_eps", 1e-6, high=1.0),
            rotary=rotary_from_hf(f, max_positions),
            tied=f.flag("tie_word_embeddings", False),
            attention_bias=bias,
            output_bias=bias and not qwen,
            mlp_bias=not qwen and f.flag("mlp_bias", False),
            window=window,
            windows=windows,
            model_type=model_type,
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        qwen = self.model_type == "qwen2"
        hf: dict[str, Any] = {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.d_head,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied,
            **rotary_to_hf(self.rotary),
        }
        if not qwen:
            return hf | {"attention_bias": self.attention_bias, "mlp_bias": self.mlp_bias}
        kinds = ["sliding_attention" if i in self.windows else "full_attention" for i in range(self.n_layers)]
        first = min(self.windows, default=self.n_layers)
        sliding = {"use_sliding_window": bool(self.windows), "sliding_window": self.window}
        return hf | sliding | {"max_window_layers": first, "layer_types": kinds}


def _windows(f: Fields, n_layers: int) -> tuple[int | None, tuple[int, ...]]:
    """Qwen2's window and the layers with it: named by `layer_types`, else from `max_window_layers` on."""
    if not f.flag("use_sliding_window", False) or "sliding_window" not in f:
        return None, ()
    window = f.integer("sliding_window")
    kinds = f.values.get("layer_types")
    if kinds is None:
        first = f.integer("max_window_layers", 28, low=0)
        return window, tuple(range(first, n_layers))
    if (
        not isinstance(kinds, list)
        or len(kinds) != n_layers
        or set(kinds) - {"sliding_attention", "full_attention"}
    ):
        raise f.wrong("layer_types", f"{n_layers} times full_attention or sliding_attention")
    return window, tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")


class Attention(nn.Module):
    """Causal self-attention: n_heads queries share n_kv_heads keys and values, turned by their positions."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head, self.window = layer, config.d_head, config.window_of(layer)
        wide, narrow = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q = nn.Linear(config.d_model, wide, bias=config.attention_bias)
        self.k = nn.Linear(config.d_model, narrow, bias=config.attention_bias)
        self.v = nn.Linear(config.d_model, narrow, bias=config.attention_bias)
        self.o = nn.Linear(wide, config.d_model, bias=config.output_bias)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        q, k = rotate(q, *turn), rotate(k, *turn)
        return context.attend(self.layer, q, k, v, window=self.window).flatten(-2)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.is_last = layer == config.n_layers - 1
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], context: Context) -> Tensor:
        mixed = self.attention(self.attention_norm(x), turn, context)
        if self.is_last:
            x, mixed = context.narrow(x, mixed)
        x = x + self.attention.o(mixed)
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    """A LLaMA-type decoder with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.aliases = {"lm_head.weight": "embed.weight"} if config.tied else {}
        self.rotary = Rotary(config.rotary, config.d_head)
        initialize(self)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
    ) -> DecoderOutput:
        """Logits for padded rows, `input_ids` and `attention_mask` [b, t], or for one step over a cache.

        With `cache`, `input_ids` [1, total] are the new tokens of all rows, packed. `logits_at` [m] picks
        the tokens (places in t) whose logits are wanted. Raises BadInput for an id outside the vocabulary
        and for a position beyond the context.
        """
        config = self.config
        x = embed(self.embed, config.vocab_size, input_ids, inputs_embeds)
        longest = config.longest if cache is None else config.context_length
        windows = {config.window_of(layer) for layer in range(config.n_layers)}
        context = Context.of(x, attention_mask, positions, cache, logits_at, longest=longest, windows=windows)
        turn = self.rotary(context.positions, x.dtype)
        for layer in self.layers:
            x = layer(x, turn, context)
        return DecoderOutput(self.head(self.norm(x)))

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        return F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> DecodingState:
        """What it carries from step to step: keys and values in `n_pages` pages of `page_size` tokens."""
        return DecodingState.of(self.config, n_pages, page_size, dtype, device)

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours; buffers that follow from the config are dropped."""
        ours = {}
        for name, tensor in state.items():
            if not name.endswith("rotary_emb.inv_freq"):
                ours[NAMES.ours(name.removeprefix("model."))] = tensor
        return ours

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        return {
            name if name.startswith("lm_head.") else "model." + NAMES.theirs(name): tensor
            for name, tensor in state.items()
        }


NAMES = Names(
    (
        ("embed", "embed_tokens"),
        ("attention_norm", "input_layernorm"),
        ("mlp_norm", "post_attention_layernorm"),
        ("attention.q", "self_attn.q_proj"),
        ("attention.k", "self_attn.k_proj"),
        ("attention.v", "self_attn.v_proj"),
        ("attention.o", "self_attn.o_proj"),
        ("mlp.gate", "mlp.gate_proj"),
        ("mlp.up", "mlp.up_proj"),
        ("mlp.down", "mlp.down_proj"),
    )
)


def _llama(
    vocab: int, d_model: int, layers: int, heads: int, kv_heads: int, d_ff: int, **other: Any
) -> LlamaConfig:
    d_head = other.pop("d_head", d_model // heads)
    return LlamaConfig(vocab, d_model, layers, heads, kv_heads, d_head, d_ff, **other)


_LLAMA_31 = RotaryConfig(theta=500000.0, scaling="llama3", factor=8.0, original=8192)
_LLAMA_32 = RotaryConfig(theta=500000.0, scaling="llama3", factor=32.0, original=8192)
_QWEN: dict[str, Any] = {
    "model_type": "qwen2",
    "attention_bias": True,
    "max_positions": 32768,
    "rotary": RotaryConfig(theta=1e6),
}
_SMOL: dict[str, Any] = {
    "max_positions": 8192,
    "norm_eps": 1e-5,
    "tied": True,
    "rotary": RotaryConfig(theta=1e5),
}

PRESETS: dict[str, LlamaConfig] = {
    "llama-7b": _llama(32000, 4096, 32, 32, 32, 11008),
    "llama-2-70b": _llama(32000, 8192, 80, 64, 8, 28672, max_positions=4096, norm_eps=1e-5),
    "llama-3.1-8b": _llama(
        128256, 4096, 32, 32, 8, 14336, max_positions=131072, norm_eps=1e-5, rotary=_LLAMA_31
    ),
    "llama-3.2-1b": _llama(
        128256, 2048, 16, 32, 8, 8192, max_positions=131072, norm_eps=1e-5, rotary=_LLAMA_32, tied=True
    ),
    "smollm2-135m": _llama(49152, 576, 30, 9, 3, 1536, **_SMOL),
    "smollm2-360m": _llama(49152, 960, 32, 15, 5, 2560, **_SMOL),
    "qwen2.5-0.5b": _llama(151936, 896, 24, 14, 2, 4864, tied=True, **_QWEN),
    "qwen2.5-1.5b": _llama(151936, 1536, 28, 12, 2, 8960, tied=True, **_QWEN),
    "qwen2.5-7b": _llama(152064, 3584, 28, 28, 4, 18944, **_QWEN),
}
"""Published sizes, by name."""

FAMILY = Family("llama", LlamaConfig, Llama, "decoder", ("llama", "qwen2"))

"""Sizes and switches of LLaMA and its relatives, and the `config.json` that holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from kun.blocks.rotary import RotaryConfig
from kun.networks.fields import Fields
from kun.networks.rope_fields import rotary_from_hf, rotary_to_hf

ModelType = Literal["llama", "mistral", "qwen2", "qwen3", "ernie4_5"]


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
    model_type: ModelType = "llama"

    @property
    def architecture(self) -> str:
        return _ARCHITECTURES[self.model_type]

    @property
    def query_key_norm(self) -> bool:
        """Whether each head's query and key are normed before they are rotated, as in Qwen3."""
        return self.model_type == "qwen3"

    @property
    def interleaves(self) -> bool:
        """Whether the file's rotary pairs are (2i, 2i + 1), as in ERNIE 4.5; the network's never are."""
        return self.model_type == "ernie4_5"

    @property
    def context_length(self) -> int:
        """Tokens that a cached sequence may have, scaling included.

        Dynamic scaling re-rotates all earlier keys beyond the original context, which a cache cannot follow.
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
    def from_hf(cls, values: Mapping[str, object]) -> "LlamaConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        model_type = f.only("model_type", "llama", *_ARCHITECTURES)
        f.only("hidden_act", "silu", "silu", "swish")
        usual = _USUAL[model_type]
        d_model, n_layers = f.integer("hidden_size"), f.integer("num_hidden_layers", high=2**12)
        n_heads, n_kv_heads, d_head = _heads(f, d_model, usual)
        max_positions = f.integer("max_position_embeddings", usual.max_positions)
        attention_bias, output_bias, mlp_bias = _biases(f, model_type)
        window, windows = _windows(f, n_layers, model_type)
        return cls(
            vocab_size=f.integer("vocab_size"),
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=d_head,
            d_ff=f.integer("intermediate_size"),
            max_positions=max_positions,
            norm_eps=f.number("rms_norm_eps", usual.norm_eps, high=1.0),
            rotary=rotary_from_hf(f, max_positions, usual.theta),
            tied=f.flag("tie_word_embeddings", usual.tied),
            attention_bias=attention_bias,
            output_bias=output_bias,
            mlp_bias=mlp_bias,
            window=window,
            windows=windows,
            model_type=model_type,
        )

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        hf: dict[str, object] = {
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
        match self.model_type:
            case "llama":
                hf |= {"attention_bias": self.attention_bias, "mlp_bias": self.mlp_bias}
            case "qwen3":
                hf |= {"attention_bias": self.attention_bias}
            case "ernie4_5":
                hf |= {"use_bias": self.attention_bias}
            case "mistral":
                hf |= {"sliding_window": self.window}
        return hf | self._windows_to_hf() if self.model_type in _WINDOWED else hf

    def _windows_to_hf(self) -> dict[str, object]:
        kinds = ["sliding_attention" if i in self.windows else "full_attention" for i in range(self.n_layers)]
        return {
            "use_sliding_window": bool(self.windows),
            "sliding_window": self.window,
            "max_window_layers": min(self.windows, default=self.n_layers),
            "layer_types": kinds,
        }


@dataclass(frozen=True)
class _Usual:
    """What a field is that the file leaves out; `d_head` None stands for d_model / n_heads."""

    max_positions: int
    norm_eps: float = 1e-6
    theta: float = 10000.0
    tied: bool = False
    d_head: int | None = None
    n_kv_heads: int | None = None


_USUAL: dict[ModelType, _Usual] = {
    "llama": _Usual(2048),
    "mistral": _Usual(131072, n_kv_heads=8),
    "qwen2": _Usual(32768),
    "qwen3": _Usual(32768, d_head=128),
    "ernie4_5": _Usual(131072, norm_eps=1e-5, theta=500000.0, tied=True, d_head=128),
}
_ARCHITECTURES: dict[ModelType, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "ernie4_5": "Ernie4_5ForCausalLM",
}
_WINDOWED = ("qwen2", "qwen3")


def _heads(f: Fields, d_model: int, usual: _Usual) -> tuple[int, int, int]:
    """Heads, heads of keys and values, and a head's width."""
    n_heads = f.integer("num_attention_heads", high=2**14)
    n_kv_heads = f.integer("num_key_value_heads", usual.n_kv_heads or n_heads, high=n_heads)
    if usual.d_head is None and d_model % n_heads:
        raise f.wrong("hidden_size", f"a multiple of num_attention_heads, {n_heads}")
    if n_heads % n_kv_heads:
        raise f.wrong("num_key_value_heads", f"a divisor of num_attention_heads, {n_heads}")
    d_head = f.integer("head_dim", usual.d_head or d_model // n_heads, high=2**16)
    if d_head % 2 or d_head < 4:
        raise f.wrong(
            "head_dim" if "head_dim" in f else "hidden_size", "such that a head is even and ≥ 4 wide"
        )
    return n_heads, n_kv_heads, d_head


def _biases(f: Fields, model_type: str) -> tuple[bool, bool, bool]:
    """Whether query, key and value have biases, the attention's output, and the feed-forward."""
    if model_type == "qwen2":
        return True, False, False
    bias = f.flag("use_bias" if model_type == "ernie4_5" else "attention_bias", False)
    return (
        bias,
        bias,
        bias if model_type == "ernie4_5" else model_type == "llama" and f.flag("mlp_bias", False),
    )


def _windows(f: Fields, n_layers: int, model_type: str) -> tuple[int | None, tuple[int, ...]]:
    """The window and its layers: all of Mistral's; Qwen's by `layer_types`, else from `max_window_layers` on."""
    if model_type == "mistral":
        window = (
            f.integer("sliding_window", 4096) if f.values.get("sliding_window", 4096) is not None else None
        )
        return window, tuple(range(n_layers)) if window else ()
    if model_type not in _WINDOWED:
        return None, ()
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


def _sized(
    base: LlamaConfig, d_model: int, n_layers: int, n_heads: int, n_kv_heads: int, d_ff: int
) -> LlamaConfig:
    """`base` in another size; its heads are d_model / n_heads wide where that is usual."""
    return replace(
        base,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=_USUAL[base.model_type].d_head or d_model // n_heads,
        d_ff=d_ff,
    )


def _tied(config: LlamaConfig) -> LlamaConfig:
    return replace(config, tied=True)


_LLAMA = LlamaConfig(32000, 4096, 32, 32, 32, 128, 11008)
_LLAMA_2 = replace(_LLAMA, max_positions=4096, norm_eps=1e-5)
_LLAMA_3 = replace(_LLAMA_2, vocab_size=128256, max_positions=8192, rotary=RotaryConfig(theta=500000.0))
_STRETCHED = RotaryConfig(theta=500000.0, scaling="llama3", factor=8.0, original=8192)
_LLAMA_31 = replace(_LLAMA_3, max_positions=131072, rotary=_STRETCHED)
_LLAMA_32 = replace(_LLAMA_31, rotary=replace(_STRETCHED, factor=32.0), tied=True)
_MISTRAL = replace(
    _sized(_LLAMA_2, 4096, 32, 32, 8, 14336),
    max_positions=32768,
    window=4096,
    windows=tuple(range(32)),
    model_type="mistral",
)
_SMOL = replace(_LLAMA_3, vocab_size=49152, rotary=RotaryConfig(theta=1e5), tied=True)
_MILLION = RotaryConfig(theta=1e6)
_QWEN25 = replace(
    _LLAMA,
    vocab_size=151936,
    max_positions=32768,
    rotary=_MILLION,
    attention_bias=True,
    model_type="qwen2",
)
_QWEN3 = replace(_LLAMA, vocab_size=151936, max_positions=40960, rotary=_MILLION, model_type="qwen3")
_ERNIE = replace(_LLAMA_31, vocab_size=103424, rotary=_LLAMA_3.rotary, tied=True, model_type="ernie4_5")

PRESETS: dict[str, LlamaConfig] = {
    "llama-7b": _LLAMA,
    "llama-13b": _sized(_LLAMA, 5120, 40, 40, 40, 13824),
    "llama-33b": _sized(_LLAMA, 6656, 60, 52, 52, 17920),
    "llama-65b": replace(_sized(_LLAMA, 8192, 80, 64, 64, 22016), norm_eps=1e-5),
    "llama-2-7b": _LLAMA_2,
    "llama-2-13b": _sized(_LLAMA_2, 5120, 40, 40, 40, 13824),
    "llama-2-70b": _sized(_LLAMA_2, 8192, 80, 64, 8, 28672),
    "llama-3-8b": _sized(_LLAMA_3, 4096, 32, 32, 8, 14336),
    "llama-3-70b": _sized(_LLAMA_3, 8192, 80, 64, 8, 28672),
    "llama-3.1-8b": _sized(_LLAMA_31, 4096, 32, 32, 8, 14336),
    "llama-3.1-70b": _sized(_LLAMA_31, 8192, 80, 64, 8, 28672),
    "llama-3.1-405b": _sized(_LLAMA_31, 16384, 126, 128, 8, 53248),
    "llama-3.2-1b": _sized(_LLAMA_32, 2048, 16, 32, 8, 8192),
    "llama-3.2-3b": _sized(_LLAMA_32, 3072, 28, 24, 8, 8192),
    "mistral-7b-v0.1": _MISTRAL,
    "smollm2-135m": _sized(_SMOL, 576, 30, 9, 3, 1536),
    "smollm2-360m": _sized(_SMOL, 960, 32, 15, 5, 2560),
    "qwen2.5-0.5b": _tied(_sized(_QWEN25, 896, 24, 14, 2, 4864)),
    "qwen2.5-1.5b": _tied(_sized(_QWEN25, 1536, 28, 12, 2, 8960)),
    "qwen2.5-7b": replace(_sized(_QWEN25, 3584, 28, 28, 4, 18944), vocab_size=152064),
    "qwen3-0.6b": _tied(_sized(_QWEN3, 1024, 28, 16, 8, 3072)),
    "qwen3-1.7b": _tied(_sized(_QWEN3, 2048, 28, 16, 8, 6144)),
    "qwen3-4b": _tied(_sized(_QWEN3, 2560, 36, 32, 8, 9728)),
    "qwen3-8b": _sized(_QWEN3, 4096, 36, 32, 8, 12288),
    "qwen3-14b": _sized(_QWEN3, 5120, 40, 40, 8, 17408),
    "qwen3-32b": _sized(_QWEN3, 5120, 64, 64, 8, 25600),
    "ernie-4.5-0.3b": _sized(_ERNIE, 1024, 18, 16, 2, 3072),
}
"""Published sizes, by name."""

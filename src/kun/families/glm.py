"""GLM from ChatGLM2 on: Team GLM, arXiv:2406.12793; ChatGLM2-6B, ChatGLM3-6B, GLM-4-9B.

What differs from the first ChatGLM (`chatglm.py`): a text is read from left to right, prompt included, and
all else has become LLaMA's. What differs from LLaMA: only half of each head is rotated by positions, many
queries share very few keys and values (two), and query, key and value have biases.

The files are of two kinds, Hugging Face's and the original one of the ChatGLM repositories. Both rotate
neighbours (2i, 2i + 1) and hold gate and up projection in one tensor, the original also query, key and
value; the name map undoes it. What is written is Hugging Face's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from torch import Tensor, nn

from kun.blocks.feed_forward import FeedForward
from kun.blocks.norm import RMSNorm
from kun.blocks.rotary import Rotary, RotaryConfig, Scaling, rotate
from kun.networks.decoder import Context, Decoder
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.fields import Fields
from kun.networks.fused import fused_rows
from kun.networks.names import Names, PartNames, State
from kun.networks.network import initialize
from kun.networks.rope_fields import interleaved, rotate_half


@dataclass(frozen=True)
class GLMConfig:
    """Sizes of one network; of each head the share `turned_share` is rotated by positions."""

    vocab_size: int = 65024
    d_model: int = 4096
    n_layers: int = 28
    n_heads: int = 32
    n_kv_heads: int = 2
    d_head: int = 128
    d_ff: int = 13696
    max_positions: int = 8192
    norm_eps: float = 1e-5
    turned_share: float = 0.5
    rotary: RotaryConfig = field(default_factory=RotaryConfig)
    tied: bool = False
    attention_bias: bool = True
    pad_token_id: int | None = None

    architecture = "GlmForCausalLM"
    model_type = "glm"

    @property
    def rotary_width(self) -> int:
        """How many numbers of a head are rotated: the first ones."""
        return int(self.d_head * self.turned_share)

    @property
    def context_length(self) -> int:
        """Tokens that a sequence may have."""
        return self.max_positions

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> "GLMConfig":
        """Read a `config.json` of either kind.

        BadInput names an impossible field, UnsupportedFormat one that we lack.
        """
        f = Fields(values)
        return cls._from_original(f) if values.get("model_type") == "chatglm" else cls._from_hf(f)

    @classmethod
    def _from_hf(cls, f: Fields) -> "GLMConfig":
        f.only("hidden_act", "silu", "silu", "swish")
        vocab_size = f.integer("vocab_size", 151552)
        block = "rope_parameters" if "rope_parameters" in f else "rope_scaling"
        rope = Fields(f.mapping(block), f"{f.where}: {block}")
        scaling = rope.only("rope_type", "default", "default", "linear")
        n_heads = f.integer("num_attention_heads", 32, high=2**14)
        share = (rope if "partial_rotary_factor" in rope else f).number(
            "partial_rotary_factor", 0.5, high=1.0
        )
        return cls(
            vocab_size=vocab_size,
            d_model=f.integer("hidden_size", 4096),
            n_layers=f.integer("num_hidden_layers", 40, high=2**12),
            n_heads=n_heads,
            n_kv_heads=_divisor(f, "num_key_value_heads", n_heads, usual=2),
            d_head=_turnable(f, "head_dim", 128, share),
            d_ff=f.integer("intermediate_size", 13696),
            max_positions=f.integer("max_position_embeddings", 131072),
            norm_eps=f.number("rms_norm_eps", 1.5625e-07, high=1.0),
            turned_share=share,
            rotary=RotaryConfig(
                (rope if "rope_theta" in rope else f).number("rope_theta", 1e4, above=True),
                scaling=cast(Scaling, scaling),
                factor=rope.number("factor", low=1.0) if scaling == "linear" else 1.0,
            ),
            tied=f.flag("tie_word_embeddings", False),
            attention_bias=f.flag("attention_bias", True),
            pad_token_id=_padding(f, vocab_size),
        )

    @classmethod
    def _from_original(cls, f: Fields) -> "GLMConfig":
        """The fields of the ChatGLM repositories."""
        for name, usual, supported in _ORIGINAL_SWITCHES:
            f.only(name, usual, supported)
        vocab_size, d_model = f.integer("padded_vocab_size"), f.integer("hidden_size")
        n_heads = f.integer("num_attention_heads", high=2**14)
        return cls(
            vocab_size=vocab_size,
            d_model=d_model,
            n_layers=f.integer("num_layers", high=2**12),
            n_heads=n_heads,
            n_kv_heads=_divisor(f, "multi_query_group_num", n_heads, usual=1),
            d_head=_turnable(f, "kv_channels", d_model // n_heads, 0.5),
            d_ff=f.integer("ffn_hidden_size"),
            max_positions=f.integer("seq_length", 2048),
            norm_eps=f.number("layernorm_epsilon", 1e-5, high=1.0),
            rotary=_original_rotary(f),
            tied=f.flag("tie_word_embeddings", False),
            attention_bias=f.flag("add_qkv_bias", False),
            pad_token_id=_padding(f, vocab_size),
        )

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        share, theta = self.turned_share, self.rotary.theta
        rope = {"rope_type": self.rotary.scaling, "rope_theta": theta, "partial_rotary_factor": share}
        if self.rotary.scaling == "linear":
            rope["factor"] = self.rotary.factor
        return {
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
            "rope_parameters": rope,
            # where older readers look for them
            "rope_theta": theta,
            "partial_rotary_factor": share,
            "tie_word_embeddings": self.tied,
            "attention_bias": self.attention_bias,
            # said even where there is none: the reference's default lies beyond small vocabularies
            "pad_token_id": self.pad_token_id,
        }


def _original_rotary(f: Fields) -> RotaryConfig:
    """What `rope_ratio` stretches: the base of the turns, or of ChatGLM2-6B-32K the positions, which only the
    checkpoint's name tells."""
    ratio = f.number("rope_ratio", 1.0, above=True)
    if ratio > 1.0 and "chatglm2" in str(f.values.get("_name_or_path")).lower():
        return RotaryConfig(scaling="linear", factor=ratio)
    return RotaryConfig(1e4 * ratio)


_ORIGINAL_SWITCHES: tuple[tuple[str, object, object], ...] = (
    ("rmsnorm", True, True),
    ("post_layer_norm", True, True),
    ("multi_query_attention", False, True),
    ("add_bias_linear", False, False),
    ("apply_residual_connection_post_layernorm", False, False),
    ("quantization_bit", 0, 0),
    ("pre_seq_len", None, None),
)
"""Fields of the original config: what they are where they are left out, and the value that we support."""


def _divisor(f: Fields, name: str, n_heads: int, usual: int) -> int:
    count = f.integer(name, usual, high=n_heads)
    if n_heads % count:
        raise f.wrong(name, f"a divisor of num_attention_heads, {n_heads}")
    return count


def _padding(f: Fields, vocab_size: int) -> int | None:
    return f.integer("pad_token_id", low=0, high=vocab_size - 1) if "pad_token_id" in f else None


def _turnable(f: Fields, name: str, usual: int, share: float) -> int:
    """A head's width, of which the share that is rotated is made of pairs."""
    d_head = f.integer(name, max(1, usual), high=2**16)
    rotary_width = int(d_head * share)
    if rotary_width % 2 or not rotary_width:
        raise f.wrong(name, "such that an even number of each head is rotated")
    return d_head


class Attention(nn.Module):
    """Causal self-attention: n_heads queries share n_kv_heads keys and values, half of each rotated."""

    def __init__(self, config: GLMConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head = layer, config.d_head
        wide, narrow = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q = nn.Linear(config.d_model, wide, bias=config.attention_bias)
        self.k = nn.Linear(config.d_model, narrow, bias=config.attention_bias)
        self.v = nn.Linear(config.d_model, narrow, bias=config.attention_bias)
        self.o = nn.Linear(wide, config.d_model, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        return self.o(context.attend(self.layer, q, k, v).flatten(-2))


class Layer(nn.Module):
    """h = x + attention(norm(x)), then h + feed-forward(norm(h))."""

    def __init__(self, config: GLMConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, "silu", gated=True, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], context: Context) -> Tensor:
        h = x + self.attention(self.attention_norm(x), rotary, context)
        return h + self.mlp(self.mlp_norm(h))


class GLM(Decoder):
    """A GLM with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    config: GLMConfig

    def __init__(self, config: GLMConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = self.untied_head()
        self.rotary = Rotary(config.rotary, config.rotary_width)
        self.names = GLMNames(config)
        initialize(self)

    def begin(self, x: Tensor, context: Context) -> tuple[Tensor, tuple[object, ...]]:
        return x, (self.rotary(context.positions, x.dtype),)


class GLMNames(PartNames):
    """Hugging Face's names, or those of the ChatGLM repositories, which are read alone. Both rotate neighbours."""

    def __init__(self, config: GLMConfig, *, original: bool = False) -> None:
        wide, narrow = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        fused = [fused_rows("mlp.gate_up", ("mlp.gate", "mlp.up"), (config.d_ff, config.d_ff))]
        if original:
            parts = ("attention.q", "attention.k", "attention.v")
            fused.append(fused_rows("attention.qkv", parts, (wide, narrow, narrow)))
        names, prefix = (ORIGINAL_NAMES, "transformer.") if original else (NAMES, "model.")
        super().__init__(names, prefix, left_out=(".inv_freq",), fused=fused)
        self.config = config
        self.original = None if original else GLMNames(config, original=True)

    def ours(self, state: Mapping[str, Tensor]) -> State:
        if self.original and any(name.startswith("transformer.") for name in state):
            return self.original.ours(state)
        return super().ours(state)

    def adapted(self, name: str, tensor: Tensor) -> Tensor:
        return self._reordered(name, tensor, rotate_half)

    def restored(self, name: str, tensor: Tensor) -> Tensor:
        return self._reordered(name, tensor, interleaved)

    def _reordered(self, name: str, tensor: Tensor, order: Callable[[Tensor, int, int], Tensor]) -> Tensor:
        """A query or key weight with its rotated rows in another order; any other tensor as it is."""
        rotated = ".attention.q." in name or ".attention.k." in name
        return order(tensor, self.config.d_head, self.config.rotary_width) if rotated else tensor


NAMES = Names(
    (
        ("embed", "embed_tokens"),
        ("attention_norm", "input_layernorm"),
        ("mlp_norm", "post_attention_layernorm"),
        *((f"attention.{part}", f"self_attn.{part}_proj") for part in "qkvo"),
        ("mlp.gate_up", "mlp.gate_up_proj"),
        ("mlp.down", "mlp.down_proj"),
    )
)
"""Hugging Face's names."""

ORIGINAL_NAMES = Names(
    (
        ("embed", "embedding.word_embeddings"),
        ("layers", "encoder.layers"),
        ("norm", "encoder.final_layernorm"),
        ("lm_head", "output_layer"),
        ("attention_norm", "input_layernorm"),
        ("mlp_norm", "post_attention_layernorm"),
        ("attention.qkv", "self_attention.query_key_value"),
        ("attention.o", "self_attention.dense"),
        ("mlp.gate_up", "mlp.dense_h_to_4h"),
        ("mlp.down", "mlp.dense_4h_to_h"),
    )
)
"""Those of the ChatGLM repositories."""

PRESETS: dict[str, GLMConfig] = {
    "chatglm2-6b": GLMConfig(max_positions=32768),
    "chatglm3-6b": GLMConfig(),
    "glm-4-9b": GLMConfig(vocab_size=151552, n_layers=40, norm_eps=1.5625e-07),
    "glm-4-9b-chat": GLMConfig(
        vocab_size=151552,
        n_layers=40,
        max_positions=131072,
        norm_eps=1.5625e-07,
        rotary=RotaryConfig(theta=5e6),
    ),
}
"""Published sizes, by name."""

FAMILY = Family(
    name="glm",
    model_types=("glm", "chatglm"),
    kind="decoder",
    config=GLMConfig,
    network=GLM,
    presets=PRESETS,
    objectives=("next_token", "classify", "regress"),
    paper="Team GLM, arXiv:2406.12793",
    heads=heads_of({"glm": "Glm"}, ("SequenceClassification",)),
    sharding=Sharding(before=()),
)

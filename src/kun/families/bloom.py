"""BLOOM: BigScience, arXiv:2211.05100, with the positions of ALiBi: Press et al., arXiv:2108.12409.

What differs from GPT-2: no embedding says where a token is. Instead each head takes from a score a share of
the distance between query and key, a share that is its own and is not learned; so a text may be longer than
those of the training (2,048 tokens). The embedding is normed before the first layer, which kept the training
of the large sizes stable.
Hugging Face's files hold query, key and value in one tensor, head by head; the name map takes them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.dropout import Dropout
from kun.blocks.positions import Alibi
from kun.networks.decoder import Context, Decoder
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.fields import Fields
from kun.networks.fused import fused_heads
from kun.networks.names import Names, PartNames
from kun.networks.network import initialize


@dataclass(frozen=True)
class BloomConfig:
    """Sizes of one network; dropout acts in training alone. `context_length` is that of the training."""

    vocab_size: int = 250880
    d_model: int = 1024
    n_layers: int = 24
    n_heads: int = 16
    context_length: int = 2048
    norm_eps: float = 1e-5
    tied: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0

    architecture = "BloomForCausalLM"
    model_type = "bloom"

    @property
    def n_kv_heads(self) -> int:
        return self.n_heads

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def d_ff(self) -> int:
        return 4 * self.d_model

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "BloomConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("apply_residual_connection_post_layernorm", False, False)
        width, heads = _said(f, "hidden_size", "n_embed"), _said(f, "n_head", "num_attention_heads")
        d_model, n_heads = f.integer(width, 64), f.integer(heads, 8, high=2**14)
        if d_model % n_heads:
            raise f.wrong(width, f"a multiple of {heads}, {n_heads}")
        return cls(
            vocab_size=f.integer("vocab_size", 250880),
            d_model=d_model,
            n_layers=f.integer(_said(f, "n_layer", "num_hidden_layers"), 2, high=2**12),
            n_heads=n_heads,
            context_length=f.integer("seq_length", 2048),
            norm_eps=f.number("layer_norm_epsilon", 1e-5, high=1.0),
            tied=f.flag("tie_word_embeddings", True),
            dropout=f.number("hidden_dropout", 0.0, high=1.0),
            attention_dropout=f.number("attention_dropout", 0.0, high=1.0),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "n_layer": self.n_layers,
            "n_head": self.n_heads,
            "seq_length": self.context_length,
            "layer_norm_epsilon": self.norm_eps,
            "tie_word_embeddings": self.tied,
            "hidden_dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
        }


def _said(f: Fields, name: str, older: str) -> str:
    """Which of two names of one field the file uses."""
    return older if older in f else name


class Attention(nn.Module):
    """Causal self-attention in which a key counts less the further away it is."""

    def __init__(self, config: BloomConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.d_head, config.attention_dropout
        self.q, self.k, self.v, self.o = (nn.Linear(config.d_model, config.d_model) for _ in range(4))

    def forward(self, x: Tensor, distances: Alibi, context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        dropout = self.dropout if self.training else 0.0
        return self.o(context.attend(self.layer, q, k, v, bias=distances, dropout=dropout).flatten(-2))


class FeedForward(nn.Module):
    """down(gelu(up(x))), four times as wide."""

    def __init__(self, config: BloomConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)
        self.activation = ACTIVATIONS["gelu_new"]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Layer(nn.Module):
    """h = x + attention(norm(x)), then h + feed-forward(norm(h))."""

    def __init__(self, config: BloomConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, distances: Alibi, context: Context) -> Tensor:
        h = x + self.dropout(self.attention(self.attention_norm(x), distances, context))
        return h + self.dropout(self.mlp(self.mlp_norm(h)))


class Bloom(Decoder):
    """A BLOOM with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    config: BloomConfig

    def __init__(self, config: BloomConfig) -> None:
        super().__init__(config)
        self.embed_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.lm_head = self.untied_head()
        self.distances = Alibi(config.n_heads)
        fused = fused_heads("attention.qkv", config.n_heads, config.d_head)
        self.names = PartNames(NAMES, "transformer.", fused=[fused])
        initialize(self)

    def longest(self, cached: bool) -> int | None:
        return None

    def transform(self, x: Tensor, context: Context) -> Tensor:
        x = self.embed_norm(x)
        for layer in self.layers:
            x = layer(x, self.distances, context)
        return self.norm(x)


NAMES = Names(
    (
        ("embed", "word_embeddings"),
        ("embed_norm", "word_embeddings_layernorm"),
        ("layers", "h"),
        ("norm", "ln_f"),
        ("attention_norm", "input_layernorm"),
        ("mlp_norm", "post_attention_layernorm"),
        ("attention.qkv", "self_attention.query_key_value"),
        ("attention.o", "self_attention.dense"),
        ("mlp.up", "mlp.dense_h_to_4h"),
        ("mlp.down", "mlp.dense_4h_to_h"),
    )
)

PRESETS: dict[str, BloomConfig] = {
    "bloom-560m": BloomConfig(),
    "bloom-1.1b": BloomConfig(d_model=1536),
    "bloom-1.7b": BloomConfig(d_model=2048),
    "bloom-3b": BloomConfig(d_model=2560, n_layers=30, n_heads=32),
    "bloom-7.1b": BloomConfig(d_model=4096, n_layers=30, n_heads=32),
    "bloom": BloomConfig(d_model=14336, n_layers=70, n_heads=112),
}
"""Published sizes, by name; the last has 176 billion parameters."""

FAMILY = Family(
    name="bloom",
    model_types=("bloom",),
    kind="decoder",
    config=BloomConfig,
    network=Bloom,
    presets=PRESETS,
    objectives=("next_token", "classify", "regress"),
    paper="BigScience, arXiv:2211.05100",
    heads=heads_of({"bloom": "Bloom"}, ("SequenceClassification",)),
    sharding=Sharding(before=("embed_norm",)),
)

"""BLOOM: BigScience, arXiv:2211.05100, with the positions of ALiBi: Press et al., arXiv:2108.12409.

What differs from GPT-2: no embedding says where a token is. Instead each head takes from a score a share of
the distance between query and key, a share that is its own and is not learned; so a text may be longer than
those of the training (2,048 tokens). The embedding is normed before the first layer, which kept the training
of the large sizes stable.
Hugging Face's files hold query, key and value in one tensor, head by head; the name map takes them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kun.blocks.dropout import Dropout
from kun.blocks.feed_forward import FeedForward
from kun.blocks.positions import Alibi
from kun.networks import config_keys as keys
from kun.networks.decoder import Context, Decoder
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.fields import Fields
from kun.networks.fused import fused_heads
from kun.networks.gguf_layout import GgufLayout, Size
from kun.networks.multi_head import MultiHeadAttention
from kun.networks.names import Names, PartNames
from kun.networks.network import initialize


@dataclass(frozen=True)
class BloomConfig:
    """Sizes of one network; dropout acts in training alone. `context_length` is that of the training."""

    vocab_size: int = keys.whole(250880, "vocab_size")
    d_model: int = keys.whole(1024, "hidden_size", missing=64)
    n_layers: int = keys.layers(24, "n_layer", missing=2)
    n_heads: int = keys.heads(16, "n_head", missing=8)
    context_length: int = keys.whole(2048, "seq_length")
    norm_eps: float = keys.share(1e-5, "layer_norm_epsilon")
    tied: bool = keys.flag(True, "tie_word_embeddings")
    dropout: float = keys.share(0.0, "hidden_dropout")
    attention_dropout: float = keys.share(0.0, "attention_dropout")

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
    def from_hf(cls, values: Mapping[str, object]) -> "BloomConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        older = {name: old for name, old in _OLDER.items() if values.get(old) is not None}
        f = Fields({**values, **{name: values[old] for name, old in older.items()}})
        f.only("apply_residual_connection_post_layernorm", False, False)
        config = keys.read(cls, f)
        if config.d_model % config.n_heads:
            width, heads = (older.get(name, name) for name in ("hidden_size", "n_head"))
            raise f.wrong(width, f"a multiple of {heads}, {config.n_heads}")
        return config

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        return keys.written(self) | {"model_type": self.model_type, "architectures": [self.architecture]}


_OLDER = {"hidden_size": "n_embed", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
"""Names that older files have for fields."""


class Layer(nn.Module):
    """h = x + attention(norm(x)), then h + feed-forward(norm(h))."""

    def __init__(self, config: BloomConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.attention = MultiHeadAttention(
            config.d_model, config.n_heads, config.d_head, layer=layer, dropout=config.attention_dropout
        )
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, "gelu_new")
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, distances: Alibi, context: Context) -> Tensor:
        h = x + self.dropout(self.attention.causal_attention(self.attention_norm(x), context, distances))
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

    def begin(self, x: Tensor, context: Context) -> tuple[Tensor, tuple[object, ...]]:
        return self.embed_norm(x), (self.distances,)


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

_GGUF = GgufLayout(
    "bloom",
    "BloomForCausalLM",
    {
        "hidden_size": Size("embedding_length"),
        "n_layer": Size("block_count"),
        "n_head": Size("attention.head_count"),
        "seq_length": Size("context_length"),
        "layer_norm_epsilon": Size("attention.layer_norm_epsilon", real=True),
    },
    ("feed_forward_length", "attention.head_count_kv"),
    names={
        "transformer.word_embeddings_layernorm": "token_embd_norm",
        "transformer.h.{bid}.post_attention_layernorm": "blk.{bid}.ffn_norm",
    },
    orders={"attn_qkv": "thirds"},
)

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
    gguf={"bloom": _GGUF},
)

"""T5: Raffel et al., arXiv:1910.10683; version 1.1 with the gated feed-forward of Shazeer, arXiv:2002.05202.

What differs from the Transformer: every task is text to text; the norm is RMS, comes before each part and has
no bias, nor has any projection; positions are a learned bias on the attention scores, one for each bucket of
distances, shared by all layers; scores are not divided by √d_head, and a head may be wider or narrower than
d_model / n_heads. Version 1.0 ties the head to the embedding and divides the logits by √d_model; 1.1 does
neither.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor, nn

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.dropout import Dropout
from kun.blocks.feed_forward import FeedForward
from kun.blocks.norm import RMSNorm
from kun.blocks.relative import RelativeBias
from kun.networks import config_keys as keys
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import Context
from kun.networks.encoder_decoder import EncoderDecoder
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.fields import Fields
from kun.networks.multi_head import MultiHeadAttention
from kun.networks.names import Names
from kun.networks.source import Source
from kun.networks.stack_names import StackNames

CONTEXT = 2048
"""Tokens of a cached sequence. The network knows no end, but the scores of a longer source take gigabytes."""


@dataclass(frozen=True)
class StackConfig:
    """Sizes of the encoder and the decoder of T5, and of Switch Transformers.

    Distances fall into `buckets`, and from `max_distance` on into the last. `dropout` acts in training alone.
    """

    vocab_size: int = keys.whole(32128, "vocab_size")
    d_model: int = keys.whole(512, "d_model")
    d_head: int = keys.whole(64, "d_kv", high=2**16)
    d_ff: int = keys.whole(2048, "d_ff")
    n_layers: int = keys.layers(6, "num_layers")
    n_decoder_layers: int = keys.layers(6, "num_decoder_layers")
    n_heads: int = keys.heads(8, "num_heads")
    buckets: int = keys.whole(32, "relative_attention_num_buckets", low=4)
    max_distance: int = keys.whole(128, "relative_attention_max_distance")
    norm_eps: float = keys.share(1e-6, "layer_norm_epsilon")
    activation: str = "relu"
    gated: bool = False
    tied: bool = keys.flag(True, "tie_word_embeddings")
    dropout: float = keys.share(0.1, "dropout_rate")
    start_token: int = keys.token(0, "decoder_start_token_id")

    context_length = CONTEXT

    @property
    def n_decoder_heads(self) -> int:
        return self.n_heads

    @property
    def d_decoder_head(self) -> int:
        return self.d_head

    @classmethod
    def sizes(cls, f: Fields) -> Self:
        """The sizes that `config.json` gives; both stacks are of one height unless it states the decoder's."""
        config = keys.read(cls, f)
        if config.buckets % 4:
            raise f.wrong("relative_attention_num_buckets", "a multiple of 4")
        if config.max_distance <= config.buckets // 2:
            least = f"above half of the buckets, {config.buckets // 2}"
            raise f.wrong("relative_attention_max_distance", least)
        given = "num_decoder_layers" in f
        return config if given else replace(config, n_decoder_layers=config.n_layers)


@dataclass(frozen=True)
class T5Config(StackConfig):
    """Sizes of one T5; `scaled` logits are divided by √d_model."""

    scaled: bool = True

    architecture = "T5ForConditionalGeneration"
    model_type = "t5"

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> Self:
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("is_encoder_decoder", True, True)
        parts = str(f.values.get("feed_forward_proj") or "relu").split("-")
        gated, activation = parts[0] == "gated", parts[-1]
        if len(parts) != 1 + gated or activation not in ACTIVATIONS:
            raise f.wrong("feed_forward_proj", f"an activation, or gated- and one: {', '.join(ACTIVATIONS)}")
        if gated and activation == "gelu":  # the name that version 1.1 gives the tanh approximation
            activation = "gelu_new"
        sizes = cls.sizes(f)
        # newer files call every head tied, and say by the scale alone which version they are
        scaled = f.flag("scale_decoder_outputs", sizes.tied)
        return replace(
            sizes,
            activation=activation,
            gated=gated,
            tied=sizes.tied and scaled,
            scaled=scaled,
        )

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        named = "gelu" if self.gated and self.activation == "gelu_new" else self.activation
        return keys.written(self) | {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "feed_forward_proj": f"gated-{named}" if self.gated else named,
            "scale_decoder_outputs": self.scaled,
        }


def attention(config: StackConfig, layer: int = 0) -> MultiHeadAttention:
    """Attention whose scores are not divided by √d_head: the initial query weights are smaller by as much."""
    sizes = config.d_model, config.n_heads, config.d_head
    return MultiHeadAttention(*sizes, layer=layer, bias=False, scale=1.0, dropout=config.dropout)


def feed_forward(config: StackConfig) -> FeedForward:
    """down(relu(up(x))), or down(gelu(gate(x)) · up(x))."""
    sizes = config.d_model, config.d_ff, config.activation
    return FeedForward(*sizes, gated=config.gated, bias=False, dropout=config.dropout)


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = attention(config)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp, self.dropout = feed_forward(config), Dropout(config.dropout)

    def forward(self, x: Tensor, bias: RelativeBias, mask: AttentionMask) -> Tensor:
        h = x + self.dropout(self.attention.self_attention(self.attention_norm(x), mask, bias))
        return h + self.dropout(self.mlp(self.mlp_norm(h)))


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), x + cross-attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = attention(config, layer)
        self.cross_norm = RMSNorm(config.d_model, config.norm_eps)
        self.cross = attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp, self.dropout = feed_forward(config), Dropout(config.dropout)

    def forward(self, x: Tensor, bias: RelativeBias, context: Context, source: Source) -> Tensor:
        h = x + self.dropout(self.attention.causal_attention(self.attention_norm(x), context, bias))
        h = h + self.dropout(self.cross.cross_attention(self.cross_norm(h), source))
        return h + self.dropout(self.mlp(self.mlp_norm(h)))


class Stack(nn.Module):
    """An encoder, whose bias looks `both_ways`, or a decoder: layers, the bias that they share, and a last norm."""

    def __init__(self, config: StackConfig, layers: Iterable[nn.Module], *, both_ways: bool) -> None:
        super().__init__()
        sizes = config.n_heads, config.buckets, config.max_distance
        self.relative = RelativeBias(*sizes, both_ways=both_ways)
        self.layers = nn.ModuleList(layers)
        self.norm, self.dropout = RMSNorm(config.d_model, config.norm_eps), Dropout(config.dropout)

    def forward(self, x: Tensor, *shared: object) -> Tensor:
        """States [b, t, d_model] of embedded tokens; each layer is called with the bias and what they share."""
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, self.relative, *shared)
        return self.dropout(self.norm(x))


class T5(EncoderDecoder):
    """An encoder and a decoder with one embedding; `lm_head` is None where the embedding is the head."""

    config: T5Config
    optional = ("lm_head",)

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.names = t5_names(gated=config.gated)
        encoder = (EncoderLayer(config) for _ in range(config.n_layers))
        decoder = (DecoderLayer(config, layer) for layer in range(config.n_decoder_layers))
        self.encoder = Stack(config, encoder, both_ways=True)
        self.decoder = Stack(config, decoder, both_ways=False)
        self.lm_head = self.untied_head()
        self._initialize()

    def _initialize(self) -> None:
        """As Mesh TensorFlow starts: by the width of what goes in, and queries for unscaled scores."""
        config = self.config
        stds = {"q": (config.d_model * config.d_head) ** -0.5, "down": config.d_ff**-0.5}
        stds |= {"o": (config.n_heads * config.d_head) ** -0.5, "embed": 1.0}
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and not weight.is_meta:
                part = name.removesuffix(".weight").rpartition(".")[2]
                nn.init.normal_(weight, std=stds.get(part, config.d_model**-0.5))

    def encoded(self, x: Tensor, mask: AttentionMask) -> Tensor:
        return self.encoder(x, mask)

    def decoded(self, x: Tensor, context: Context, source: Source) -> Tensor:
        return self.decoder(x, context, source)

    def head(self, states: Tensor) -> Tensor:
        return super().head(states * self.config.d_model**-0.5 if self.config.scaled else states)


def stack_pairs(mlp: str, *, gated: bool) -> tuple[Names, Names]:
    """The parts of an encoder's and of a decoder's layers, whose feed-forward part the reference calls `mlp`."""
    both = (
        ("relative.table", "block.0.layer.0.SelfAttention.relative_attention_bias"),
        ("layers", "block"),
        ("embed", "embed_tokens"),
        ("attention_norm", "layer.0.layer_norm"),
        ("attention", "layer.0.SelfAttention"),
        ("norm", "final_layer_norm"),
    )
    units = (("gate", "wi_0"), ("up", "wi_1" if gated else "wi"), ("down", "wo"))
    encoder = (("mlp_norm", "layer.1.layer_norm"), ("mlp", f"layer.1.{mlp}"))
    decoder = (
        ("cross_norm", "layer.1.layer_norm"),
        ("cross", "layer.1.EncDecAttention"),
        ("mlp_norm", "layer.2.layer_norm"),
        ("mlp", f"layer.2.{mlp}"),
    )
    return Names(both + encoder + units), Names(both + decoder + units)


def t5_names(*, gated: bool) -> StackNames:
    """The map; copies of the embedding, and a bias of cross-attention that nothing reads, are left out."""
    left_out = ("embed_tokens.weight", "EncDecAttention.relative_attention_bias.weight")
    pairs = stack_pairs("DenseReluDense", gated=gated)
    return StackNames(Names((("embed", "shared"),)), *pairs, left_out=left_out)


def _v1_0(d_model: int, d_ff: int, layers: int, heads: int, d_head: int = 64) -> T5Config:
    sizes = T5Config(d_model=d_model, d_ff=d_ff, n_layers=layers, n_heads=heads, d_head=d_head)
    return replace(sizes, n_decoder_layers=layers)


def _v1_1(d_model: int, d_ff: int, layers: int, heads: int) -> T5Config:
    sizes = _v1_0(d_model, d_ff, layers, heads)
    return replace(sizes, gated=True, activation="gelu_new", tied=False, scaled=False)


PRESETS: dict[str, T5Config] = {
    "t5-small": _v1_0(512, 2048, 6, 8),
    "t5-base": _v1_0(768, 3072, 12, 12),
    "t5-large": _v1_0(1024, 4096, 24, 16),
    "t5-3b": _v1_0(1024, 16384, 24, 32, d_head=128),
    "t5-11b": _v1_0(1024, 65536, 24, 128, d_head=128),
    "t5-v1_1-small": _v1_1(512, 1024, 8, 6),
    "t5-v1_1-base": _v1_1(768, 2048, 12, 12),
    "t5-v1_1-large": _v1_1(1024, 2816, 24, 16),
    "t5-v1_1-xl": _v1_1(2048, 5120, 24, 32),
    "t5-v1_1-xxl": _v1_1(4096, 10240, 24, 64),
}
"""Published sizes, by name."""

FAMILY = Family(
    name="t5",
    model_types=("t5",),
    kind="encoder-decoder",
    config=T5Config,
    network=T5,
    presets=PRESETS,
    objectives=("span", "seq2seq"),
    paper="Raffel et al., arXiv:1910.10683",
    sharding=ENCODER_DECODER,
)

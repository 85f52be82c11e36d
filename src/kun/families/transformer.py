"""The Transformer: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762.

An encoder in which all tokens of the source see each other, and a decoder in which each token sees those before
it and all of the source. Positions are sinusoids added to the embeddings; the norm comes after each part
(x = norm(x + part(x))); one embedding, multiplied by √d_model, serves both sides and the head. Hugging Face
knows it as Marian, which adds a bias to the logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.dropout import Dropout
from kun.blocks.feed_forward import FeedForward
from kun.blocks.positions import sinusoids
from kun.networks import config_keys as keys
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import Context
from kun.networks.encoder_decoder import EncoderDecoder
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.fields import Fields
from kun.networks.multi_head import MultiHeadAttention
from kun.networks.names import Names, PartNames
from kun.networks.network import check_positions
from kun.networks.source import Source


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one network; `scaled` embeddings are multiplied by √d_model. Dropout acts in training alone.

    The embedding of `pad_token` is not learned where it is looked up.
    """

    vocab_size: int = keys.whole(37000, "vocab_size", missing=58101)
    d_model: int = keys.whole(512, "d_model", missing=1024)
    n_layers: int = keys.layers(6, "encoder_layers", missing=12)
    n_decoder_layers: int = keys.layers(6, "decoder_layers", missing=12)
    n_heads: int = keys.heads(8, "encoder_attention_heads", missing=16)
    n_decoder_heads: int = keys.heads(8, "decoder_attention_heads", missing=16)
    d_ff: int = keys.whole(2048, "encoder_ffn_dim", missing=4096)
    d_decoder_ff: int = keys.whole(2048, "decoder_ffn_dim", missing=4096)
    max_positions: int = keys.whole(1024, "max_position_embeddings")
    activation: str = keys.choice("relu", "activation_function", ACTIVATIONS, missing="gelu")
    scaled: bool = keys.flag(True, "scale_embedding", missing=False)
    dropout: float = keys.share(0.1, "dropout")
    attention_dropout: float = keys.share(0.0, "attention_dropout")
    activation_dropout: float = keys.share(0.0, "activation_dropout")
    start_token: int = keys.token(0, "decoder_start_token_id", missing=-1)
    pad_token: int | None = keys.token_or_none("pad_token_id")

    architecture = "MarianMTModel"
    model_type = "marian"
    tied = True

    @property
    def context_length(self) -> int:
        """Tokens that a source or an answer may have."""
        return self.max_positions

    @property
    def d_decoder_head(self) -> int:
        return self.d_model // self.n_decoder_heads

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> "TransformerConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("is_encoder_decoder", True, True)
        f.only("share_encoder_decoder_embeddings", True, True)
        f.only("tie_word_embeddings", True, True)
        f.only("normalize_before", False, False)
        f.only("normalize_embedding", False, False)
        config = keys.read(cls, f)
        f.only("decoder_vocab_size", config.vocab_size, config.vocab_size)
        for part, count in (("encoder", config.n_heads), ("decoder", config.n_decoder_heads)):
            if config.d_model % count:
                raise f.wrong(f"{part}_attention_heads", f"a divisor of d_model, {config.d_model}")
        return config

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        return keys.written(self) | {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "decoder_vocab_size": self.vocab_size,
            "share_encoder_decoder_embeddings": True,
            "tie_word_embeddings": True,
        }


def attention(config: TransformerConfig, heads: int, layer: int = 0) -> MultiHeadAttention:
    sizes = config.d_model, heads, config.d_model // heads
    return MultiHeadAttention(*sizes, layer=layer, dropout=config.attention_dropout)


def feed_forward(config: TransformerConfig, d_ff: int) -> FeedForward:
    """down(relu(up(x)))."""
    return FeedForward(config.d_model, d_ff, config.activation, dropout=config.activation_dropout)


class EncoderLayer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = attention(config, config.n_heads)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.mlp = feed_forward(config, config.d_ff)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: AttentionMask) -> Tensor:
        h = self.attention_norm(x + self.dropout(self.attention.self_attention(x, mask)))
        return self.mlp_norm(h + self.dropout(self.mlp(h)))


class DecoderLayer(nn.Module):
    """norm(x + attention(x)), norm(x + cross-attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.attention = attention(config, config.n_decoder_heads, layer)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.cross = attention(config, config.n_decoder_heads, layer)
        self.cross_norm = nn.LayerNorm(config.d_model)
        self.mlp = feed_forward(config, config.d_decoder_ff)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context, source: Source) -> Tensor:
        h = self.attention_norm(x + self.dropout(self.attention.causal_attention(x, context)))
        h = self.cross_norm(h + self.dropout(self.cross.cross_attention(h, source)))
        return self.mlp_norm(h + self.dropout(self.mlp(h)))


class TransformerNames(PartNames):
    """Marian's names; tables of sinusoids and copies of the embedding are left out, the head's bias is a row."""

    def adapted(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.flatten() if name == "logits_bias" else tensor

    def restored(self, name: str, tensor: Tensor) -> Tensor:
        return tensor[None] if name == "logits_bias" else tensor


NAMES = TransformerNames(
    Names(
        (
            ("embed", "shared"),
            ("logits_bias", "final_logits_bias"),
            ("encoder", "encoder.layers"),
            ("decoder", "decoder.layers"),
            ("attention.o", "self_attn.out_proj"),
            ("attention.q", "self_attn.q_proj"),
            ("attention.k", "self_attn.k_proj"),
            ("attention.v", "self_attn.v_proj"),
            ("attention_norm", "self_attn_layer_norm"),
            ("cross.o", "encoder_attn.out_proj"),
            ("cross.q", "encoder_attn.q_proj"),
            ("cross.k", "encoder_attn.k_proj"),
            ("cross.v", "encoder_attn.v_proj"),
            ("cross_norm", "encoder_attn_layer_norm"),
            ("mlp.up", "fc1"),
            ("mlp.down", "fc2"),
            ("mlp_norm", "final_layer_norm"),
        )
    ),
    prefix="model.",
    bare=("final_logits_bias",),
    left_out=("embed_positions.weight", "embed_tokens.weight"),
)


class Transformer(EncoderDecoder):
    """An encoder and a decoder with one embedding, which is the head too; `logits_bias` is no parameter."""

    config: TransformerConfig
    names = NAMES

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, config.pad_token)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_decoder_layers))
        self.lm_head = self.untied_head()
        self.longest = config.max_positions
        self.logits_bias: Tensor
        self.register_buffer("logits_bias", torch.zeros(config.vocab_size))
        self.dropout = Dropout(config.dropout)
        self._initialize()

    def _initialize(self) -> None:
        """Projections as Glorot and Bengio (2010), as in Tensor2Tensor, the embedding such that √d_model makes it 1."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if not self.embed.weight.is_meta:
            nn.init.normal_(self.embed.weight, std=self.config.d_model**-0.5)
            if self.config.pad_token is not None:
                nn.init.zeros_(self.embed.weight.data[self.config.pad_token])

    def encoded(self, x: Tensor, mask: AttentionMask) -> Tensor:
        check_positions(mask.positions, self.longest)
        x = self.placed(x, mask.positions)
        for layer in self.encoder:
            x = layer(x, mask)
        return x

    def begin(self, x: Tensor, context: Context) -> Tensor:
        return self.placed(x, context.positions)

    def decoded(self, x: Tensor, context: Context, source: Source) -> Tensor:
        for layer in self.decoder:
            x = layer(x, context, source)
        return x

    def placed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Embeddings with their positions added."""
        scale = self.config.d_model**0.5 if self.config.scaled else 1.0
        return self.dropout(x * scale + sinusoids(positions, self.config.d_model).to(x.dtype))

    def head(self, states: Tensor) -> Tensor:
        return super().head(states) + self.logits_bias


PRESETS: dict[str, TransformerConfig] = {
    "transformer-base": TransformerConfig(),
    "transformer-big": TransformerConfig(
        d_model=1024, n_heads=16, n_decoder_heads=16, d_ff=4096, d_decoder_ff=4096, dropout=0.3
    ),
    "opus-mt-en-de": TransformerConfig(
        vocab_size=58101, max_positions=512, activation="swish", start_token=58100, pad_token=58100
    ),
}
"""Published sizes, by name."""

FAMILY = Family(
    name="transformer",
    model_types=("marian",),
    kind="encoder-decoder",
    config=TransformerConfig,
    network=Transformer,
    presets=PRESETS,
    objectives=("span", "seq2seq"),
    paper="Vaswani et al., arXiv:1706.03762",
    aliases={"transformer": "marian"},
    sharding=ENCODER_DECODER,
)

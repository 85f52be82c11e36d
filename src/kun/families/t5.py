"""T5: Raffel et al., arXiv:1910.10683; version 1.1 with the gated feed-forward of Shazeer, arXiv:2002.05202.

What differs from the Transformer: every task is text to text; the norm is RMS, comes before each part and has
no bias, nor has any projection; positions are a learned bias on the attention scores, one for each bucket of
distances, shared by all layers; scores are not divided by √d_head, and a head may be wider or narrower than
d_model / n_heads. Version 1.0 ties the head to the embedding and divides the logits by √d_model; 1.1 does
neither.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.cache import CacheStep, PagedCache
from kun.blocks.dropout import Dropout
from kun.blocks.norm import RMSNorm
from kun.blocks.relative import RelativeBias
from kun.networks.decoder import Context, embed
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.fields import Fields
from kun.networks.names import Names, State
from kun.networks.network import Seq2SeqOutput, check_mask
from kun.networks.source import Kept, PaddedSource, Sight, Source, SourceState, kept, source_of

CONTEXT = 2048
"""Tokens of a cached sequence. The network knows no end, but the scores of a longer source take gigabytes."""


@dataclass(frozen=True)
class T5Config:
    """Sizes of one network; distances fall into `buckets`, and from `max_distance` on into the last.

    `scaled` logits are divided by √d_model; `dropout` acts in training alone.
    """

    vocab_size: int = 32128
    d_model: int = 512
    d_head: int = 64
    d_ff: int = 2048
    n_layers: int = 6
    n_decoder_layers: int = 6
    n_heads: int = 8
    buckets: int = 32
    max_distance: int = 128
    norm_eps: float = 1e-6
    activation: str = "relu"
    gated: bool = False
    tied: bool = True
    scaled: bool = True
    dropout: float = 0.1
    start_token: int = 0

    architecture = "T5ForConditionalGeneration"
    model_type = "t5"
    context_length = CONTEXT

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "T5Config":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("is_encoder_decoder", True, True)
        parts = str(f.values.get("feed_forward_proj") or "relu").split("-")
        gated, activation = parts[0] == "gated", parts[-1]
        if len(parts) != 1 + gated or activation not in ACTIVATIONS:
            raise f.wrong("feed_forward_proj", f"an activation, or gated- and one: {', '.join(ACTIVATIONS)}")
        if gated and activation == "gelu":  # the name that version 1.1 gives the tanh approximation
            activation = "gelu_new"
        n_layers, buckets = (
            f.integer("num_layers", 6, high=2**12),
            f.integer("relative_attention_num_buckets", 32),
        )
        distance = f.integer("relative_attention_max_distance", 128)
        if buckets % 4 or buckets < 4:
            raise f.wrong("relative_attention_num_buckets", "a multiple of 4")
        if distance <= buckets // 2:
            raise f.wrong("relative_attention_max_distance", f"above half of the buckets, {buckets // 2}")
        tied = f.flag("tie_word_embeddings", True)
        # newer files call every head tied, and say by the scale alone which version they are
        scaled = f.flag("scale_decoder_outputs", tied)
        vocab_size = f.integer("vocab_size", 32128)
        return cls(
            vocab_size=vocab_size,
            d_model=f.integer("d_model", 512),
            d_head=f.integer("d_kv", 64, high=2**16),
            d_ff=f.integer("d_ff", 2048),
            n_layers=n_layers,
            n_decoder_layers=f.integer("num_decoder_layers", n_layers, high=2**12),
            n_heads=f.integer("num_heads", 8, high=2**14),
            buckets=buckets,
            max_distance=distance,
            norm_eps=f.number("layer_norm_epsilon", 1e-6, high=1.0),
            activation=activation,
            gated=gated,
            tied=tied and scaled,
            scaled=scaled,
            dropout=f.number("dropout_rate", 0.1, high=1.0),
            start_token=f.integer("decoder_start_token_id", 0, low=0, high=vocab_size - 1),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        named = "gelu" if self.gated and self.activation == "gelu_new" else self.activation
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "vocab_size": self.vocab_size,
            "d_model": self.d_model,
            "d_kv": self.d_head,
            "d_ff": self.d_ff,
            "num_layers": self.n_layers,
            "num_decoder_layers": self.n_decoder_layers,
            "num_heads": self.n_heads,
            "relative_attention_num_buckets": self.buckets,
            "relative_attention_max_distance": self.max_distance,
            "layer_norm_epsilon": self.norm_eps,
            "feed_forward_proj": f"gated-{named}" if self.gated else named,
            "tie_word_embeddings": self.tied,
            "scale_decoder_outputs": self.scaled,
            "dropout_rate": self.dropout,
            "decoder_start_token_id": self.start_token,
        }


class Attention(nn.Module):
    """Queries of x over keys and values of x or, across, of the encoder's states."""

    def __init__(self, config: T5Config, layer: int = 0) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.d_head, config.dropout
        inner = config.n_heads * config.d_head
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)

    def queries(self, x: Tensor) -> Tensor:
        return self.q(x).unflatten(-1, (-1, self.d_head))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.k(x).unflatten(-1, (-1, self.d_head)), self.v(x).unflatten(-1, (-1, self.d_head))

    def among(self, x: Tensor, sight: Sight, bias: RelativeBias) -> Tensor:
        """All tokens of a source see each other."""
        k, v = self.keys_values(x)
        return self.o(
            sight.attend(self.queries(x), k, v, bias=bias, scale=1.0, dropout=self._drop).flatten(-2)
        )

    def back(self, x: Tensor, context: Context, bias: RelativeBias) -> Tensor:
        """Each token sees itself and those before it."""
        q, (k, v) = self.queries(x), self.keys_values(x)
        mixed = context.attend(self.layer, q, k, v, bias=bias, scale=1.0, dropout=self._drop)
        return self.o(mixed.flatten(-2))

    def across(self, x: Tensor, source: Source) -> Tensor:
        """Each token sees all of the source."""
        mixed = source.attend(self.layer, self.queries(x), self.keys_values, 1.0, self._drop)
        return self.o(mixed.flatten(-2))

    @property
    def _drop(self) -> float:
        return self.dropout if self.training else 0.0


class FeedForward(nn.Module):
    """down(activation(up(x))), or gated: down(activation(gate(x)) · up(x))."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False) if config.gated else None
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.activation, self.dropout = ACTIVATIONS[config.activation], Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        hidden = self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up
        return self.down(self.dropout(hidden))


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp, self.dropout = FeedForward(config), Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight, bias: RelativeBias) -> Tensor:
        x = x + self.dropout(self.attention.among(self.attention_norm(x), sight, bias))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), x + attention across(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self.is_last = layer == config.n_decoder_layers - 1
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.cross_norm = RMSNorm(config.d_model, config.norm_eps)
        self.cross = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp, self.dropout = FeedForward(config), Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context, bias: RelativeBias, source: Source) -> Tensor:
        x = x + self.dropout(self.attention.back(self.attention_norm(x), context, bias))
        x = x + self.dropout(self.cross.across(self.cross_norm(x), source))
        if self.is_last:
            (x,) = context.narrow(x)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Encoder(nn.Module):
    """Layers over a source, the bias that they share, and a last norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.relative = RelativeBias(config.n_heads, config.buckets, config.max_distance, both_ways=True)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.norm, self.dropout = RMSNorm(config.d_model, config.norm_eps), Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, sight, self.relative)
        return self.dropout(self.norm(x))


class Decoder(nn.Module):
    """Layers over what was written, the bias that they share, and a last norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.relative = RelativeBias(config.n_heads, config.buckets, config.max_distance, both_ways=False)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_decoder_layers))
        self.norm, self.dropout = RMSNorm(config.d_model, config.norm_eps), Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context, source: Source) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, context, self.relative, source)
        return self.dropout(self.norm(x))


class T5(nn.Module):
    """An encoder and a decoder with one embedding; `lm_head` is None where the embedding is the head."""

    optional = ("lm_head",)

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.aliases = {"lm_head.weight": "embed.weight"} if config.tied else {}
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

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        encoder_last_hidden_state: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
    ) -> Seq2SeqOutput:
        """Logits of padded rows of `decoder_input_ids` [b, t] after sources [b, s], or for a step over a cache.

        The source is `input_ids`, `inputs_embeds`, or the encoder's states of an earlier call. With `cache`,
        `input_ids` [1, total] are the decoder's new tokens of all rows, packed. `logits_at` [m] picks the
        tokens (places in t) whose logits are wanted. Raises BadInput for an id outside the vocabulary.
        """
        states, source = encoder_last_hidden_state, source_of(cache)
        if source is None:
            if states is None:
                states = self.encode(input_ids, attention_mask, inputs_embeds)
            source = PaddedSource(states, check_mask(attention_mask, states.shape[:2]))
            input_ids, inputs_embeds = decoder_input_ids, decoder_inputs_embeds
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        context = Context.of(x, decoder_attention_mask, positions, cache, logits_at)
        return Seq2SeqOutput(self.head(self.decoder(x, context, source)), states)

    def encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """The encoder's states [b, s, d_model] of padded sources [b, s]."""
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        return self.encoder(x, Sight.padded(x, check_mask(attention_mask, x.shape[:2])))

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        if self.config.scaled:
            x = x * self.config.d_model**-0.5
        return F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> SourceState:
        """What it carries from step to step: the decoder's keys and values in pages, and each row's source."""
        c = self.config
        cache = PagedCache(c.n_decoder_layers, c.n_heads, c.d_head, n_pages, page_size, dtype, device)
        return SourceState(cache, c.start_token, c.context_length, self.read)

    def read(self, ids: Tensor, lengths: list[int]) -> list[Kept]:
        """What the decoder's layers keep of each of the sources packed in ids [1, total], all encoded at once."""
        x = embed(self.embed, self.config.vocab_size, ids, None)
        states = self.encoder(x, Sight.packed(lengths, x.device))
        layers = cast("Iterable[DecoderLayer]", self.decoder.layers)
        return kept(states, lengths, [layer.cross.keys_values for layer in layers])

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours; copies of the embedding, and a bias across that nothing reads, are dropped."""
        ours: State = {}
        for name, tensor in state.items():
            if name.endswith("embed_tokens.weight") or "EncDecAttention.relative_attention_bias" in name:
                continue
            ours[_names(name, gated=".wi." not in name).ours(name)] = tensor
        return ours

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        gated = any(".mlp.gate." in name for name in state)
        return {_names(name, gated).theirs(name): tensor for name, tensor in state.items()}


def _names(name: str, gated: bool) -> Names:
    """The map for a tensor's name: the feed-forward is an encoder's second part and a decoder's third."""
    mlp = "layer.1" if name.startswith("encoder.") else "layer.2"
    return Names(
        (
            ("embed", "shared"),
            ("relative.table", "block.0.layer.0.SelfAttention.relative_attention_bias"),
            ("layers", "block"),
            ("attention_norm", "layer.0.layer_norm"),
            ("attention", "layer.0.SelfAttention"),
            ("mlp_norm", f"{mlp}.layer_norm"),
            ("mlp.gate", f"{mlp}.DenseReluDense.wi_0"),
            ("mlp.up", f"{mlp}.DenseReluDense.{'wi_1' if gated else 'wi'}"),
            ("mlp.down", f"{mlp}.DenseReluDense.wo"),
            ("cross_norm", "layer.1.layer_norm"),
            ("cross", "layer.1.EncDecAttention"),
            ("norm", "final_layer_norm"),
        )
    )


def _t5(d_model: int, d_ff: int, layers: int, heads: int, **other: Any) -> T5Config:
    return T5Config(
        d_model=d_model, d_ff=d_ff, n_layers=layers, n_decoder_layers=layers, n_heads=heads, **other
    )


_V1_1: dict[str, Any] = {"gated": True, "activation": "gelu_new", "tied": False, "scaled": False}

PRESETS: dict[str, T5Config] = {
    "t5-small": _t5(512, 2048, 6, 8),
    "t5-base": _t5(768, 3072, 12, 12),
    "t5-large": _t5(1024, 4096, 24, 16),
    "t5-3b": _t5(1024, 16384, 24, 32, d_head=128),
    "t5-11b": _t5(1024, 65536, 24, 128, d_head=128),
    "t5-v1_1-small": _t5(512, 1024, 8, 6, **_V1_1),
    "t5-v1_1-base": _t5(768, 2048, 12, 12, **_V1_1),
    "t5-v1_1-large": _t5(1024, 2816, 24, 16, **_V1_1),
    "t5-v1_1-xl": _t5(2048, 5120, 24, 32, **_V1_1),
    "t5-v1_1-xxl": _t5(4096, 10240, 24, 64, **_V1_1),
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

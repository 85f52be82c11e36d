"""The Transformer: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762.

An encoder in which all tokens of the source see each other, and a decoder in which each token sees those before
it and all of the source. Positions are sinusoids added to the embeddings; the norm comes after each part
(x = norm(x + part(x))); one embedding, multiplied by √d_model, serves both sides and the head. Hugging Face
knows it as Marian, which adds a bias to the logits.
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
from kun.blocks.positions import sinusoids
from kun.networks.decoder import Context, embed
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.fields import Fields
from kun.networks.names import Names, State
from kun.networks.network import Seq2SeqOutput, check_mask, check_positions
from kun.networks.source import Kept, PaddedSource, Sight, Source, SourceState, kept, source_of


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one network; `scaled` embeddings are multiplied by √d_model. Dropout acts in training alone.

    The embedding of `pad_token` is not learned where it is looked up.
    """

    vocab_size: int = 37000
    d_model: int = 512
    n_layers: int = 6
    n_decoder_layers: int = 6
    n_heads: int = 8
    n_decoder_heads: int = 8
    d_ff: int = 2048
    d_decoder_ff: int = 2048
    max_positions: int = 1024
    activation: str = "relu"
    scaled: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    start_token: int = 0
    pad_token: int | None = None

    architecture = "MarianMTModel"
    model_type = "marian"

    @property
    def context_length(self) -> int:
        """Tokens that a source or an answer may have."""
        return self.max_positions

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "TransformerConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("is_encoder_decoder", True, True)
        f.only("share_encoder_decoder_embeddings", True, True)
        f.only("tie_word_embeddings", True, True)
        f.only("normalize_before", False, False)
        f.only("normalize_embedding", False, False)
        d_model, vocab_size = f.integer("d_model", 1024), f.integer("vocab_size", 58101)
        f.only("decoder_vocab_size", vocab_size, vocab_size)
        heads = [f.integer(f"{part}_attention_heads", 16, high=2**14) for part in ("encoder", "decoder")]
        for part, count in zip(("encoder", "decoder"), heads, strict=True):
            if d_model % count:
                raise f.wrong(f"{part}_attention_heads", f"a divisor of d_model, {d_model}")
        pad = f.integer("pad_token_id", low=0, high=vocab_size - 1) if "pad_token_id" in f else None
        return cls(
            vocab_size=vocab_size,
            d_model=d_model,
            n_layers=f.integer("encoder_layers", 12, high=2**12),
            n_decoder_layers=f.integer("decoder_layers", 12, high=2**12),
            n_heads=heads[0],
            n_decoder_heads=heads[1],
            d_ff=f.integer("encoder_ffn_dim", 4096),
            d_decoder_ff=f.integer("decoder_ffn_dim", 4096),
            max_positions=f.integer("max_position_embeddings", 1024),
            activation=f.only("activation_function", "gelu", *ACTIVATIONS),
            scaled=f.flag("scale_embedding", False),
            dropout=f.number("dropout", 0.1, high=1.0),
            attention_dropout=f.number("attention_dropout", 0.0, high=1.0),
            activation_dropout=f.number("activation_dropout", 0.0, high=1.0),
            start_token=f.integer("decoder_start_token_id", vocab_size - 1, low=0, high=vocab_size - 1),
            pad_token=pad,
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "vocab_size": self.vocab_size,
            "decoder_vocab_size": self.vocab_size,
            "d_model": self.d_model,
            "encoder_layers": self.n_layers,
            "decoder_layers": self.n_decoder_layers,
            "encoder_attention_heads": self.n_heads,
            "decoder_attention_heads": self.n_decoder_heads,
            "encoder_ffn_dim": self.d_ff,
            "decoder_ffn_dim": self.d_decoder_ff,
            "max_position_embeddings": self.max_positions,
            "activation_function": self.activation,
            "scale_embedding": self.scaled,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "decoder_start_token_id": self.start_token,
            "pad_token_id": self.pad_token,
            "share_encoder_decoder_embeddings": True,
            "tie_word_embeddings": True,
        }


class MultiHeadAttention(nn.Module):
    """Queries of x over keys and values of x or, across, of the encoder's states, in `heads` parts at once."""

    def __init__(self, config: TransformerConfig, heads: int, layer: int = 0) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.d_model // heads, config.attention_dropout
        self.q, self.k, self.v, self.o = (nn.Linear(config.d_model, config.d_model) for _ in range(4))

    def queries(self, x: Tensor) -> Tensor:
        return self.q(x).unflatten(-1, (-1, self.d_head))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.k(x).unflatten(-1, (-1, self.d_head)), self.v(x).unflatten(-1, (-1, self.d_head))

    def among(self, x: Tensor, sight: Sight) -> Tensor:
        """All tokens of a source see each other."""
        k, v = self.keys_values(x)
        return self.o(sight.attend(self.queries(x), k, v, dropout=self._drop).flatten(-2))

    def back(self, x: Tensor, context: Context) -> Tensor:
        """Each token sees itself and those before it."""
        q, (k, v) = self.queries(x), self.keys_values(x)
        return self.o(context.attend(self.layer, q, k, v, dropout=self._drop).flatten(-2))

    def across(self, x: Tensor, source: Source) -> Tensor:
        """Each token sees all of the source."""
        return self.o(
            source.attend(self.layer, self.queries(x), self.keys_values, None, self._drop).flatten(-2)
        )

    @property
    def _drop(self) -> float:
        return self.dropout if self.training else 0.0


class FeedForward(nn.Module):
    """down(relu(up(x)))."""

    def __init__(self, config: TransformerConfig, d_ff: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(config.d_model, d_ff), nn.Linear(d_ff, config.d_model)
        self.activation, self.dropout = ACTIVATIONS[config.activation], Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.activation(self.up(x))))


class EncoderLayer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config, config.n_heads)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.mlp = FeedForward(config, config.d_ff)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention.among(x, sight)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class DecoderLayer(nn.Module):
    """norm(x + attention(x)), norm(x + attention across(x)), then norm(x + feed-forward(x))."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.is_last = layer == config.n_decoder_layers - 1
        self.attention = MultiHeadAttention(config, config.n_decoder_heads, layer)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.cross = MultiHeadAttention(config, config.n_decoder_heads, layer)
        self.cross_norm = nn.LayerNorm(config.d_model)
        self.mlp = FeedForward(config, config.d_decoder_ff)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context, source: Source) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention.back(x, context)))
        x = self.cross_norm(x + self.dropout(self.cross.across(x, source)))
        if self.is_last:
            (x,) = context.narrow(x)
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class Transformer(nn.Module):
    """An encoder and a decoder with one embedding, which is the head too; `logits_bias` is no parameter."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model, config.pad_token)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_decoder_layers))
        self.lm_head: nn.Module | None = None
        self.aliases = {"lm_head.weight": "embed.weight"}
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
        tokens (places in t) whose logits are wanted. Raises BadInput for an id outside the vocabulary and for
        a position beyond the table.
        """
        states, source = encoder_last_hidden_state, source_of(cache)
        if source is None:
            if states is None:
                states = self.encode(input_ids, attention_mask, inputs_embeds)
            source = PaddedSource(states, check_mask(attention_mask, states.shape[:2]))
            input_ids, inputs_embeds = decoder_input_ids, decoder_inputs_embeds
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        limit = self.config.max_positions
        context = Context.of(x, decoder_attention_mask, positions, cache, logits_at, longest=limit)
        x = self._placed(x, context.positions)
        for layer in self.decoder:
            x = layer(x, context, source)
        return Seq2SeqOutput(self.head(x), states)

    def encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """The encoder's states [b, s, d_model] of padded sources [b, s]."""
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        return self._encoded(x, Sight.padded(x, check_mask(attention_mask, x.shape[:2])))

    def _encoded(self, x: Tensor, sight: Sight) -> Tensor:
        check_positions(sight.places, self.config.max_positions)
        x = self._placed(x, sight.places)
        for layer in self.encoder:
            x = layer(x, sight)
        return x

    def _placed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Embeddings with their positions added."""
        scale = self.config.d_model**0.5 if self.config.scaled else 1.0
        placed: Tensor = self.dropout(x * scale + sinusoids(positions, self.config.d_model).to(x.dtype))
        return placed

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        logits = F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)
        return logits + self.logits_bias

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> SourceState:
        """What it carries from step to step: the decoder's keys and values in pages, and each row's source."""
        c = self.config
        d_head = c.d_model // c.n_decoder_heads
        cache = PagedCache(c.n_decoder_layers, c.n_decoder_heads, d_head, n_pages, page_size, dtype, device)
        return SourceState(cache, c.start_token, c.context_length, self.read)

    def read(self, ids: Tensor, lengths: list[int]) -> list[Kept]:
        """What the decoder's layers keep of each of the sources packed in ids [1, total], all encoded at once."""
        x = embed(self.embed, self.config.vocab_size, ids, None)
        states = self._encoded(x, Sight.packed(lengths, x.device))
        layers = cast("Iterable[DecoderLayer]", self.decoder)
        return kept(states, lengths, [layer.cross.keys_values for layer in layers])

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours; tables of sinusoids and copies of the embedding are dropped."""
        ours: State = {}
        for full, tensor in state.items():
            name = full.removeprefix("model.")
            if name == "final_logits_bias":
                ours["logits_bias"] = tensor.flatten()
            elif not name.endswith(("embed_positions.weight", "embed_tokens.weight")):
                ours[NAMES.ours(name)] = tensor
        return ours

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        return {
            "final_logits_bias" if name == "logits_bias" else "model." + NAMES.theirs(name): (
                tensor[None] if name == "logits_bias" else tensor
            )
            for name, tensor in state.items()
        }


NAMES = Names(
    (
        ("embed", "shared"),
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
)

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

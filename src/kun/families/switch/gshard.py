"""GShard: Lepikhin et al. (Google), arXiv:2006.16668, in the form of NLLB: Costa-jussà et al., arXiv:2207.04672.

A multilingual translation model. What differs from the Switch Transformer: a token goes to two experts, the
second in training only as often as its gate is large; positions are sinusoids (Vaswani et al., arXiv:1706.03762)
added to embeddings scaled by √d; norms have a mean, projections have biases, and scores are divided by √d.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import log
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.attention import positions_of
from kun.blocks.cache import CacheStep, PagedCache
from kun.blocks.dropout import Dropout
from kun.blocks.experts import Bank, Router, Routes, mix, normalized, top2
from kun.families.switch.gshard_config import PRESETS, GShardConfig
from kun.families.switch.names import NLLB_NAMES
from kun.families.switch.output import ExpertOutput, Routing, router_losses
from kun.networks.decoder import Context, embed
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.names import State
from kun.networks.network import check_mask, check_positions, initialize
from kun.networks.source import Kept, PaddedSource, Sight, Source, SourceState, kept, source_of

__all__ = ["FAMILY", "PRESETS", "GShard", "GShardConfig"]


def sinusoids(positions: Tensor, d_model: int) -> Tensor:
    """float32 [..., d_model] for positions [...]: sines in the first half, cosines in the second.

    Wavelengths go from 2π to 10000 · 2π, both included, which is not quite what the paper writes down.
    """
    half = d_model // 2
    turns = torch.exp(torch.arange(half, device=positions.device) * (-log(10000) / (half - 1)))
    angles = positions[..., None].float() * turns
    return F.pad(torch.cat((angles.sin(), angles.cos()), dim=-1), (0, d_model % 2))


class Attention(nn.Module):
    """As in the Transformer: many heads, a bias on every projection."""

    def __init__(self, config: GShardConfig, n_heads: int, layer: int = 0) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.head_size(n_heads), config.attention_dropout
        self.q, self.k, self.v = (nn.Linear(config.d_model, n_heads * self.d_head) for _ in range(3))
        self.o = nn.Linear(n_heads * self.d_head, config.d_model)

    def queries(self, x: Tensor) -> Tensor:
        return self.q(x).unflatten(-1, (-1, self.d_head))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.k(x).unflatten(-1, (-1, self.d_head)), self.v(x).unflatten(-1, (-1, self.d_head))

    def among(self, x: Tensor, sight: Sight) -> Tensor:
        """All tokens of a source see each other."""
        q, (k, v) = self.queries(x), self.keys_values(x)
        return self.o(sight.attend(q, k, v, dropout=self._drop).flatten(-2))

    def back(self, x: Tensor, context: Context) -> Tensor:
        """Each token sees itself and those before it."""
        q, (k, v) = self.queries(x), self.keys_values(x)
        return self.o(context.attend(self.layer, q, k, v, dropout=self._drop).flatten(-2))

    def across(self, x: Tensor, source: Source) -> Tensor:
        """Each token sees all of the source."""
        mixed = source.attend(self.layer, self.queries(x), self.keys_values, None, self._drop)
        return self.o(mixed.flatten(-2))

    @property
    def _drop(self) -> float:
        return self.dropout if self.training else 0.0


class FeedForward(nn.Module):
    """down(relu(up(x))). Each expert is one."""

    def __init__(self, config: GShardConfig, d_ff: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(config.d_model, d_ff), nn.Linear(d_ff, config.d_model)
        self.activation, self.dropout = ACTIVATIONS[config.activation], Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.activation(self.up(x))))


class Experts(nn.Module):
    """A router, and the feed-forward networks to two of which it sends each token."""

    def __init__(self, config: GShardConfig, d_ff: int) -> None:
        super().__init__()
        self.config = config
        self.router = Router(config.d_model, config.n_experts, config.router_bias)
        self.experts = Bank(FeedForward(config, d_ff) for _ in range(config.n_experts))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        logits = self.router(x)
        routing.logits.append(logits)
        routes = self.route(logits.flatten(0, 1), routing.flat)
        return mix(x.flatten(0, 1), routes, self.experts).view_as(x)

    def route(self, logits: Tensor, real: Tensor | None) -> Routes:
        """Where tokens with router logits [n, n_experts] go; some nowhere, and that in training alone."""
        config = self.config
        routes = top2(logits, real, second=config.second_expert, training=self.training)
        sureness = routes.gates[:, 0] if config.by_score else None
        if config.normalize_first:
            routes = normalized(routes)
        if self.training:
            routes = routes.within(config.capacity(len(logits)), score=sureness)
        if not config.normalize_first:
            routes = normalized(routes, over_kept=True)
        return self.masked(routes)

    def masked(self, routes: Routes) -> Routes:
        """Expert output masking of NLLB: some outputs are left out in training, all are smaller at inference."""
        share = self.config.output_masking
        if not share:
            return routes
        if not self.training:
            return replace(routes, gates=routes.gates * (1 - share))
        return replace(routes, kept=routes.kept & (torch.rand_like(routes.gates) >= share))


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: GShardConfig, layer: int) -> None:
        super().__init__()
        self.is_sparse = config.is_sparse(layer, encoder=True)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = Attention(config, config.n_heads)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.mlp = (Experts if self.is_sparse else FeedForward)(config, config.d_ff)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight, routing: Routing) -> Tensor:
        x = x + self.dropout(self.attention.among(self.attention_norm(x), sight))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), x + attention across(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: GShardConfig, layer: int) -> None:
        super().__init__()
        self.is_sparse = config.is_sparse(layer, encoder=False)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = Attention(config, config.n_decoder_heads, layer)
        self.cross_norm = nn.LayerNorm(config.d_model)
        self.cross = Attention(config, config.n_decoder_heads, layer)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.mlp = (Experts if self.is_sparse else FeedForward)(config, config.d_decoder_ff)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context, source: Source, routing: Routing) -> Tensor:
        x = x + self.dropout(self.attention.back(self.attention_norm(x), context))
        x = x + self.dropout(self.cross.across(self.cross_norm(x), source))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class Encoder(nn.Module):
    """Layers over a source, and a last norm."""

    def __init__(self, config: GShardConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, i) for i in range(config.n_layers))
        self.norm, self.skip = nn.LayerNorm(config.d_model), LayerDrop(config.layer_dropout)

    def forward(self, x: Tensor, sight: Sight, routing: Routing) -> Tensor:
        for layer in self.layers:
            if not self.skip():
                x = layer(x, sight, routing)
        return self.norm(x)


class Decoder(nn.Module):
    """Layers over what was written, and a last norm."""

    def __init__(self, config: GShardConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_decoder_layers))
        self.norm, self.skip = nn.LayerNorm(config.d_model), LayerDrop(config.decoder_layer_dropout)

    def forward(self, x: Tensor, context: Context, source: Source, routing: Routing) -> Tensor:
        for layer in self.layers:
            if not self.skip():
                x = layer(x, context, source, routing)
        return self.norm(*context.narrow(x))


class LayerDrop(nn.Module):
    """Whether to leave a layer out, in training alone: Fan et al., arXiv:1909.11556."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self) -> bool:
        return self.training and self.share > 0 and float(torch.rand(())) < self.share


class GShard(nn.Module):
    """An encoder and a decoder with one embedding; `lm_head` is None where the embedding is the head."""

    def __init__(self, config: GShardConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model, padding_idx=config.pad_token)
        self.dropout = Dropout(config.dropout)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        tables = (
            "encoder.embed.weight",
            "decoder.embed.weight",
            *(["lm_head.weight"] if config.tied else []),
        )
        self.aliases = dict.fromkeys(tables, "embed.weight")
        initialize(self)
        if not self.embed.weight.is_meta:
            nn.init.zeros_(self.embed.weight[config.pad_token])

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
        output_router_logits: bool = False,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
    ) -> ExpertOutput:
        """Logits of padded rows of `decoder_input_ids` [b, t] after sources [b, s], or for a step over a cache.

        The source is `input_ids`, `inputs_embeds`, or the encoder's states of an earlier call. With `cache`,
        `input_ids` [1, total] are the decoder's new tokens of all rows, packed. `logits_at` [m] picks the
        tokens (places in t) whose logits are wanted. With `output_router_logits` the routers' logits,
        [b · s or t, n_experts] each, and their losses come too. Raises BadInput for an id outside the
        vocabulary and for a position beyond the longest.
        """
        states, source, reading = encoder_last_hidden_state, source_of(cache), Routing()
        if source is None:
            if states is None:
                x, reading.real = self._embedded(input_ids, inputs_embeds, attention_mask)
                real = self._counted(input_ids, attention_mask, reading.real)
                x = self._placed(x, positions_of(real, x.shape[1], x.device), real)
                states = self.encoder(x, Sight.padded(x, reading.real), reading)
            source = PaddedSource(states, check_mask(attention_mask, states.shape[:2]))
            input_ids, inputs_embeds = decoder_input_ids, decoder_inputs_embeds
        x, mask = self._embedded(input_ids, inputs_embeds, decoder_attention_mask)
        real = None if cache is not None else self._counted(input_ids, decoder_attention_mask, mask)
        if positions is None and cache is None:
            positions = positions_of(real, x.shape[1], x.device)
        context = Context.of(x, mask, positions, cache, logits_at, longest=self.config.max_positions)
        writing = Routing(mask)
        x = self._placed(x, context.positions, real)
        logits = self.head(self.decoder(x, context, source, writing))
        if not output_router_logits:
            return ExpertOutput(logits, states)
        read, written = (router_losses(r, 2, by_row=False) for r in (reading, writing))
        reader, writer = (tuple(each.flatten(0, 1) for each in r.logits) for r in (reading, writing))
        return ExpertOutput(logits, states, reader, writer, *read, *written)

    def _embedded(
        self, ids: Tensor | None, embeds: Tensor | None, attention_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Token states [b, t, d_model] without positions, and the padding mask bool [b, t]."""
        x = embed(self.embed, self.config.vocab_size, ids, embeds)
        if embeds is None and self.config.scale_embedding:
            x = x * self.config.d_model**0.5
        return x, check_mask(attention_mask, x.shape[:2])

    def _counted(self, ids: Tensor | None, given: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """Which tokens have a position, bool [b, t].

        Without a mask padding ids have none and are yet seen, as in the reference.
        """
        return ids != self.config.pad_token if given is None and ids is not None else mask

    def _placed(self, x: Tensor, positions: Tensor, real: Tensor | None = None) -> Tensor:
        """Add the sinusoid of each position, which counts on from the padding id, where a token is `real`."""
        check_positions(positions, self.config.max_positions)
        waves = sinusoids(positions + self.config.pad_token + 1, x.shape[-1]).to(x.dtype)
        placed: Tensor = self.dropout(x + (waves if real is None else waves * real[..., None]))
        return placed

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        return F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> SourceState:
        """What it carries from step to step: the decoder's keys and values in pages, and each row's source."""
        c = self.config
        sizes = c.n_decoder_layers, c.n_decoder_heads, c.head_size(c.n_decoder_heads)
        cache = PagedCache(*sizes, n_pages, page_size, dtype, device)
        return SourceState(cache, c.start_token, c.context_length, self.read)

    def read(self, ids: Tensor, lengths: list[int]) -> list[Kept]:
        """What the decoder's layers keep of each of the sources packed in ids [1, total], all encoded at once."""
        x, _ = self._embedded(ids, None, None)
        sight = Sight.packed(lengths, x.device)
        states = self.encoder(self._placed(x, sight.places), sight, Routing())
        layers = cast("Iterable[DecoderLayer]", self.decoder.layers)
        return kept(states, lengths, [layer.cross.keys_values for layer in layers])

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours; the sinusoids that older files store follow from the config."""
        return NLLB_NAMES.ours({n: t for n, t in state.items() if not n.endswith("embed_positions.weights")})

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        return NLLB_NAMES.theirs(state)


FAMILY = Family(
    name="gshard",
    model_types=("nllb-moe",),
    kind="encoder-decoder",
    config=GShardConfig,
    network=GShard,
    presets=PRESETS,
    objectives=("span", "seq2seq"),
    paper="Lepikhin et al., arXiv:2006.16668",
    aliases={"gshard": "nllb-moe"},
    sharding=ENCODER_DECODER,
)

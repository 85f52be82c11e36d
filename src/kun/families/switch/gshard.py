"""GShard: Lepikhin et al. (Google), arXiv:2006.16668, in the form of NLLB: Costa-jussà et al., arXiv:2207.04672.

A multilingual translation model. What differs from the Switch Transformer: a token goes to two experts, the
second in training only as often as its gate is large; positions are sinusoids (Vaswani et al., arXiv:1706.03762)
added to embeddings scaled by √d; norms have a mean, projections have biases, and scores are divided by √d.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.attention import attend, positions_of
from kun.blocks.experts import Router, Routes, mix, normalized, top2
from kun.families import Family
from kun.families.decoder import Context, embed
from kun.families.network import State, check_mask, check_positions, initialize
from kun.families.switch.gshard_config import PRESETS, GShardConfig
from kun.families.switch.masks import over_source, seen_by_all
from kun.families.switch.names import NLLB_NAMES
from kun.families.switch.output import ExpertOutput, Routing, router_losses

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

    def __init__(self, config: GShardConfig, n_heads: int) -> None:
        super().__init__()
        self.d_head, self.dropout = config.head_size(n_heads), config.attention_dropout
        self.q, self.k, self.v = (nn.Linear(config.d_model, n_heads * self.d_head) for _ in range(3))
        self.o = nn.Linear(n_heads * self.d_head, config.d_model)

    def queries(self, x: Tensor) -> Tensor:
        return self.q(x).unflatten(-1, (-1, self.d_head))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.k(x).unflatten(-1, (-1, self.d_head)), self.v(x).unflatten(-1, (-1, self.d_head))


class FeedForward(nn.Module):
    """down(relu(up(x))). Each expert is one."""

    def __init__(self, config: GShardConfig, d_ff: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(config.d_model, d_ff), nn.Linear(d_ff, config.d_model)
        self.activation, self.dropout = ACTIVATIONS[config.activation], nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.activation(self.up(x))))


class Experts(nn.Module):
    """A router, and the feed-forward networks to two of which it sends each token."""

    def __init__(self, config: GShardConfig, d_ff: int) -> None:
        super().__init__()
        self.config = config
        self.router = Router(config.d_model, config.n_experts, config.router_bias)
        self.experts = nn.ModuleList(FeedForward(config, d_ff) for _ in range(config.n_experts))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        logits = self.router(x)
        routing.logits.append(logits)
        routes = self.route(logits.flatten(0, 1), None if routing.real is None else routing.real.flatten())
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
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = Attention(config, config.n_encoder_heads)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.is_sparse = config.is_sparse(layer, encoder=True)
        self.mlp = (Experts if self.is_sparse else FeedForward)(config, config.d_encoder_ff)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, routing: Routing) -> Tensor:
        normed = self.attention_norm(x)
        q, (k, v) = self.attention.queries(normed), self.attention.keys_and_values(normed)
        mixed = attend(q, k, v, mask, dropout=self.attention.dropout if self.training else 0.0)
        x = x + self.dropout(self.attention.o(mixed.flatten(-2)))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class Encoder(nn.Module):
    """Every token sees every other."""

    def __init__(self, config: GShardConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, i) for i in range(config.n_encoder_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.dropped = config.encoder_layer_dropout

    def forward(self, x: Tensor, mask: Tensor | None, routing: Routing) -> Tensor:
        seen = None if mask is None else seen_by_all(mask)
        for layer in self.layers:
            if not _skipped(self):
                x = layer(x, seen, routing)
        return self.norm(x)


class DecoderLayer(nn.Module):
    """An encoder's layer with attention over the source between its two parts."""

    def __init__(self, config: GShardConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = Attention(config, config.n_heads)
        self.cross_norm = nn.LayerNorm(config.d_model)
        self.cross = Attention(config, config.n_heads)
        self.mlp_norm = nn.LayerNorm(config.d_model)
        self.is_sparse = config.is_sparse(layer, encoder=False)
        self.mlp = (Experts if self.is_sparse else FeedForward)(config, config.d_ff)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, context: Context, source: Tensor, source_mask: Tensor | None, routing: Routing
    ) -> Tensor:
        dropout = self.attention.dropout if self.training else 0.0
        normed = self.attention_norm(x)
        q, (k, v) = self.attention.queries(normed), self.attention.keys_and_values(normed)
        mixed = context.attend(self.layer, q, k, v, dropout=dropout)
        x = x + self.dropout(self.attention.o(mixed.flatten(-2)))
        k, v = self.cross.keys_and_values(source)
        mixed = attend(self.cross.queries(self.cross_norm(x)), k, v, source_mask, dropout=dropout)
        x = x + self.dropout(self.cross.o(mixed.flatten(-2)))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class Decoder(nn.Module):
    """Every token sees those before it, and the whole source."""

    def __init__(self, config: GShardConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.dropped = config.layer_dropout

    def forward(
        self, x: Tensor, context: Context, source: Tensor, source_mask: Tensor | None, routing: Routing
    ) -> Tensor:
        for layer in self.layers:
            if not _skipped(self):
                x = layer(x, context, source, source_mask, routing)
        return self.norm(x)


def _skipped(stack: Encoder | Decoder) -> bool:
    """LayerDrop: Fan et al., arXiv:1909.11556."""
    return stack.training and stack.dropped > 0 and float(torch.rand(())) < stack.dropped


class GShard(nn.Module):
    """The whole network; its head is the embedding where `tied` (then `lm_head` is None)."""

    def __init__(self, config: GShardConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model, padding_idx=config.pad_id)
        self.dropout = nn.Dropout(config.dropout)
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
            nn.init.zeros_(self.embed.weight[config.pad_id])

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        output_router_logits: bool = False,
    ) -> ExpertOutput:
        """Logits of padded targets, `decoder_input_ids` [b, t], after padded sources, `input_ids` [b, s].

        With `output_router_logits` the routers' logits [b · s or t, n_experts] and their losses come too.
        Raises BadInput for an id outside the vocabulary and for a position beyond the longest.
        """
        x, mask = self._embedded(input_ids, inputs_embeds, attention_mask)
        reading = Routing(mask)
        source = self.encoder(x, mask, reading)
        y, target_mask = self._embedded(decoder_input_ids, decoder_inputs_embeds, decoder_attention_mask)
        context = Context.of(y, target_mask, None, None, None, longest=self.config.max_positions)
        writing = Routing(target_mask)
        logits = self.head(self.decoder(y, context, source, over_source(mask), writing))
        if not output_router_logits:
            return ExpertOutput(logits, source)
        read, written = (router_losses(r.logits, 2, r.real, by_row=False) for r in (reading, writing))
        reader, writer = (tuple(each.flatten(0, 1) for each in r.logits) for r in (reading, writing))
        return ExpertOutput(logits, source, reader, writer, *read, *written)

    def _embedded(
        self, ids: Tensor | None, embeds: Tensor | None, attention_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Token states with their positions added, and the padding mask; padding has no position.

        Without a mask, ids that are padding are not counted either, and yet are seen, as in the reference.
        """
        x = embed(self.embed, self.config.vocab_size, ids, embeds)
        if embeds is None and self.config.scale_embedding:
            x = x * self.config.d_model**0.5
        mask = check_mask(attention_mask, x.shape[:2])
        real = ids != self.config.pad_id if attention_mask is None and ids is not None else mask
        positions = positions_of(real, x.shape[1], x.device)
        return self.dropout(self.place(x, positions, real)), mask

    def place(self, x: Tensor, positions: Tensor, real: Tensor | None = None) -> Tensor:
        """Add the sinusoid of each position, which counts on from the padding id, where a token is real."""
        check_positions(positions, self.config.max_positions)
        waves = sinusoids(positions + self.config.pad_id + 1, x.shape[-1]).to(x.dtype)
        return x + (waves if real is None else waves * real[..., None])

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        return F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours; the sinusoids that older files store follow from the config."""
        return NLLB_NAMES.ours({n: t for n, t in state.items() if not n.endswith("embed_positions.weights")})

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        return NLLB_NAMES.theirs(state)


FAMILY = Family("gshard", GShardConfig, GShard, "encoder-decoder", ("nllb-moe",))

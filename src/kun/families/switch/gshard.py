"""GShard: Lepikhin et al. (Google), arXiv:2006.16668, in the form of NLLB: Costa-jussà et al., arXiv:2207.04672.

A multilingual translation model. What differs from the Switch Transformer: a token goes to two experts, the
second in training only as often as its gate is large; positions are sinusoids (Vaswani et al., arXiv:1706.03762)
added to embeddings scaled by √d; norms have a mean, projections have biases, and scores are divided by √d.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.attention import positions_of
from kun.blocks.dropout import Dropout
from kun.blocks.experts import Experts, Router, Routes, normalized, top2
from kun.blocks.feed_forward import FeedForward
from kun.families.switch.gshard_config import PRESETS, GShardConfig
from kun.families.switch.layers import DecoderLayer, EncoderLayer
from kun.families.switch.names import COPIES, NLLB_NAMES
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import Context
from kun.networks.experts import ExpertNetwork
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.multi_head import MultiHeadAttention
from kun.networks.network import check_positions, initialize
from kun.networks.source import Source


def sinusoids(positions: Tensor, d_model: int) -> Tensor:
    """float32 [..., d_model] for positions [...]: sines in the first half, cosines in the second.

    Wavelengths go from 2π to 10000 · 2π, both included, which is not quite what the paper writes down.
    """
    half = d_model // 2
    turns = torch.exp(torch.arange(half, device=positions.device) * (-log(10000) / (half - 1)))
    angles = positions[..., None].float() * turns
    return F.pad(torch.cat((angles.sin(), angles.cos()), dim=-1), (0, d_model % 2))


class GShardExperts(Experts):
    """A router, and the feed-forward networks to two of which it sends each token."""

    def __init__(self, config: GShardConfig, d_ff: int) -> None:
        router = Router(config.d_model, config.n_experts, config.router_bias)
        super().__init__(router, (_feed_forward(config, d_ff) for _ in range(config.n_experts)))
        self.config = config

    def route(self, logits: Tensor, real: Tensor | None) -> Routes:
        """Some tokens go nowhere, in training alone."""
        config, logits = self.config, logits.flatten(0, 1)
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


class Stack(nn.Module):
    """Layers, a share `dropout` of which is left out in training (Fan et al., arXiv:1909.11556), and a last norm."""

    def __init__(self, config: GShardConfig, layers: Iterable[nn.Module], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm, self.dropout = nn.LayerNorm(config.d_model), dropout

    def forward(self, x: Tensor, *shared: object) -> Tensor:
        """States [b, t, d_model] of embedded tokens; each layer is called with no bias and what they share."""
        for layer in self.layers:
            if not (self.training and self.dropout > 0 and float(torch.rand(())) < self.dropout):
                x = layer(x, None, *shared)
        return self.norm(x)


class GShard(ExpertNetwork):
    """An encoder and a decoder with one embedding; `lm_head` is None where the embedding is the head."""

    config: GShardConfig
    names = NLLB_NAMES

    def __init__(self, config: GShardConfig) -> None:
        super().__init__(config, config.pad_token)
        self.dropout = Dropout(config.dropout)
        encoder = (
            EncoderLayer(
                lambda: nn.LayerNorm(config.d_model),
                _attention(config, config.n_heads),
                _mlp(config, config.d_ff, sparse=config.is_sparse(layer, encoder=True)),
                config.dropout,
            )
            for layer in range(config.n_layers)
        )
        decoder = (
            DecoderLayer(
                lambda: nn.LayerNorm(config.d_model),
                _attention(config, config.n_decoder_heads, layer),
                _attention(config, config.n_decoder_heads, layer),
                _mlp(config, config.d_decoder_ff, sparse=config.is_sparse(layer, encoder=False)),
                config.dropout,
            )
            for layer in range(config.n_decoder_layers)
        )
        self.encoder = Stack(config, encoder, config.layer_dropout)
        self.decoder = Stack(config, decoder, config.decoder_layer_dropout)
        self.lm_head = self.untied_head()
        self.aliases = {**self.aliases, **dict.fromkeys(COPIES, "embed.weight")}
        initialize(self)
        if not self.embed.weight.is_meta:
            nn.init.zeros_(self.embed.weight[config.pad_token])

    def embedded(self, ids: Tensor | None, embeds: Tensor | None) -> Tensor:
        x = super().embedded(ids, embeds)
        return x * self.config.d_model**0.5 if embeds is None and self.config.scale_embedding else x

    def positions(self, ids: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
        """Those of real tokens, -1 for others; without a mask padding ids have none and yet are seen, as in NLLB."""
        if attention_mask is not None:
            real = attention_mask.bool()
        elif ids is not None:
            real = ids.ne(self.config.pad_token)
        else:
            return None
        return positions_of(real, real.shape[1], real.device).masked_fill(~real, -1)

    def encoded(self, x: Tensor, mask: AttentionMask) -> Tensor:
        return self.encoder(self.placed(x, mask.positions), mask)

    def begin(self, x: Tensor, context: Context) -> Tensor:
        return self.placed(x, context.positions)

    def decoded(self, x: Tensor, context: Context, source: Source) -> Tensor:
        return self.decoder(x, context, source)

    def placed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Embeddings with the sinusoids of their positions, which count on from the padding id, added."""
        check_positions(positions.clamp(min=0), self.config.max_positions)
        waves = sinusoids(positions + self.config.pad_token + 1, x.shape[-1]).to(x.dtype)
        return self.dropout(x + waves * (positions >= 0)[..., None])


def _attention(config: GShardConfig, n_heads: int, layer: int = 0) -> MultiHeadAttention:
    sizes = config.d_model, n_heads, config.head_size(n_heads)
    return MultiHeadAttention(*sizes, layer=layer, dropout=config.attention_dropout)


def _feed_forward(config: GShardConfig, d_ff: int) -> FeedForward:
    return FeedForward(config.d_model, d_ff, config.activation, dropout=config.activation_dropout)


def _mlp(config: GShardConfig, d_ff: int, *, sparse: bool) -> GShardExperts | FeedForward:
    return GShardExperts(config, d_ff) if sparse else _feed_forward(config, d_ff)


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

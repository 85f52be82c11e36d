"""Switch Transformers: Fedus, Zoph and Shazeer (Google), arXiv:2101.03961.

What differs from T5 (arXiv:1910.10683), whose encoder and decoder it is: in every second layer the
feed-forward network is one of many experts, and a router sends each token to just one of them, so that the
parameters grow and the work for a token does not. As in T5 the norm is RMS and comes first, attention is not
divided by √d and has a bias for each head and distance in place of positions, and nothing else has a bias.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.attention import attend, biased, positions_of
from kun.blocks.experts import Router, mix, top1
from kun.blocks.norm import RMSNorm
from kun.blocks.relative import RelativeBias
from kun.families import Family
from kun.families.decoder import Context, embed
from kun.families.fields import LARGEST
from kun.families.network import State, check_mask
from kun.families.switch.masks import over_source, seen_by_all
from kun.families.switch.names import switch_names
from kun.families.switch.output import ExpertOutput, Routing, router_losses
from kun.families.switch.switch_config import PRESETS, SwitchConfig

__all__ = ["FAMILY", "PRESETS", "Switch", "SwitchConfig"]


class Attention(nn.Module):
    """Scores are not divided by √d: the initial query weights are smaller by as much."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.d_head, wide = config.d_head, config.n_heads * config.d_head
        self.q, self.k, self.v = (nn.Linear(config.d_model, wide, bias=False) for _ in range(3))
        self.o = nn.Linear(wide, config.d_model, bias=False)

    def queries(self, x: Tensor) -> Tensor:
        return self.q(x).unflatten(-1, (-1, self.d_head))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.k(x).unflatten(-1, (-1, self.d_head)), self.v(x).unflatten(-1, (-1, self.d_head))


class FeedForward(nn.Module):
    """down(relu(up(x))), or down(gelu(gate(x)) · up(x)) where `gated`. Each expert is one."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False) if config.gated else None
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.activation, self.dropout = ACTIVATIONS[config.activation], nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.activation((self.up if self.gate is None else self.gate)(x))
        return self.down(self.dropout(wide if self.gate is None else wide * self.up(x)))


class Experts(nn.Module):
    """A router, and the feed-forward networks to one of which it sends each token."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.config = config
        self.router = Router(config.d_model, config.n_experts, config.router_bias, config.jitter)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(config.n_experts))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        rows, length, _ = x.shape
        logits = self.router(x)
        routing.logits.append(logits)
        routes = top1(logits.flatten(0, 1), None if routing.real is None else routing.real.flatten())
        if self.training:
            row = torch.arange(rows, device=x.device).repeat_interleave(length)
            routes = routes.within(self.config.capacity(length), group=row)
        return mix(x.flatten(0, 1), routes, self.experts).view_as(x)


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: SwitchConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.is_sparse = config.is_sparse(layer, encoder=True)
        self.mlp = Experts(config) if self.is_sparse else FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, routing: Routing) -> Tensor:
        normed = self.attention_norm(x)
        q, (k, v) = self.attention.queries(normed), self.attention.keys_and_values(normed)
        mixed = attend(q, k, v, mask, scale=1.0, dropout=self.dropout.p if self.training else 0.0)
        x = x + self.dropout(self.attention.o(mixed.flatten(-2)))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class Encoder(nn.Module):
    """Every token sees every other; one relative bias serves all layers."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.relative = RelativeBias(config.n_heads, config.n_buckets, config.max_distance, both_sides=True)
        self.layers = nn.ModuleList(EncoderLayer(config, i) for i in range(config.n_encoder_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, routing: Routing) -> Tensor:
        places = positions_of(mask, x.shape[1], x.device)
        bias = self.relative(places, places).to(x.dtype)
        seen = bias if mask is None else biased(bias, seen_by_all(mask), x.dtype)
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, seen, routing)
        return self.dropout(self.norm(x))


class DecoderLayer(nn.Module):
    """An encoder's layer with attention over the source between its two parts."""

    def __init__(self, config: SwitchConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.cross_norm = RMSNorm(config.d_model, config.norm_eps)
        self.cross = Attention(config)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.is_sparse = config.is_sparse(layer, encoder=False)
        self.mlp = Experts(config) if self.is_sparse else FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        bias: RelativeBias,
        context: Context,
        source: Tensor,
        source_mask: Tensor | None,
        routing: Routing,
    ) -> Tensor:
        dropout = self.dropout.p if self.training else 0.0
        normed = self.attention_norm(x)
        q, (k, v) = self.attention.queries(normed), self.attention.keys_and_values(normed)
        mixed = context.attend(self.layer, q, k, v, bias=bias, scale=1.0, dropout=dropout)
        x = x + self.dropout(self.attention.o(mixed.flatten(-2)))
        k, v = self.cross.keys_and_values(source)
        mixed = attend(self.cross.queries(self.cross_norm(x)), k, v, source_mask, scale=1.0, dropout=dropout)
        x = x + self.dropout(self.cross.o(mixed.flatten(-2)))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class Decoder(nn.Module):
    """Every token sees those before it, and the whole source."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.relative = RelativeBias(config.n_heads, config.n_buckets, config.max_distance, both_sides=False)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, context: Context, source: Tensor, source_mask: Tensor | None, routing: Routing
    ) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, self.relative, context, source, source_mask, routing)
        return self.dropout(self.norm(x))


class Switch(nn.Module):
    """The whole network; its head is the embedding where `tied` (then `lm_head` is None)."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        tables = (
            "encoder.embed.weight",
            "decoder.embed.weight",
            *(["lm_head.weight"] if config.tied else []),
        )
        self.aliases = dict.fromkeys(tables, "embed.weight")
        _initialize(self)

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

        With `output_router_logits` the routers' logits [b, s or t, n_experts] and their losses come too.
        Raises BadInput for an id outside the vocabulary.
        """
        config = self.config
        x = embed(self.embed, config.vocab_size, input_ids, inputs_embeds)
        mask = check_mask(attention_mask, x.shape[:2])
        reading = Routing(mask)
        source = self.encoder(x, mask, reading)
        y = embed(self.embed, config.vocab_size, decoder_input_ids, decoder_inputs_embeds)
        context = Context.of(y, decoder_attention_mask, None, None, None, longest=LARGEST)
        writing = Routing(check_mask(decoder_attention_mask, y.shape[:2]))
        logits = self.head(self.decoder(y, context, source, over_source(mask), writing))
        if not output_router_logits:
            return ExpertOutput(logits, source)
        read, written = (router_losses(r.logits, 1, r.real, by_row=True) for r in (reading, writing))
        return ExpertOutput(logits, source, tuple(reading.logits), tuple(writing.logits), *read, *written)

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]; a tied head is scaled as in T5."""
        if self.lm_head is not None:
            return self.lm_head(x)
        return F.linear(x * self.config.d_model**-0.5, self.embed.weight)

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours."""
        return switch_names(state).ours(state)

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        return switch_names(state).theirs(state)


def _initialize(net: Switch) -> None:
    """A tenth of the usual variance, cut off at two deviations: section 2.4 of the paper. Nothing on meta."""
    for module in net.modules():
        if isinstance(module, nn.Linear) and not module.weight.is_meta:
            std = (0.1 / module.in_features) ** 0.5
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, RelativeBias) and not module.weight.is_meta:
            nn.init.normal_(module.weight, std=net.config.d_model**-0.5)


FAMILY = Family("switch", SwitchConfig, Switch, "encoder-decoder", ("switch_transformers",))

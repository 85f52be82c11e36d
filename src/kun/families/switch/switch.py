"""Switch Transformers: Fedus, Zoph and Shazeer (Google), arXiv:2101.03961.

What differs from T5 (arXiv:1910.10683), whose encoder and decoder it is: in every second layer the
feed-forward network is one of many experts, and a router sends each token to just one of them, so that the
parameters grow and the work for a token does not. As in T5 the norm is RMS and comes first, attention is not
divided by √d and has a bias for each head and distance in place of positions, and nothing else has a bias.
"""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.cache import CacheStep, PagedCache
from kun.blocks.dropout import Dropout
from kun.blocks.experts import Bank, Router, mix, top1
from kun.blocks.norm import RMSNorm
from kun.blocks.relative import RelativeBias
from kun.families.switch.names import switch_names
from kun.families.switch.output import ExpertOutput, Routing, router_losses
from kun.families.switch.switch_config import PRESETS, SwitchConfig
from kun.networks.decoder import Context, embed
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.names import State
from kun.networks.network import check_mask
from kun.networks.source import Kept, PaddedSource, Sight, Source, SourceState, kept, source_of

__all__ = ["FAMILY", "PRESETS", "Switch", "SwitchConfig"]


class Attention(nn.Module):
    """T5's: scores are not divided by √d, since the initial query weights are smaller by as much."""

    def __init__(self, config: SwitchConfig, layer: int = 0) -> None:
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
        q, (k, v) = self.queries(x), self.keys_values(x)
        return self.o(sight.attend(q, k, v, bias=bias, scale=1.0, dropout=self._drop).flatten(-2))

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
    """down(relu(up(x))), or down(gelu(gate(x)) · up(x)) where `gated`. Each expert is one."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False) if config.gated else None
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.activation, self.dropout = ACTIVATIONS[config.activation], Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        hidden = self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up
        return self.down(self.dropout(hidden))


class Experts(nn.Module):
    """A router, and the feed-forward networks to one of which it sends each token."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.config = config
        self.router = Router(config.d_model, config.n_experts, config.router_bias, config.jitter)
        self.experts = Bank(FeedForward(config) for _ in range(config.n_experts))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        rows, length, _ = x.shape
        logits = self.router(x)
        routing.logits.append(logits)
        routes = top1(logits.flatten(0, 1), routing.flat)
        if self.training:
            row = torch.arange(rows, device=x.device).repeat_interleave(length)
            routes = routes.within(self.config.capacity(length), group=row)
        return mix(x.flatten(0, 1), routes, self.experts).view_as(x)


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: SwitchConfig, layer: int) -> None:
        super().__init__()
        self.is_sparse = config.is_sparse(layer, encoder=True)
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = Experts(config) if self.is_sparse else FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight, bias: RelativeBias, routing: Routing) -> Tensor:
        x = x + self.dropout(self.attention.among(self.attention_norm(x), sight, bias))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), x + attention across(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: SwitchConfig, layer: int) -> None:
        super().__init__()
        self.is_sparse = config.is_sparse(layer, encoder=False)
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.cross_norm = RMSNorm(config.d_model, config.norm_eps)
        self.cross = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = Experts(config) if self.is_sparse else FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, context: Context, bias: RelativeBias, source: Source, routing: Routing
    ) -> Tensor:
        x = x + self.dropout(self.attention.back(self.attention_norm(x), context, bias))
        x = x + self.dropout(self.cross.across(self.cross_norm(x), source))
        normed = self.mlp_norm(x)
        return x + self.dropout(self.mlp(normed, routing) if self.is_sparse else self.mlp(normed))


class Encoder(nn.Module):
    """Layers over a source, the bias that they share, and a last norm."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.relative = RelativeBias(config.n_heads, config.buckets, config.max_distance, both_ways=True)
        self.layers = nn.ModuleList(EncoderLayer(config, i) for i in range(config.n_layers))
        self.norm, self.dropout = RMSNorm(config.d_model, config.norm_eps), Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight, routing: Routing) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, sight, self.relative, routing)
        return self.dropout(self.norm(x))


class Decoder(nn.Module):
    """Layers over what was written, the bias that they share, and a last norm."""

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__()
        self.relative = RelativeBias(config.n_heads, config.buckets, config.max_distance, both_ways=False)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_decoder_layers))
        self.norm, self.dropout = RMSNorm(config.d_model, config.norm_eps), Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context, source: Source, routing: Routing) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, context, self.relative, source, routing)
        return self.dropout(self.norm(*context.narrow(x)))


class Switch(nn.Module):
    """An encoder and a decoder with one embedding; `lm_head` is None where the embedding is the head."""

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
        self._initialize()

    def _initialize(self) -> None:
        """A tenth of the usual variance, cut off at two deviations: section 2.4 of the paper."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:
                std = (0.1 / module.in_features) ** 0.5
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            elif isinstance(module, RelativeBias) and not module.table.weight.is_meta:
                nn.init.normal_(module.table.weight, std=self.config.d_model**-0.5)

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
        [b, s or t, n_experts] each, and their losses come too. Raises BadInput for an id outside the vocabulary.
        """
        states, source, reading = encoder_last_hidden_state, source_of(cache), Routing()
        if source is None:
            if states is None:
                x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
                reading = Routing(check_mask(attention_mask, x.shape[:2]))
                states = self.encoder(x, Sight.padded(x, reading.real), reading)
            source = PaddedSource(states, check_mask(attention_mask, states.shape[:2]))
            input_ids, inputs_embeds = decoder_input_ids, decoder_inputs_embeds
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        context = Context.of(x, decoder_attention_mask, positions, cache, logits_at)
        writing = Routing(check_mask(decoder_attention_mask, x.shape[:2]))
        logits = self.head(self.decoder(x, context, source, writing))
        if not output_router_logits:
            return ExpertOutput(logits, states)
        read, written = (router_losses(r, 1, by_row=True) for r in (reading, writing))
        return ExpertOutput(logits, states, tuple(reading.logits), tuple(writing.logits), *read, *written)

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]; a tied head is scaled as in T5."""
        if self.config.tied:
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
        states = self.encoder(x, Sight.packed(lengths, x.device), Routing())
        layers = cast("Iterable[DecoderLayer]", self.decoder.layers)
        return kept(states, lengths, [layer.cross.keys_values for layer in layers])

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours."""
        return switch_names(state).ours(state)

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        return switch_names(state).theirs(state)


FAMILY = Family(
    name="switch",
    model_types=("switch_transformers",),
    kind="encoder-decoder",
    config=SwitchConfig,
    network=Switch,
    presets=PRESETS,
    objectives=("span", "seq2seq"),
    paper="Fedus et al., arXiv:2101.03961",
    aliases={"switch": "switch_transformers"},
    sharding=ENCODER_DECODER,
)

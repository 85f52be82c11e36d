"""Switch Transformers: Fedus, Zoph and Shazeer (Google), arXiv:2101.03961.

What differs from T5 (arXiv:1910.10683), whose encoder and decoder it is: in every second layer the
feed-forward network is one of many experts, and a router sends each token to just one of them, so that the
parameters grow and the work for a token does not. As in T5 the norm is RMS and comes first, attention is not
divided by √d and has a bias for each head and distance in place of positions, and nothing else has a bias.
"""

from functools import partial

import torch
from torch import Tensor, nn

from kun.blocks.experts import Experts, Router, Routes, top1
from kun.blocks.feed_forward import FeedForward
from kun.blocks.norm import RMSNorm
from kun.blocks.relative import RelativeBias
from kun.families.switch.layers import DecoderLayer, EncoderLayer
from kun.families.switch.names import COPIES, ExpertNames
from kun.families.switch.switch_config import PRESETS, SwitchConfig
from kun.families.t5 import Stack, attention, feed_forward, stack_pairs
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import Context
from kun.networks.experts import ExpertNetwork
from kun.networks.family import ENCODER_DECODER, Family
from kun.networks.names import Names
from kun.networks.source import Source


class SwitchExperts(Experts):
    """A router, and the feed-forward networks to one of which it sends each token."""

    def __init__(self, config: SwitchConfig) -> None:
        router = Router(config.d_model, config.n_experts, config.router_bias, config.jitter)
        super().__init__(router, (feed_forward(config) for _ in range(config.n_experts)))
        self.config = config

    def route(self, logits: Tensor, real: Tensor | None) -> Routes:
        rows, length, _ = logits.shape
        routes = top1(logits.flatten(0, 1), real)
        if not self.training:
            return routes
        row = torch.arange(rows, device=logits.device).repeat_interleave(length)
        return routes.within(self.config.capacity(length), group=row)


class Switch(ExpertNetwork):
    """An encoder and a decoder with one embedding; `lm_head` is None where the embedding is the head."""

    config: SwitchConfig
    even_rows = True

    def __init__(self, config: SwitchConfig) -> None:
        super().__init__(config)
        # the reference's class knows no gated units: where a network has them, they are T5's
        self.names = ExpertNames(Names((("embed", "shared"),)), *stack_pairs("mlp", gated=config.gated))
        norm = partial(RMSNorm, config.d_model, config.norm_eps)
        self.encoder = Stack(
            config,
            (
                EncoderLayer(norm, attention(config), _mlp(config, layer, encoder=True), config.dropout)
                for layer in range(config.n_layers)
            ),
            both_ways=True,
        )
        self.decoder = Stack(
            config,
            (
                DecoderLayer(
                    norm,
                    attention(config, layer),
                    attention(config, layer),
                    _mlp(config, layer, encoder=False),
                    config.dropout,
                )
                for layer in range(config.n_decoder_layers)
            ),
            both_ways=False,
        )
        self.lm_head = self.untied_head()
        self.aliases = {**self.aliases, **dict.fromkeys(COPIES, "embed.weight")}
        self._initialize()

    def _initialize(self) -> None:
        """A tenth of the usual variance, cut off at two deviations: section 2.4 of the paper."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:
                std = (0.1 / module.in_features) ** 0.5
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            elif isinstance(module, RelativeBias) and not module.table.weight.is_meta:
                nn.init.normal_(module.table.weight, std=self.config.d_model**-0.5)

    def encoded(self, x: Tensor, mask: AttentionMask) -> Tensor:
        return self.encoder(x, mask)

    def decoded(self, x: Tensor, context: Context, source: Source) -> Tensor:
        return self.decoder(x, context, source)

    def head(self, states: Tensor) -> Tensor:
        """A tied head is scaled as in T5."""
        return super().head(states * self.config.d_model**-0.5 if self.config.tied else states)


def _mlp(config: SwitchConfig, layer: int, *, encoder: bool) -> SwitchExperts | FeedForward:
    return SwitchExperts(config) if config.is_sparse(layer, encoder=encoder) else feed_forward(config)


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

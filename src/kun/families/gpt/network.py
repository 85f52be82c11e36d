"""The GPT network: two orders of the same layer, and what is around the layers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.cache import CacheStep
from kun.blocks.dropout import Dropout
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.names import from_hf_names, to_hf_names
from kun.networks.decoder import Context, embed
from kun.networks.decoding import DecodingState
from kun.networks.network import DecoderOutput, State, initialize


class Attention(nn.Module):
    """Causal self-attention with as many keys as queries, over all tokens or a band of the last ones."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.d_head, config.attention_dropout
        self.window = config.window_of(layer)
        size, bias = config.d_model, config.attention_bias
        self.q, self.k, self.v = (nn.Linear(size, size, bias=bias) for _ in range(3))
        self.o = nn.Linear(size, size)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        dropout = self.dropout if self.training else 0.0
        return context.attend(self.layer, q, k, v, window=self.window, dropout=dropout).flatten(-2)


class FeedForward(nn.Module):
    """down(gelu(up(x)))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Layer(nn.Module):
    """The parts of a layer, which GPT-1 and its successors put together in different order."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.is_last = layer == config.n_layers - 1
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config)
        self.dropout = Dropout(config.dropout)


class PostNormLayer(Layer):
    """GPT-1: x = norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        mixed = self.attention(x, context)
        if self.is_last:
            x, mixed = context.narrow(x, mixed)
        x = self.attention_norm(x + self.dropout(self.attention.o(mixed)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class PreNormLayer(Layer):
    """From GPT-2 on: x = x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        mixed = self.attention(self.attention_norm(x), context)
        if self.is_last:
            x, mixed = context.narrow(x, mixed)
        x = x + self.dropout(self.attention.o(mixed))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class GPT(nn.Module):
    """A GPT with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.max_positions, config.d_model)
        self.dropout = Dropout(config.embedding_dropout)
        layer = PreNormLayer if config.norm_first else PostNormLayer
        self.layers = nn.ModuleList(layer(config, i) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps) if config.norm_first else nn.Identity()
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.aliases = {"lm_head.weight": "embed.weight"} if config.tied else {}
        initialize(self)
        if not config.norm_first:
            return
        # What ends in the residual stream starts smaller by the root of how many terms add up there.
        shrunk = 0.02 / (2 * config.n_layers) ** 0.5
        for name, weight in self.named_parameters():
            if name.endswith(("attention.o.weight", "mlp.down.weight")) and not weight.is_meta:
                nn.init.normal_(weight, std=shrunk)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
    ) -> DecoderOutput:
        """Logits for padded rows, `input_ids` and `attention_mask` [b, t], or for one step over a cache.

        With `cache`, `input_ids` [1, total] are the new tokens of all rows, packed. `logits_at` [m] picks
        the tokens (places in t) whose logits are wanted. Raises BadInput for an id outside the vocabulary
        and for a position beyond the table.
        """
        config = self.config
        x = embed(self.embed, config.vocab_size, input_ids, inputs_embeds)
        limit, windows = config.max_positions, {config.window_of(layer) for layer in range(config.n_layers)}
        context = Context.of(x, attention_mask, positions, cache, logits_at, longest=limit, windows=windows)
        x = self.dropout(x + self.positions(context.positions))
        for layer in self.layers:
            x = layer(x, context)
        return DecoderOutput(self.head(self.norm(x)))

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        return F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> DecodingState:
        """What it carries from step to step: keys and values in `n_pages` pages of `page_size` tokens."""
        return DecodingState.of(self.config, n_pages, page_size, dtype, device)

    def from_hf_names(self, state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names and layout to ours."""
        return from_hf_names(self.config, state)

    def to_hf_names(self, state: Mapping[str, Tensor]) -> State:
        """Our names and layout to Hugging Face's."""
        return to_hf_names(self.config, state)

"""What decoders share, and the two ways to call one, told apart in one place: padded rows, or one packed step."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.attention import Bias, attend, biased, causal_mask, positions_of
from kun.blocks.cache import CacheStep
from kun.blocks.experts import Routing
from kun.errors import BadInput
from kun.networks.decoding import DecodingState
from kun.networks.network import (
    DecoderOutput,
    LanguageNetwork,
    TextConfig,
    check_ids,
    check_mask,
    check_positions,
    compilable,
)


@dataclass
class Context:
    """What the layers of one forward pass share.

    `positions` [b, t] of the tokens; the `cache`'s step, or a mask for each window. Experts, where a network has
    some, note in `routing` what they do.
    """

    positions: Tensor
    cache: CacheStep | None
    masks: dict[int | None, Tensor | None]
    biased: dict[tuple[int | None, Bias], Tensor] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)

    @classmethod
    def of(
        cls,
        x: Tensor,
        attention_mask: Tensor | None,
        positions: Tensor | None,
        cache: CacheStep | None,
        *,
        longest: int | None = None,
        windows: Iterable[int | None] = (None,),
    ) -> "Context":
        """The context for embedded tokens x [b, t, d_model].

        BadInput for a position of `longest` or more, where the positions of the network have an end.
        """
        if cache is not None:
            if x.shape[:2] != (1, cache.total):
                raise BadInput(f"The step has {cache.total} tokens, the input shape {list(x.shape[:2])}.")
            positions = cache.positions if positions is None else positions
            check_positions(positions, longest)
            return cls(positions, cache, {})
        mask = check_mask(attention_mask, x.shape[:2], documents=True, branches=True)
        length, device = x.shape[1], x.device
        positions = positions_of(mask, length, device) if positions is None else positions
        check_positions(positions, longest)
        return cls(positions, None, {w: causal_mask(mask, length, w, device) for w in windows})

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        window: int | None = None,
        bias: Bias | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attention of q [b, t, heads, d_head] over k, v [b, t, kv_heads, d_head], and over the cache.

        `bias` is added to the scores, by the places of query and key; `scale` is 1/√d_head where it is None.
        """
        if self.cache is not None:
            return self.cache.attend(layer, q, k, v, window, bias=bias, scale=scale)
        mask = self.masks[window] if bias is None else self._biased(window, bias, q)
        return attend(q, k, v, mask, causal=mask is None, dropout=dropout, scale=scale)

    def _biased(self, window: int | None, bias: Bias, q: Tensor) -> Tensor:
        """The mask with the bias, made once for all layers."""
        if (window, bias) not in self.biased:
            mask = self.masks[window]
            if mask is None:
                ones = torch.ones(1, q.shape[1], dtype=torch.bool, device=q.device)
                mask = causal_mask(ones, q.shape[1], window, q.device)
                assert mask is not None
            places = self.positions
            self.biased[window, bias] = biased(bias(places, places), mask, q.dtype)
        return self.biased[window, bias]


def embed(table: nn.Module, vocab_size: int, ids: Tensor | None, embeds: Tensor | None) -> Tensor:
    """Token states [b, t, d_model] from ids, or given as they are; BadInput unless one of them is there."""
    if embeds is not None and ids is None:
        return embeds
    if ids is None or embeds is not None:
        raise BadInput("A network takes either input_ids or inputs_embeds.")
    if ids.dim() != 2:
        raise BadInput(f"input_ids must be [rows, tokens], not of shape {list(ids.shape)}.")
    if not ids.shape[1]:
        raise BadInput("input_ids hold rows without a token; a row needs at least one.")
    check_ids(ids, vocab_size)
    embedded: Tensor = table(ids)
    return embedded


class DecoderConfig(TextConfig, Protocol):
    """What a decoder's parts are made by."""

    @property
    def n_kv_heads(self) -> int: ...

    @property
    def d_head(self) -> int: ...

    @property
    def tied(self) -> bool:
        """True where the head repeats the embedding."""


class Decoder(LanguageNetwork):
    """What all decoders share: an embedding, `layers`, a last norm, and a head, which is the embedding where `tied`.

    A family adds its `layers`, says in `begin` what they get, and which windows its layers have.
    """

    config: DecoderConfig
    layers: nn.ModuleList
    norm: nn.Module
    lm_head: nn.Linear | None

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        if config.tied:
            self.aliases = {"lm_head.weight": "embed.weight"}

    def untied_head(self) -> nn.Linear | None:
        """A new head, None where the embedding is the head."""
        config = self.config
        return None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)

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
        and for a position beyond the context, where there is an end of it.
        """
        states = self.states(
            input_ids, attention_mask, inputs_embeds=inputs_embeds, positions=positions, cache=cache
        )
        return DecoderOutput(self.head(states if logits_at is None else states[:, logits_at]))

    @compilable
    def states(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
    ) -> Tensor:
        """The last hidden states [b, t, d_model] of what `forward` is called with; raises what it raises."""
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        return self.transform(x, self.context(x, input_ids, attention_mask, positions, cache))

    def context(
        self,
        x: Tensor,
        ids: Tensor | None,
        attention_mask: Tensor | None,
        positions: Tensor | None,
        cache: CacheStep | None,
    ) -> Context:
        """What the layers share in one pass over embedded tokens x [b, t, d_model], whose `ids` may be unknown."""
        end, windows = self.longest(cache is not None), self.windows()
        return Context.of(x, attention_mask, positions, cache, longest=end, windows=windows)

    def longest(self, cached: bool) -> int | None:
        """Tokens that a row may have, over a cache or without one; None where there is no end."""
        return self.config.context_length

    def windows(self) -> set[int | None]:
        """The windows that its layers see, None for all tokens before."""
        return {None}

    def begin(self, x: Tensor, context: Context) -> tuple[Tensor, tuple[object, ...]]:
        """Embedded tokens [b, t, d_model] as the first layer reads them, and what all layers get besides."""
        return x, ()

    def transform(self, x: Tensor, context: Context) -> Tensor:
        """The last hidden states [b, t, d_model] of embedded tokens, normed as the head reads them."""
        return self.through(*self.begin(x, context), context)

    def through(self, x: Tensor, shared: tuple[object, ...], context: Context) -> Tensor:
        """What the layers and the last norm make of what `begin` gave: [b, t, d_model]."""
        for layer in self.layers:
            x = layer(x, *shared, context)
        return self.norm(x)

    def head(self, states: Tensor) -> Tensor:
        return F.linear(states, self.embed.weight) if self.lm_head is None else self.lm_head(states)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        return self.embed(ids)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> DecodingState:
        """What it carries from step to step: keys and values in `n_pages` pages of `page_size` tokens."""
        return DecodingState.of(self.config, n_pages, page_size, dtype, device)

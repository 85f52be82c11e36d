"""The two ways to call a decoder, told apart in one place: padded rows, or one packed step over a cache."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kun.blocks.attention import Bias, attend, biased, causal_mask, positions_of
from kun.blocks.cache import CacheStep
from kun.errors import BadInput
from kun.networks.network import check_ids, check_mask, check_positions


@dataclass
class Context:
    """What the layers of one forward pass share.

    `positions` [b, t] of the tokens; the `cache`'s step, or a mask for each window; `wanted` [m], the
    places in t whose logits are asked for, or None for all.
    """

    positions: Tensor
    cache: CacheStep | None
    masks: dict[int | None, Tensor | None]
    wanted: Tensor | None
    biased: dict[tuple[int | None, Bias], Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        x: Tensor,
        attention_mask: Tensor | None,
        positions: Tensor | None,
        cache: CacheStep | None,
        wanted: Tensor | None,
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
            return cls(positions, cache, {}, wanted)
        mask = check_mask(attention_mask, x.shape[:2], documents=True)
        length, device = x.shape[1], x.device
        positions = positions_of(mask, length, device) if positions is None else positions
        check_positions(positions, longest)
        return cls(positions, None, {w: causal_mask(mask, length, w, device) for w in windows}, wanted)

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

    def narrow(self, *states: Tensor) -> tuple[Tensor, ...]:
        """States [b, t, …] of the wanted tokens alone.

        After the last attention no token needs another, so the rest need not be run.
        """
        return states if self.wanted is None else tuple(state[:, self.wanted] for state in states)


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

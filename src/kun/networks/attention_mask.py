"""The mask of an encoder: tokens attend to those of their row, in padded rows and in rows packed into one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from kun.blocks.attention import Bias, attend, biased, positions_of
from kun.blocks.experts import Routing


@dataclass
class AttentionMask:
    """All tokens of a row attend to each other: of a padded row, or of one packed among others.

    `positions` [b, t]; `mask` bool [b, 1, 1 or t, t] is true at keys that are seen, None where all are; `bounds` are
    the ends of packed rows, from 0 on. Experts, where a network has some, note in `routing` what they do.
    """

    positions: Tensor
    mask: Tensor | None = None
    bounds: Sequence[int] | None = None
    biased: dict[Bias, Tensor] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)

    @classmethod
    def padded(cls, x: Tensor, mask: Tensor | None, positions: Tensor | None = None) -> "AttentionMask":
        """For states x [b, t, d_model] of which the tokens in `mask` bool [b, t] are real, None for all.

        Real tokens are counted where no `positions` are given.
        """
        if positions is None:
            positions = positions_of(mask, x.shape[1], x.device)
        return cls(positions, seen_by_all(mask))

    @classmethod
    def packed(cls, lengths: Sequence[int], device: torch.device) -> "AttentionMask":
        """For rows of `lengths` tokens, one after the other."""
        places = torch.cat([torch.arange(length, device=device) for length in lengths])
        return cls(places[None], bounds=[0, *accumulate(lengths)])

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        bias: Bias | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attention of q [b, t, heads, d_head] over k, v -> its shape; `bias` is made once for all layers."""
        if self.bounds is None:
            mask = self.mask if bias is None else self._biased(bias, self.positions, q, self.mask)
            return attend(q, k, v, mask, dropout=dropout, scale=scale)
        mask = None
        if bias is not None:
            longest = max(end - start for start, end in pairwise(self.bounds))
            mask = self._biased(bias, torch.arange(longest, device=q.device)[None], q, None)
        rows = []
        for start, end in pairwise(self.bounds):
            seen = None if mask is None else mask[..., : end - start, : end - start]
            mine = slice(start, end)
            rows.append(attend(q[:, mine], k[:, mine], v[:, mine], seen, dropout=dropout, scale=scale))
        return torch.cat(rows, dim=1)

    def _biased(self, bias: Bias, positions: Tensor, q: Tensor, mask: Tensor | None) -> Tensor:
        if bias not in self.biased:
            added = bias(positions, positions)
            self.biased[bias] = added.to(q.dtype) if mask is None else biased(added, mask, q.dtype)
        return self.biased[bias]


def seen_by_all(mask: Tensor | None) -> Tensor | None:
    """bool [b, 1, 1, t] of real tokens [b, t]; a row that is all padding sees itself, so that no softmax is empty."""
    if mask is None:
        return None
    return (mask | ~mask.any(-1, keepdim=True))[:, None, None, :]

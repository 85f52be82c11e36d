"""Attention by content, by distance and by segment: Dai et al., "Transformer-XL", arXiv:1901.02860, section 3.3.

The score of query i for key j is ((q_i + u)·k_j + (q_i + w)·r_(i-j) + (q_i + z)·s_ij) / √d_head: by what the key
is, by how far away it is (r, a projection of a sinusoid), and by whether it is of the same segment (s).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kun.blocks.attention import attend
from kun.families.xlnet.config import XLNetConfig

HIDDEN = -1e30
HIDDEN_HALF = -65500.0
"""The addition to the score of a key that a query does not see. It is finite, so that a query that sees
nothing, as the first in an order of factorization does, weighs all keys alike, as in the published network."""


@dataclass
class RelativeContext:
    """The keys that the queries of a batch see, and their places; t queries, and s keys from the memory on.

    `distances` are sinusoids [t + s, d_model], the farthest key's first. `mask` [b or 1, 1, t, s] is added to
    the scores of the query stream; `content_mask` to those of the content stream, whose tokens also see
    themselves. `different` bool [b, t, s] is true where segments differ, `mapping` [b, m, t] the places of
    the queries.
    """

    distances: Tensor
    mask: Tensor | None
    content_mask: Tensor | None
    different: Tensor | None
    mapping: Tensor | None


def sinusoids(distances: Tensor, d_model: int) -> Tensor:
    """float32 [n, d_model] for distances [n] in tokens: the sines of all frequencies, then the cosines."""
    steps = torch.arange(0, d_model, 2, dtype=torch.float32, device=distances.device) / d_model
    angles = distances.float()[:, None] / 10000**steps
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def mask_of(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """The addition to the scores, [b, 1, t, s], for bool [b, t, s], true where a key is not seen."""
    return hidden[:, None].to(dtype) * (HIDDEN_HALF if dtype == torch.float16 else HIDDEN)


def shift(scores: Tensor, n_keys: int) -> Tensor:
    """From scores by distance [b, heads, t, t + s], farthest first, to scores by key [b, heads, t, s].

    Each query is one step farther on than the one before it, so that its row begins one place earlier:
    out[i, j] = scores[i, t - i + j], had by reading the rows with a stride of one less.
    """
    rows, heads, queries, distances = scores.shape
    shifted = scores.reshape(rows, heads, distances, queries)[:, :, 1:]
    return shifted.reshape(rows, heads, queries, distances - 1)[..., :n_keys]


class Attention(nn.Module):
    """Both streams' attention; they share every weight."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.d_head, self.dropout = config.d_head, config.dropout
        self.q, self.k, self.v, self.o, self.r = (
            nn.Linear(config.d_model, config.d_model, bias=False) for _ in range(5)
        )
        heads = (config.n_heads, config.d_head)
        self.content_bias, self.distance_bias, self.segment_bias = (
            nn.Parameter(torch.empty(heads)) for _ in range(3)
        )
        self.segments = nn.Parameter(torch.empty(2, *heads))

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.d_head))

    def forward(
        self, content: Tensor, queries: Tensor | None, memory: Tensor | None, context: RelativeContext
    ) -> tuple[Tensor, Tensor | None]:
        """Of the content stream [b, t, d_model], and of the query stream [b, m, d_model] where there is one.

        `memory` [b, remembered, d_model] holds states that this layer read in the segments before.
        """
        seen = content if memory is None else torch.cat((memory, content), dim=1)
        k, v = self.heads(self.k(seen)), self.heads(self.v(seen))
        r = self.heads(self.r(context.distances)).transpose(0, 1)
        mixed = self.mix(self.heads(self.q(content)), k, v, r, context.content_mask, context.different)
        if queries is None:
            return self.o(mixed), None
        q = self.heads(self.q(queries))
        if context.mapping is not None:
            q = torch.einsum("bmhd,bmt->bthd", q, context.mapping)
        answers = self.mix(q, k, v, r, context.mask, context.different)
        if context.mapping is not None:
            answers = torch.einsum("btd,bmt->bmd", answers, context.mapping)
        return self.o(mixed), self.o(answers)

    def mix(
        self, q: Tensor, k: Tensor, v: Tensor, r: Tensor, mask: Tensor | None, different: Tensor | None
    ) -> Tensor:
        """Attention of q [b, t, heads, d_head] over k, v [b, s, heads, d_head] -> [b, t, d_model].

        `r` [heads, t + s, d_head] are the keys of distances, the farthest first.
        """
        by_distance = (q + self.distance_bias).transpose(1, 2) @ r.transpose(1, 2)
        bias = shift(by_distance, k.shape[1])
        if different is not None:
            by_segment = torch.einsum("bthd,shd->bhts", q + self.segment_bias, self.segments)
            same, other = by_segment.split(1, dim=-1)
            bias = bias + torch.where(different[:, None], other, same)
        bias = bias * self.d_head**-0.5
        bias = bias if mask is None else bias + mask
        dropout = self.dropout if self.training else 0.0
        return attend(q + self.content_bias, k, v, bias, dropout=dropout).flatten(-2)

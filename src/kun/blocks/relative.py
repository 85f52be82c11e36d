"""Relative positions as T5 has them: a number for each head and distance, added to the scores of attention.

Raffel et al., arXiv:1910.10683. Near distances have a bucket each, farther ones share buckets that grow with
the logarithm of the distance, and beyond `max_distance` all share the last one.
"""

import math

import torch
from torch import Tensor, nn


class RelativeBias(nn.Module):
    """What is added to the score of a query for a key, by how far apart they are; a `Bias` for attention.

    A decoder, which sees nothing to its right, spends all its buckets on what is to its left.
    """

    def __init__(self, n_heads: int, buckets: int, max_distance: int, *, both_ways: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, n_heads)
        self.max_distance, self.both_ways = max_distance, both_ways

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """From the places of queries [b, t] and of keys [b, s] to [b, n_heads, t, s]."""
        distance = keys[:, None, :] - queries[:, :, None]
        bucket = relative_bucket(distance, self.table.num_embeddings, self.max_distance, self.both_ways)
        return self.table(bucket).permute(0, 3, 1, 2)


def relative_bucket(distance: Tensor, buckets: int, max_distance: int, both_ways: bool) -> Tensor:
    """The bucket, int64 in [0, buckets), of each distance (key's place minus query's)."""
    offset = torch.zeros_like(distance)
    if both_ways:
        buckets //= 2
        offset = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    growth = (distance.clamp(min=1).float() / exact).log() / math.log(max_distance / exact)
    far = exact + (growth * (buckets - exact)).long().clamp(max=buckets - exact - 1)
    return offset + torch.where(distance < exact, distance, far)

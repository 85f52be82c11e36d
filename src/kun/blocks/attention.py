"""Scaled dot-product attention: Vaswani et al., arXiv:1706.03762.

Grouped queries, where several heads share a key and value: Ainslie et al., arXiv:2305.13245.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from kun.blocks.dropout import dropout as drop
from kun.blocks.tiled import attend_in_tiles

MOST_SCORES = 2**26
"""Scores that a layer may hold at once where it has the choice, without dropout: 128 MB in bfloat16."""

TILED_FROM = 512
"""Tokens of a row from which attention in tiles is no slower: shorter rows are many small tiles."""

Bias = Callable[[Tensor, Tensor], Tensor]
"""From the places of queries [b, t] and keys [b, s] to what is added to their scores, [b, heads, t, s]."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attention of q [b, t, heads, d] over k, v [b, s, kv_heads, d] -> [b, t, heads, d].

    `mask` is boolean, true where a query sees a key, or added to the scores (see `biased`), and broadcasts to
    [b, heads, t, s]; `causal` stands for the lower triangle and needs no mask. Every query must see at least
    one key. Scores are multiplied by `scale`, 1/√d where it is None.
    """
    if not dropout and _trains_in_tiles(q, k, mask):
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        return attend_in_tiles(q, k, v, mask, causal=causal, scale=scale)
    group = q.shape[2] // k.shape[2]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    learned = mask is not None and mask.requires_grad
    if q.device.type == "cpu" and (learned or dropout or _trains_faster_in_steps(q, k)):
        return attend_in_steps(q, k, v, mask, causal=causal, dropout=dropout, scale=scale).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal, scale=scale)
    return mixed.transpose(1, 2)


def _trains_in_tiles(q: Tensor, k: Tensor, mask: Tensor | None) -> bool:
    """Whether long rows ask for a gradient in bfloat16 on the CPU; a compiler makes more of what is written down."""
    trains = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    plain = mask is None or (mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[1] == 1)
    on_cpu = q.device.type == "cpu" and q.dtype == torch.bfloat16 and type(q) is Tensor
    long = q.shape[1] >= TILED_FROM
    return trains and plain and long and on_cpu and not torch.compiler.is_compiling()


def _trains_faster_in_steps(q: Tensor, k: Tensor) -> bool:
    """Whether torch's fused kernel would be the slower way: in bfloat16 its backward pass takes three times as long."""
    trains = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    return trains and q.dtype == torch.bfloat16 and q.shape[:-1].numel() * k.shape[-2] <= MOST_SCORES


def attend_in_steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attention of q [b, heads, t, d] over k, v [b, heads, s, d] as it is written down, all scores in memory.

    On the CPU it is the faster way to a gradient in bfloat16, and to dropout and the gradient of a learned bias in
    `mask`, which the fused kernel does not know. `mask`, `causal`, `scale` as in `attend`.
    """
    if scale != 1.0:
        q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = q @ k.transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        added = (
            mask if mask.is_floating_point() else biased(torch.zeros_like(mask, dtype=q.dtype), mask, q.dtype)
        )
        scores = scores + added
    weights = drop(scores.softmax(dim=-1), dropout)
    return weights.to(v.dtype) @ v


def biased(bias: Tensor, seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to be added: `bias` where `seen` (bool), minus infinity elsewhere."""
    return bias.to(dtype).masked_fill(~seen, -torch.inf)


def numbers_documents(attention_mask: Tensor) -> bool:
    """Whether a mask may number the documents of its rows, rather than say which tokens are real."""
    return not attention_mask.is_floating_point() and attention_mask.dtype != torch.bool


def same_document(attention_mask: Tensor) -> Tensor:
    """bool [b, 1, 1 or t, t]: which tokens a query may see, by `attention_mask` [b, t] or [b, t, t].

    A boolean mask is true at real tokens, or says of each query which tokens it may see. Whole numbers number the
    documents that share a row: tokens with different numbers do not see each other, and those of 0, the padding, are
    seen by no others.
    """
    if attention_mask.dim() == 3:
        return attention_mask.bool()[:, None]
    if not numbers_documents(attention_mask):
        return attention_mask.bool()[:, None, None, :]
    return (attention_mask[:, :, None] == attention_mask[:, None, :])[:, None]


def causal_mask(
    attention_mask: Tensor | None, length: int, window: int | None, device: torch.device
) -> Tensor | None:
    """Which key each query of a padded batch sees: bool [b or 1, 1, t, t]; None where the triangle will do.

    `attention_mask` is as in `same_document`, `window` the number of tokens seen, oneself included. Each token sees
    itself even where it is padding: softmax over nothing is NaN, and no real token looks at padding.
    """
    if attention_mask is None and (window is None or window >= length):
        return None
    place = torch.arange(length, device=device)[None]
    distance = place[:, :, None] - place[:, None, :]
    seen = distance >= 0
    if window is not None:
        branches = attention_mask is not None and attention_mask.dim() == 3
        at = positions_of(attention_mask, length, device) if branches else place
        seen = seen & (at[:, :, None] - at[:, None, :] < window)
    seen = seen[:, None]
    if attention_mask is not None:
        seen = seen & (same_document(attention_mask) | (distance == 0)[:, None])
    return seen


def positions_of(attention_mask: Tensor | None, length: int, device: torch.device) -> Tensor:
    """Positions [b or 1, t] that count real tokens alone, so that padding on either side moves nothing.

    Where the mask numbers documents, each counts from 0. Where it says what each query sees, a token's position is
    the number of tokens before it that it sees, so that the branches of a tree go on from where they part.
    """
    place = torch.arange(length, device=device)[None]
    if attention_mask is None:
        return place
    if attention_mask.dim() == 3:
        before = torch.ones(length, length, dtype=torch.bool, device=device).tril(-1)
        return (attention_mask.bool() & before).sum(-1)
    if not numbers_documents(attention_mask):
        return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    begins = attention_mask.diff(prepend=attention_mask[:, :1]) != 0
    return place - torch.where(begins, place, 0).cummax(-1).values

"""Scaled dot-product attention: Vaswani et al., arXiv:1706.03762.

Grouped queries, where several heads share a key and value: Ainslie et al., arXiv:2305.13245.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Attention of q [b, t, heads, d] over k, v [b, s, kv_heads, d] -> [b, t, heads, d].

    `mask` is boolean, true where a query sees a key, and broadcasts to [b, heads, t, s]; `causal` stands
    for the lower triangle and needs no mask. Every query must see at least one key.
    """
    group = q.shape[2] // k.shape[2]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal)
    return mixed.transpose(1, 2)


def causal_mask(
    attention_mask: Tensor | None, length: int, window: int | None, device: torch.device
) -> Tensor | None:
    """Which key each query of a padded batch sees: bool [b or 1, 1, t, t]; None where the triangle will do.

    `attention_mask` [b, t] is true at real tokens, `window` the number of tokens seen, oneself included.
    Each token sees itself even where it is padding: softmax over nothing is NaN, and no real token looks
    at padding.
    """
    if attention_mask is None and (window is None or window >= length):
        return None
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    seen = distance >= 0
    if window is not None:
        seen = seen & (distance < window)
    seen = seen[None, None]
    if attention_mask is not None:
        seen = seen & (attention_mask.bool()[:, None, None, :] | (distance == 0))
    return seen


def positions_of(attention_mask: Tensor | None, length: int, device: torch.device) -> Tensor:
    """Positions [b or 1, t] that count real tokens alone, so that padding on either side moves nothing."""
    if attention_mask is None:
        return torch.arange(length, device=device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)

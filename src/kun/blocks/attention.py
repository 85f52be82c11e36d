"""Scaled dot-product attention: Vaswani et al., arXiv:1706.03762.

Grouped queries, where several heads share a key and value: Ainslie et al., arXiv:2305.13245.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

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
    group = q.shape[2] // k.shape[2]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if mask is not None and mask.requires_grad and not mask.is_cuda:
        return _attend_in_steps(q, k, v, mask, dropout, scale).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal, scale=scale)
    return mixed.transpose(1, 2)


def _attend_in_steps(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout: float, scale: float | None
) -> Tensor:
    """Attention with a learned bias, whose gradient torch's fused kernel on the CPU does not know.

    Torch's own way around it takes more passes over the scores than this.
    """
    if scale != 1.0:
        q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = (q @ k.transpose(-1, -2) + bias).softmax(dim=-1)
    return F.dropout(weights, dropout) @ v if dropout else weights @ v


def biased(bias: Tensor, seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to be added: `bias` where `seen` (bool), minus infinity elsewhere."""
    return bias.to(dtype).masked_fill(~seen, -torch.inf)


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

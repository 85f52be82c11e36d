"""Who sees whom where nothing is causal: among the tokens of a source, and from a target to its source."""

import torch
from torch import Tensor


def seen_by_all(mask: Tensor) -> Tensor:
    """bool [b, 1, t, t] of a padding mask [b, t]: real tokens are seen by all, padding by itself too.

    So no softmax is empty, and no real token looks at padding.
    """
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, None, None, :] | itself


def over_source(mask: Tensor | None) -> Tensor | None:
    """bool [b, 1, 1, s] of a source's padding mask; a source of nothing but padding is seen, whatever it says."""
    if mask is None:
        return None
    return (mask | ~mask.any(dim=-1, keepdim=True))[:, None, None, :]

"""What the sparse layers of a pass note, and what a network with experts returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from kun.blocks.experts import balance_loss, z_loss


@dataclass
class Routing:
    """What the sparse layers of one pass share: `real` bool [b, t], false at padding, and what they note.

    `logits` are the routers', float32 [b, t, n_experts] each.
    """

    real: Tensor | None = None
    logits: list[Tensor] = field(default_factory=list)


Routers = tuple[Tensor, ...]
"""The float32 logits of each sparse layer's router."""


class ExpertOutput(NamedTuple):
    """`logits` [b, t, vocabulary] and the encoder's states [b, s, d_model]; the rest where it was asked for.

    The auxiliary losses are not yet multiplied by their coefficients.
    """

    logits: Tensor
    encoder_last_hidden_state: Tensor | None = None
    encoder_router_logits: Routers | None = None
    decoder_router_logits: Routers | None = None
    encoder_z_loss: Tensor | None = None
    encoder_aux_loss: Tensor | None = None
    decoder_z_loss: Tensor | None = None
    decoder_aux_loss: Tensor | None = None


def router_losses(
    logits: Sequence[Tensor], k: int, real: Tensor | None, *, by_row: bool
) -> tuple[Tensor, Tensor]:
    """The z loss and the balance loss of routers with logits [b, t, n_experts], over all layers' tokens at once.

    Balance is taken in each row by itself with `by_row`, else over the whole batch. Zero without a router.
    """
    if not logits:
        return torch.zeros(()), torch.zeros(())
    every = torch.cat(list(logits), dim=1)
    mask = None if real is None else real.repeat(1, len(logits))
    groups = every if by_row else every.flatten(0, 1)[None]
    grouped = mask if by_row or mask is None else mask.flatten()[None]
    return z_loss(every, mask), balance_loss(groups, k, grouped)

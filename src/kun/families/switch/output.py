"""What the sparse layers of a pass note, and what a network with experts returns."""

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

    @property
    def flat(self) -> Tensor | None:
        """`real` of all rows, one after the other."""
        return None if self.real is None else self.real.flatten()


Routers = tuple[Tensor, ...]
"""The float32 logits of each sparse layer's router."""


class ExpertOutput(NamedTuple):
    """A Seq2SeqOutput with what the routers did, where it was asked for.

    The auxiliary losses are not yet multiplied by their coefficients.
    """

    logits: Tensor
    encoder_last_hidden_state: Tensor | None
    encoder_router_logits: Routers | None = None
    decoder_router_logits: Routers | None = None
    encoder_z_loss: Tensor | None = None
    encoder_aux_loss: Tensor | None = None
    decoder_z_loss: Tensor | None = None
    decoder_aux_loss: Tensor | None = None


def router_losses(routing: Routing, k: int, *, by_row: bool) -> tuple[Tensor, Tensor]:
    """The z loss of the routers of a pass, and their balance loss with `k` experts for a token.

    Both are taken over all layers' tokens at once; balance in each row by itself with `by_row`, else over the
    batch. Zero without a router.
    """
    if not routing.logits:
        return torch.zeros(()), torch.zeros(())
    logits = torch.cat(routing.logits, dim=1)
    real = None if routing.real is None else routing.real.repeat(1, len(routing.logits))
    if by_row:
        return z_loss(logits, real), balance_loss(logits, k, real)
    whole = None if real is None else real.flatten()[None]
    return z_loss(logits, real), balance_loss(logits.flatten(0, 1)[None], k, whole)

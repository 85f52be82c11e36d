"""Pipeline parallelism: each process computes some of the layers, and hands the states on to the next.

GPipe: Huang et al., arXiv:1811.06965; one batch forward, one back: Narayanan et al., arXiv:1806.03377, which keeps
the states of as many batches as there are stages, not of all.
"""

import torch
from torch import Tensor, nn

from kun.errors import BadRecipe
from kun.families import family_of
from kun.networks.decoder import Decoder
from kun.networks.network import Network


class _Passing(nn.Module):
    """In the place of a layer that another process computes."""

    def forward(self, x: Tensor, *context: object) -> Tensor:
        return x


class _Nothing(nn.Module):
    """In the place of a table whose vectors another process has added."""

    def forward(self, places: Tensor) -> Tensor:
        return torch.zeros((), device=places.device)


class Stage(nn.Module):
    """The part of a decoder between two cuts: from token ids, or the states of the stage before, to states."""

    def __init__(self, net: Decoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Ids [b, t] or states [b, t, d_model] to states [b, t, d_model]; no head."""
        embedded = x if x.is_floating_point() else self.net.embed_tokens(x)
        return self.net.states(inputs_embeds=embedded, attention_mask=attention_mask)


def check_stages(net: Network, n_stages: int) -> None:
    """Raise `BadRecipe` where a network cannot be cut into `n_stages`."""
    if not isinstance(net, Decoder) or _before(net) is None:
        raise BadRecipe(
            f"parallel.pipeline = {n_stages} is for decoders, as GPT and LLaMA; a {net.config.model_type} is none."
        )
    if net.config.n_layers < n_stages:
        raise BadRecipe(
            f"parallel.pipeline = {n_stages} is more than the {net.config.n_layers} layers: at most one stage a layer."
        )


def keep_stage(net: Decoder, stage: int, n_stages: int) -> None:
    """Take out of `net`, in place, what other stages compute; what stays keeps its name.

    The first stage has the embedding; the last one the head, and the embedding too where that is the head.
    """
    n = len(net.layers)
    kept = range(stage * n // n_stages, (stage + 1) * n // n_stages)
    for index in range(n):
        if index not in kept:
            net.layers[index] = _Passing()
    is_first, is_last = stage == 0, stage == n_stages - 1
    if not is_first:
        for name in _before(net) or ():
            setattr(net, name, _Nothing() if isinstance(getattr(net, name), nn.Embedding) else nn.Identity())
    if not is_last:
        net.norm, net.lm_head = nn.Identity(), None
    if not is_first and not (is_last and net.lm_head is None):
        net.embed = None  # type: ignore[assignment]  # nobody reads it here


def _before(net: Decoder) -> tuple[str, ...] | None:
    sharding = family_of(net.config.to_hf()).sharding
    return None if sharding is None else sharding.before

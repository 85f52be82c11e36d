"""Seeing what a network does without changing it: a mode that notes each attention, and hooks on its layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Attended:
    """What went into one scaled dot-product attention: q [b, heads, t, d], k and v [b, heads, s, d]."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    causal: bool
    scale: float

    @property
    def products(self) -> Tensor:
        """q · k, not yet divided: [b, heads, t, s]."""
        return self.q.float() @ self.k.float().transpose(-1, -2)

    @property
    def scores(self) -> Tensor:
        """What the softmax is taken of: the products scaled, with the mask; minus infinity where nothing is seen."""
        scores = self.products * self.scale
        if self.causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            return scores.masked_fill(~seen, -torch.inf)
        if self.mask is None:
            return scores
        return (
            scores.masked_fill(~self.mask, -torch.inf)
            if self.mask.dtype == torch.bool
            else scores + self.mask
        )

    @property
    def weights(self) -> Tensor:
        """[b, heads, t, s]; each row sums to one."""
        return self.scores.softmax(-1)


@dataclass
class Seen:
    """One pass: its attentions in order, and each layer's input and output [b, t, d_model]."""

    attended: list[Attended] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)
    added: list[Tensor] = field(default_factory=list)
    """What attention adds to the states of each layer, after its output projection: [b, t, d_model]."""


class _Noting(TorchFunctionMode):
    def __init__(self, attended: list[Attended]) -> None:
        super().__init__()
        self._attended = attended

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._attended.append(_attended(*args, **kwargs))
        return func(*args, **kwargs)


def _attended(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Attended:
    return Attended(q, k, v, attn_mask, is_causal, q.shape[-1] ** -0.5 if scale is None else scale)


@contextmanager
def watching(layers: nn.ModuleList) -> Iterator[Seen]:
    """Note what happens in `layers`, each with an `attention.o`, while the block runs, without gradients."""
    seen, hooks = Seen(), []
    for layer in layers:
        hooks.append(layer.register_forward_pre_hook(lambda _, given: seen.before.append(given[0])))
        hooks.append(layer.register_forward_hook(lambda _, given, out: seen.after.append(out)))
        output = layer.get_submodule("attention.o")
        hooks.append(output.register_forward_hook(lambda _, given, out: seen.added.append(out)))
    try:
        with torch.no_grad(), _Noting(seen.attended):
            yield seen
    finally:
        for hook in hooks:
            hook.remove()

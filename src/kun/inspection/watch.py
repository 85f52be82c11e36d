"""Seeing what a network does without changing it: a mode that notes each attention, and hooks on its layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Attended:
    """The inputs of one scaled dot-product attention: q [b, heads, t, d], k and v [b, heads, s, d]."""

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
        """The inputs of the softmax: the products scaled, with the mask; minus infinity where nothing is seen."""
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
    """One pass through the same part of each layer: what it attended to, and states [b, t, d_model] around it.

    `before` are the states that the part adds to, `added` what it adds, after its output projection; `after` what
    each layer hands on. `mixed` [b, t, heads · d_head] is what the heads found, and `projections` the matrices
    [d_model, heads · d_head] that make of it what is added, None where they are no plain ones.
    """

    attended: list[Attended] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    added: list[Tensor] = field(default_factory=list)
    mixed: list[Tensor] = field(default_factory=list)
    projections: list[Tensor | None] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)


class _Noting(TorchFunctionMode):
    """Keeps the last attention that was computed."""

    last: Attended | None = None

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.last = _attended(*args, **kwargs)
        return func(*args, **kwargs)


def _attended(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: object,
) -> Attended:
    return Attended(q, k, v, attn_mask, is_causal, q.shape[-1] ** -0.5 if scale is None else scale)


@contextmanager
def watching(layers: nn.ModuleList, part: str = "attention") -> Iterator[Seen]:
    """Note what happens in one `part` of all `layers` while the block runs, without gradients.

    A part has projections `q` and `o`, and a norm next to it, before it or after it.
    """
    seen, noting = Seen(), _Noting()
    hooks = [hook for layer in layers for hook in _hooks(layer, part, seen, noting)]
    try:
        with torch.no_grad(), noting:
            yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _hooks(layer: nn.Module, part: str, seen: Seen, noting: _Noting) -> Iterator[RemovableHandle]:
    normed: list[tuple[Tensor, Tensor]] = []

    def note_norm(_: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        normed[:] = [(given[0], out)]

    def note_queries(_: nn.Module, given: tuple[Tensor]) -> None:
        # a norm that comes first is no part of what is added to
        before = normed[0][0] if normed and normed[0][1] is given[0] else given[0]
        seen.before.append(before)

    def note_output(projection: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        seen.added.append(out)
        seen.mixed.append(given[0])
        weight = projection.weight.detach() if isinstance(projection, nn.Linear) else None
        seen.projections.append(
            weight if weight is not None and weight.shape[1] == given[0].shape[-1] else None
        )
        if noting.last is not None:
            seen.attended.append(noting.last)
            noting.last = None

    def note_layer(_: nn.Module, given: tuple[Tensor], out: Tensor | tuple[Tensor, Tensor | None]) -> None:
        # of two streams, the one that asks what comes next
        streams = (out,) if isinstance(out, Tensor) else out
        seen.after.append(next(stream for stream in reversed(streams) if stream is not None))

    yield layer.get_submodule(f"{part}_norm").register_forward_hook(note_norm)
    yield layer.get_submodule(f"{part}.q").register_forward_pre_hook(note_queries)
    yield layer.get_submodule(f"{part}.o").register_forward_hook(note_output)
    yield layer.register_forward_hook(note_layer)

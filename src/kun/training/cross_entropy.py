"""Cross-entropy through the widest matrix of a network, without ever holding all the logits.

The states go through the head some rows at a time, and the gradient of those rows is made at once, while their logits
are there (Wijmans et al., arXiv:2411.09009, who call it cut cross-entropy; Hsu et al., arXiv:2410.10989).
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""The label of a place where nothing is learned."""

_MOST_LOGITS = 2**25
"""Logits of one part: 64 MB in bfloat16."""
_BLOCK_LOGITS = 2**20
"""Logits whose softmax, in float32, stays in the cache of a processor."""

_SLAB = 1024
"""Rows of a gradient that are converted at once."""

Head = Callable[[Tensor], Tensor]
"""From states [n, d_model] to logits [n, vocabulary]."""


def cross_entropy(
    head: Head, states: Tensor, labels: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """The sum over all labels of -log p(label), in nats: float32 [], with a gradient.

    `states` [..., d_model], `labels` [...] of them, `IGNORED` where nothing is learned, `weights` float32 [...] what
    each counts where that is not one. With `smoothing` the label has 1 - smoothing of the weight and the whole
    vocabulary shares the rest (Szegedy et al., arXiv:1512.00567).
    """
    states, labels = states.flatten(0, -2), labels.flatten()
    weights = None if weights is None else weights.flatten()
    learned = labels != IGNORED
    if not bool(learned.all()):
        states, labels = states[learned], labels[learned]
        weights = None if weights is None else weights[learned]
    if not len(labels):
        return states.sum(dtype=torch.float32) * 0.0
    if not torch.is_grad_enabled():
        return _evaluated(head, states, labels, smoothing, weights)
    parameters = parameters_of(head, states)
    loss: Tensor = _CrossEntropy.apply(states, labels, head, smoothing, weights, *parameters)
    return loss


def rows_at_once(head: Head, states: Tensor) -> int:
    """How many rows one part has."""
    with torch.no_grad():
        wide = head(states[:1]).shape[-1]
    return max(1, _MOST_LOGITS // wide)


def parameters_of(head: Head, states: Tensor) -> list[Tensor]:
    """The parameters that a head uses and that learn, found by following the graph of one row back to its leaves."""
    with torch.enable_grad():
        logits = head(states[:1].detach())
    found: dict[int, Tensor] = {}
    stack, seen = [logits.grad_fn], set()
    while stack:
        node: Any = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        stack += [following for following, _ in node.next_functions]
    return list(found.values())


def _evaluated(
    head: Head, states: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None
) -> Tensor:
    total = torch.zeros((), device=states.device)
    rows = rows_at_once(head, states)
    for some, right, count in _parts(rows, states, labels, weights):
        losses = F.cross_entropy(head(some).float(), right, reduction="none", label_smoothing=smoothing)
        total += losses.sum() if count is None else (losses * count).sum()
    return total


def _parts(
    rows: int, states: Tensor, labels: Tensor, weights: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """`rows` states at a time, with their labels and what they count."""
    for start in range(0, len(states), rows):
        part = slice(start, start + rows)
        yield states[part], labels[part], None if weights is None else weights[part]


class _CrossEntropy(torch.autograd.Function):
    """Its forward pass makes the gradients too; the backward pass hands them out."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        labels: Tensor,
        head: Head,
        smoothing: float,
        weights: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        total = torch.zeros((), device=states.device)
        rows = rows_at_once(head, states)
        to_states: list[Tensor] = []
        to_parameters: list[Tensor] = []
        for some, right, count in _parts(rows, states.detach(), labels, weights):
            with torch.enable_grad():
                leaf = some.requires_grad_()
                logits = head(leaf)
            loss, gradient = _loss_and_gradient(logits.detach(), right, smoothing, count)
            total += loss
            mine, *theirs = torch.autograd.grad(logits, [leaf, *parameters], gradient)
            to_states.append(mine)
            if not to_parameters:
                several = len(states) > rows  # sums of many parts would lose bits in bfloat16
                to_parameters = _apart([g.float() if several else g for g in theirs])
            else:
                for sums, g in zip(to_parameters, theirs, strict=True):
                    _add(sums, g)
        dtypes = [parameter.dtype for parameter in parameters]
        gradients = [g.to(dtype) for g, dtype in zip(to_parameters, dtypes, strict=True)]
        ctx.save_for_backward(torch.cat(to_states) if len(to_states) > 1 else to_states[0], *gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        states, *parameters = ctx.saved_tensors
        (scale,) = outer
        # each has memory of its own, and nobody else has them: a copy of the head's would be large
        return (
            states.mul_(scale),
            None,
            None,
            None,
            None,
            *(gradient.mul_(scale) for gradient in parameters),
        )


def _apart(gradients: list[Tensor]) -> list[Tensor]:
    """Each in memory of its own: parameters that a head adds up have one gradient between them."""
    seen: set[int] = set()
    made = []
    for gradient in gradients:
        made.append(gradient.clone() if gradient.data_ptr() in seen else gradient)
        seen.add(gradient.data_ptr())
    return made


def _add(sums: Tensor, more: Tensor) -> None:
    """Add to float32 sums what may be bfloat16, a slab at a time: as a whole it would be copied to float32 first."""
    for slab, part in zip(sums.split(_SLAB), more.split(_SLAB), strict=True):
        slab.add_(part)


def _loss_and_gradient(
    logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The sum of the losses, float32, and its gradient by the logits, which it writes over them."""
    total = torch.zeros((), device=logits.device)
    wide = logits.shape[-1]
    rows = max(1, _BLOCK_LOGITS // wide) if logits.device.type == "cpu" else len(logits)
    for block, right, count in _parts(rows, logits, labels, weights):
        log_p = F.log_softmax(block, dim=-1, dtype=torch.float32)
        total -= _weighed(log_p.gather(1, right[:, None]), count).sum() * (1 - smoothing)
        if smoothing:
            total -= _weighed(log_p, count).sum() * (smoothing / wide)
        gradient = log_p.exp_()
        if smoothing:
            gradient -= smoothing / wide
        gradient.scatter_add_(1, right[:, None], gradient.new_full((len(right), 1), smoothing - 1))
        block.copy_(_weighed(gradient, count))
    return total, logits


def _weighed(rows: Tensor, weights: Tensor | None) -> Tensor:
    return rows if weights is None else rows * weights[:, None]

"""Log-probabilities of single tokens through the widest matrix of a network, some rows at a time.

The forward pass keeps no logits; the backward pass makes those of some rows again, with their gradient (as
`kun.training.cross_entropy` does for a sum of losses).
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kun.blocks.autograd import Saved
from kun.training.cross_entropy import Head, parameters_of, rows_at_once


class TokenLogProbs(NamedTuple):
    """Of m tokens: `values` float32 [m] are log p in nats, with a gradient; `entropies` float32 [m] have none."""

    values: Tensor
    entropies: Tensor


def token_log_probs(
    head: Head, states: Tensor, targets: Tensor, *, temperature: float = 1.0
) -> TokenLogProbs:
    """Of the tokens `targets` int64 [m], each predicted from its row of states [m, d_model].

    Logits are divided by `temperature` first: the distribution is the one that sampling at it draws from.
    """
    if not len(targets):
        nothing = states.sum(dtype=torch.float32) * torch.zeros(0, device=states.device)
        return TokenLogProbs(nothing, nothing.detach())
    if not torch.is_grad_enabled():
        return TokenLogProbs(*_made(head, states, targets, temperature))
    parameters = parameters_of(head, states)
    values, entropies = _TokenLogProbs.apply(states, targets, head, temperature, *parameters)
    return TokenLogProbs(values, entropies)


def _made(head: Head, states: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    values, entropies = (torch.empty(len(targets), device=states.device) for _ in range(2))
    rows = rows_at_once(head, states)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        log_p = (head(states[part]).float() / temperature).log_softmax(dim=-1)
        values[part] = log_p.gather(1, targets[part, None])[:, 0]
        entropies[part] = -(log_p.exp() * log_p).sum(dim=-1)
    return values, entropies


class _Context(Saved, Protocol):
    head: Head
    temperature: float


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context, states: Tensor, targets: Tensor, head: Head, temperature: float, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        values, entropies = _made(head, states, targets, temperature)
        ctx.save_for_backward(states, targets, *parameters)
        ctx.head, ctx.temperature = head, temperature
        ctx.mark_non_differentiable(entropies)
        return values, entropies

    @staticmethod
    def backward(ctx: _Context, *outer: Tensor) -> tuple[Tensor | None, ...]:
        states, targets, *parameters = ctx.saved_tensors
        to_values, rows = outer[0], rows_at_once(ctx.head, states)
        to_states = torch.empty_like(states)
        sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            with torch.enable_grad():
                leaf = states[part].detach().requires_grad_()
                logits = ctx.head(leaf)
            scaled = logits.detach().float() / ctx.temperature
            gradient = scaled.softmax(dim=-1).neg_()  # of log p by the logits: one at the target less p
            gradient.scatter_add_(1, targets[part, None], gradient.new_ones(len(gradient), 1))
            gradient *= to_values[part, None] / ctx.temperature
            mine, *theirs = torch.autograd.grad(logits, [leaf, *parameters], gradient.to(logits.dtype))
            to_states[part] = mine
            for total, more in zip(sums, theirs, strict=True):
                total.add_(more)
        made = (total.to(parameter.dtype) for total, parameter in zip(sums, parameters, strict=True))
        return (to_states, None, None, None, *made)

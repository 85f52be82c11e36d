"""Mixtures of experts: a router sends each token to one or two of many feed-forward networks.

One expert a token: Fedus et al., "Switch Transformers", arXiv:2101.03961. Two: Lepikhin et al., "GShard",
arXiv:2006.16668. The router's z loss: Zoph et al., "ST-MoE", arXiv:2202.08906. Tokens are sorted by expert, so
that each expert runs once, over the tokens that are its own, and one that got none does not run at all.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

SecondExpert = Literal["all", "sampling", "random"]
SECOND_EXPERTS: tuple[SecondExpert, ...] = ("all", "sampling", "random")
"""The tokens that get a second expert in training: all the runner-up, or one drawn by its logits (Gumbel noise),
or the runner-up with a probability that follows its gate (GShard). At inference it is always the runner-up."""


@dataclass(frozen=True)
class Routes:
    """The routes of n tokens: `experts` int64 [n, k], best first, and the `gates` float32 [n, k] that weigh them.

    A token goes to an expert only where `kept`, bool [n, k]; kept nowhere, it is left to the residual.
    """

    experts: Tensor
    gates: Tensor
    kept: Tensor

    def within(self, capacity: int, *, group: Tensor | None = None, score: Tensor | None = None) -> "Routes":
        """Drop what is beyond `capacity` tokens of an expert, counted in each `group` [n] by itself.

        All first choices take their places before any second one; among them the tokens with the highest
        `score` [n] (Riquelme et al., arXiv:2106.05974), or, where it is None, those that come first.
        """
        lane = self.experts
        if group is not None:
            lane = lane + (lane.max() + 1) * group[:, None]
        lane = torch.where(self.kept, lane, -1)
        if score is None:
            return replace(self, kept=self.kept & (_places(lane) < capacity))
        order = score.argsort(descending=True, stable=True)
        places = torch.empty_like(lane)
        places[order] = _places(lane[order])
        return replace(self, kept=self.kept & (places < capacity))


def _places(lane: Tensor) -> Tensor:
    """The number of entries of the same lane before each of lane [n, k]; the first column before the second."""
    flat = lane.t().reshape(-1)
    ordered, order = flat.sort(stable=True)
    places = torch.empty_like(flat)
    places[order] = torch.arange(len(flat), device=flat.device) - torch.searchsorted(ordered, ordered)
    return places.view(lane.shape[1], -1).t()


def capacity_of(n_tokens: int, n_experts: int, factor: float) -> int:
    """The number of tokens that an expert takes: `factor` times its even share of them, rounded up."""
    return max(1, math.ceil(n_tokens * factor / n_experts))


class Router(nn.Module):
    """Logits of every expert for every token, in float32 whatever the network's dtype is.

    The initial weights are those of Switch Transformers, a tenth of the usual variance.

    `jitter` multiplies what it reads by noise from [1 − jitter, 1 + jitter], in training alone.
    """

    def __init__(self, d_model: int, n_experts: int, bias: bool = False, jitter: float = 0.0) -> None:
        super().__init__()
        # no nn.Linear, which is taken for a matrix that may be quantized or adapted
        self.weight = nn.Parameter(torch.empty(n_experts, d_model))
        self.bias = nn.Parameter(torch.zeros(n_experts)) if bias else None
        self.jitter = jitter
        std = (0.1 / d_model) ** 0.5
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_model] -> float32 [..., n_experts]."""
        x = x.float()
        if self.training and self.jitter > 0:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, self.weight.float(), None if self.bias is None else self.bias.float())


def top1(logits: Tensor, real: Tensor | None = None) -> Routes:
    """Each token to the expert of the largest of its logits [n, n_experts], weighed by its probability.

    `real` bool [n] is false at padding, which goes nowhere.
    """
    gates, experts = logits.softmax(dim=-1).max(dim=-1, keepdim=True)
    return Routes(experts, gates, _everywhere(experts, real))


def top2(
    logits: Tensor,
    real: Tensor | None = None,
    *,
    second: SecondExpert = "all",
    training: bool = False,
) -> Routes:
    """Each token to the two experts of its largest logits [n, n_experts], weighed by their two probabilities.

    The gates add up to less than one: see `normalized`. `second` matters in training alone.
    """
    probabilities = logits.softmax(dim=-1)
    first = logits.argmax(dim=-1, keepdim=True)
    noisy = logits + _gumbel(logits) if training and second == "sampling" else logits
    runner_up = noisy.scatter(-1, first, -torch.inf).argmax(dim=-1, keepdim=True)
    experts = torch.cat((first, runner_up), dim=-1)
    gates = probabilities.gather(-1, experts)
    kept = _everywhere(experts, real)
    if training and second == "random":
        share = gates[:, 1] / gates.sum(dim=-1)
        kept = kept & torch.stack((torch.ones_like(kept[:, 0]), 2 * share > torch.rand_like(share)), dim=-1)
    return Routes(experts, gates, kept)


def normalized(routes: Routes, *, over_kept: bool = False) -> Routes:
    """The same with gates that add up to one for each token: over all of them, or over those that are kept."""
    gates = routes.gates * routes.kept if over_kept else routes.gates
    total = gates.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(gates.dtype).eps)
    return replace(routes, gates=gates / total)


def _everywhere(experts: Tensor, real: Tensor | None) -> Tensor:
    kept = torch.ones_like(experts, dtype=torch.bool)
    return kept if real is None else kept & real[:, None]


def _gumbel(like: Tensor) -> Tensor:
    return -torch.empty_like(like).exponential_().log()


class ExpertList(nn.ModuleList):
    """The experts of a layer."""

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """The experts' outputs for sorted tokens x [m, d_model], `counts[i]` of them for the i-th expert."""
        parts = x.split(counts)
        made = [expert(part) for expert, part in zip(self, parts, strict=True) if len(part)]
        return torch.cat(made) if made else torch.zeros_like(x)


def mix(x: Tensor, routes: Routes, experts: ExpertList) -> Tensor:
    """The sum of what its experts make of each token of x [n, d_model], weighed by their gates.

    Zero for a token that is kept nowhere. An expert without a token is not called.
    """
    n, k = routes.experts.shape
    chosen = torch.where(routes.kept, routes.experts, len(experts)).flatten()
    order = chosen.argsort(stable=True)
    counts = chosen.bincount(minlength=len(experts) + 1)[:-1].tolist()  # the one wait for the device
    order = order[: sum(counts)]
    made = experts(x.index_select(0, order // k), counts)
    if not len(made) and not made.requires_grad:  # nothing was computed, here or on other processes
        return torch.zeros_like(x)
    outputs = made.new_zeros(n * k, x.shape[-1]).index_copy_(0, order, made)
    gates = (routes.gates * routes.kept).to(outputs.dtype)
    return (outputs.view(n, k, -1) * gates[..., None]).sum(dim=1)


@dataclass
class Routing:
    """The routing of one pass over its sparse layers: `real` bool [b, t], false at padding, and the routers'
    `logits`, float32 [b, t, n_experts] each.
    """

    real: Tensor | None = None
    logits: list[Tensor] = field(default_factory=list)

    def losses(self, k: int, *, by_row: bool) -> tuple[Tensor, Tensor]:
        """The z loss of the routers, and their balance loss with `k` experts for a token; zero without a router.

        Both are taken over all layers' tokens at once; balance in each row by itself with `by_row`, else over the
        batch.
        """
        if not self.logits:
            return torch.zeros(()), torch.zeros(())
        logits = torch.cat(self.logits, dim=1)
        real = None if self.real is None else self.real.repeat(1, len(self.logits))
        if by_row:
            return z_loss(logits, real), balance_loss(logits, k, real)
        whole = None if real is None else real.flatten()[None]
        return z_loss(logits, real), balance_loss(logits.flatten(0, 1)[None], k, whole)


class Experts(nn.Module):
    """A router, and the feed-forward networks to which it sends each token, as a family defines in `route`."""

    def __init__(self, router: Router, experts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.router, self.experts = router, ExpertList(experts)

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """[b, t, d_model] -> its shape."""
        if has_torch_function((x,)):
            noted: Tensor = handle_torch_function(Experts.forward, (x,), self, x, routing)
            return noted
        logits = self.router(x)
        routing.logits.append(logits)
        real = None if routing.real is None else routing.real.flatten()
        return mix(x.flatten(0, 1), self.route(logits, real), self.experts).view_as(x)

    def route(self, logits: Tensor, real: Tensor | None) -> Routes:
        """The routes of tokens with router logits [b, t, n_experts]; `real` bool [b · t] is false at padding."""
        raise NotImplementedError


def balance_loss(logits: Tensor, k: int = 1, real: Tensor | None = None) -> Tensor:
    """The unevenness of tokens over experts by logits [groups, t, n_experts]: n_experts · Σ fᵢ Pᵢ, the mean of groups.

    fᵢ is the share of a group's tokens that have expert i among their `k` best, Pᵢ the mean probability of
    it: equations 4 to 6 of Switch Transformers, where k is 1 and even spread gives 1. GShard's Algorithm 1 has
    the same sum over n_experts² times as small. `real` bool [groups, t] leaves padding out.
    """
    probabilities = logits.float().softmax(dim=-1)
    weight = torch.ones_like(probabilities[..., 0]) if real is None else real.to(probabilities.dtype)
    total = weight.sum(dim=-1, keepdim=True).clamp(min=1)
    best = logits.topk(k, dim=-1).indices.flatten(1)
    share = torch.zeros_like(probabilities[:, 0])
    share = share.scatter_add(1, best, weight.repeat_interleave(k, dim=1)) / total
    mean = (probabilities * weight[..., None]).sum(dim=1) / total
    return logits.shape[-1] * (share * mean).sum(dim=-1).mean()


def z_loss(logits: Tensor, real: Tensor | None = None) -> Tensor:
    """The mean over tokens of (log Σ exp)² of their logits [..., n_experts], which keeps logits small."""
    squares = logits.float().logsumexp(dim=-1).square()
    if real is None:
        return squares.mean()
    return (squares * real).sum() / real.sum().clamp(min=1)

"""Expert parallelism: each process keeps some of the experts, and every token travels to its own and back.

GShard: Lepikhin et al., arXiv:2006.16668. Capacity is counted where the tokens come from, as on one process.
"""

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kun.blocks.experts import ExpertList
from kun.errors import BadRecipe
from kun.networks.network import Network


class SpreadExpertList(ExpertList):
    """A list of which this process has but the experts of its place in `group`; the others' have no weights here."""

    def __init__(self, experts: ExpertList, group: dist.ProcessGroup) -> None:
        size, place = dist.get_world_size(group), dist.get_rank(group)
        self_has = range(place * len(experts) // size, (place + 1) * len(experts) // size)
        super().__init__(expert if i in self_has else nn.Identity() for i, expert in enumerate(experts))
        self.group, self.size, self.mine = group, size, self_has

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        each = len(self.mine)
        sent = torch.tensor(counts, device=x.device).view(self.size, each)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self.group)
        there, here = sent.sum(1).tolist(), received.sum(1).tolist()
        arrived: Tensor = _Exchange.apply(x, here, there, self.group)
        made = self._run(arrived, received.flatten().tolist())
        returned: Tensor = _Exchange.apply(made, there, here, self.group)
        return returned

    def _run(self, x: Tensor, counts: list[int]) -> Tensor:
        """The local experts over tokens that stand sorted by where they came from, and then by expert."""
        parts = list(x.split(counts))
        each = len(self.mine)
        for place, index in enumerate(self.mine):
            own = parts[place::each]
            if any(len(part) for part in own):
                made = self[index](torch.cat(own))
                parts[place::each] = made.split([len(part) for part in own])
        return torch.cat(parts)


class _Sizes(Protocol):
    take: list[int]
    give: list[int]
    group: dist.ProcessGroup


class _Exchange(torch.autograd.Function):
    """Rows of x go to a group, `give[i]` of them to its i-th process, and `take[i]` come from it; gradients go back."""

    @staticmethod
    def forward(ctx: _Sizes, x: Tensor, take: list[int], give: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.take, ctx.give, ctx.group = take, give, group
        return _exchange(x, take, give, group)

    @staticmethod
    def backward(ctx: _Sizes, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _exchange(gradients[0], ctx.give, ctx.take, ctx.group), None, None, None


def _exchange(x: Tensor, take: list[int], give: list[int], group: dist.ProcessGroup) -> Tensor:
    arrived = x.new_empty(sum(take), *x.shape[1:])
    dist.all_to_all_single(arrived, x.contiguous(), take, give, group=group)
    return arrived


def spread_experts(net: nn.Module, group: dist.ProcessGroup) -> None:
    """Leave of every list in `net` this process's share of the experts, in place; names stay."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ExpertList):
                setattr(module, name, SpreadExpertList(child, group))


def check_experts(net: Network, size: int) -> None:
    """Raise `BadRecipe` where the experts of a network cannot be divided by `size`."""
    numbers = {len(module) for module in net.modules() if isinstance(module, ExpertList)}
    if not numbers:
        raise BadRecipe(
            f"parallel.expert = {size} is for networks with experts; a {net.config.model_type} has none."
        )
    n = min(numbers)
    if n % size:
        fitting = ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)
        raise BadRecipe(
            f"parallel.expert = {size} does not divide the {n} experts of a layer: {fitting} would do."
        )

"""Data parallelism in which each process keeps only its part of the weights, and borrows the rest layer by layer.

ZeRO: Rajbhandari et al., arXiv:1910.02054; FSDP: Zhao et al., arXiv:2304.11277, in torch's second form.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from kun.adaptation.checkpointing import layers_of


class Whole(nn.Module):
    """Has functions of a network as its forward pass: within it the weights of its ends, too, are there as a whole."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, use: Callable[..., object], *inputs: object) -> object:
        return use(self.net, *inputs)


def shard(net: nn.Module, mesh: DeviceMesh, compute: torch.dtype) -> Whole:
    """Spread the float32 weights of `net` over `mesh`; they compute in `compute`, and gradients are summed in float32.

    What is called is the result; parameters keep their names in `net`.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=None if compute == torch.float32 else compute, reduce_dtype=torch.float32
    )
    whole = Whole(net)
    for module in [*_outermost(layers_of(net)), whole]:
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for module in whole.modules():
        if isinstance(module, FSDPModule):
            # the loss is divided by the targets of all: gradients add up
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return whole


def synchronize(whole: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass sums the gradients over all processes; else it only collects them."""
    assert isinstance(whole, FSDPModule)
    whole.set_requires_gradient_sync(wanted)


def _outermost(layers: list[nn.Module]) -> list[nn.Module]:
    """Without those that are within another."""
    within = {id(part) for layer in layers for part in layer.modules() if part is not layer}
    return [layer for layer in layers if id(layer) not in within]

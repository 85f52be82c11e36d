"""Tensor parallelism: each process computes some heads of every attention and some columns of every feed-forward part.

Shoeybi et al., "Megatron-LM", arXiv:1909.08053: what widens is cut by columns, what narrows again by rows, so that
the processes exchange states but twice a layer. Embedding, norms and head stay whole on each.
"""

import math

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from kun.blocks.positions import Alibi
from kun.errors import BadRecipe
from kun.families import family_of
from kun.networks.family import Sharding
from kun.networks.network import Network, NetworkConfig


def split_layers(net: Network, mesh: DeviceMesh) -> None:
    """Cut the matrices of the layers over `mesh`, in place, as the family says; parameters keep their names.

    Raises `BadRecipe` where the sizes of the network don't divide; it names the sizes that do.
    """
    sharding = family_of(net.config.to_hf()).sharding
    if sharding is None:
        raise BadRecipe(
            f"parallel.tensor = {mesh.size()} is not for a {net.config.model_type}: leave it at 1."
        )
    _check(net.config, sharding, mesh.size())
    parallelize_module(net, mesh, plan_of(net, sharding))
    for part in vars(net).values():
        if isinstance(part, Alibi):
            part.slopes = part.slopes.chunk(mesh.size())[mesh.get_local_rank()]


def plan_of(net: nn.Module, sharding: Sharding) -> dict[str, ParallelStyle]:
    """How each module of a network is cut, by its name."""
    plan: dict[str, ParallelStyle] = {}
    for name, module in net.named_modules():
        part = ".".join(name.split(".")[-2:])
        if part in sharding.columns and isinstance(module, nn.Linear | nn.Embedding):
            plan[name] = ColwiseParallel()
        elif part in sharding.rows and isinstance(module, nn.Linear):
            plan[name] = RowwiseParallel()
    return plan


def _check(config: NetworkConfig, sharding: Sharding, size: int) -> None:
    fields = vars(config)
    widths = {name: int(fields[name]) for name in sharding.widths if fields.get(name)}
    uneven = {name: width for name, width in widths.items() if width % size}
    if uneven:
        common = math.gcd(*widths.values())
        fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        named = ", ".join(f"{name} = {width}" for name, width in uneven.items())
        raise BadRecipe(f"parallel.tensor = {size} does not divide {named}: {fitting} would do.")

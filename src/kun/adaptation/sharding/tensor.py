"""Tensor parallelism: each process computes some heads of every attention and some columns of every feed-forward part.

Shoeybi et al., "Megatron-LM", arXiv:1909.08053: what widens is cut by columns, what narrows again by rows, so that
the processes exchange states but twice a layer. Embedding, norms and head stay whole on each.
"""

import math
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from kun.errors import BadRecipe

_ATTENTIONS = ("attention", "cross")
_COLUMNS = dict.fromkeys(_ATTENTIONS, ("q", "k", "v")) | {"mlp": ("gate", "up"), "relative": ("table",)}
_ROWS = dict.fromkeys(_ATTENTIONS, ("o",)) | {"mlp": ("down",)}
_WIDTHS = ("n_heads", "n_kv_heads", "n_decoder_heads", "d_ff", "d_decoder_ff")
"""Fields of a config that have to be cut evenly."""


def split_layers(net: nn.Module, mesh: DeviceMesh) -> None:
    """Cut the matrices of the layers over `mesh`, in place; parameters keep their names.

    Raises `BadRecipe` where the sizes of the network don't divide; it names the sizes that do.
    """
    _check(net, mesh.size())
    parallelize_module(net, mesh, plan_of(net))
    alibi: Any = getattr(net, "distances", None)
    if alibi is not None:
        alibi.slopes = alibi.slopes.chunk(mesh.size())[mesh.get_local_rank()]


def plan_of(net: nn.Module) -> dict[str, Any]:
    """How each module of a network is cut, by its name."""
    plan: dict[str, Any] = {}
    for name, module in net.named_modules():
        owner, _, part = name.rpartition(".")
        kind = owner.rpartition(".")[2]
        if part in _COLUMNS.get(kind, ()) and isinstance(module, nn.Linear | nn.Embedding):
            plan[name] = ColwiseParallel()
        elif part in _ROWS.get(kind, ()) and isinstance(module, nn.Linear):
            plan[name] = RowwiseParallel()
    return plan


def _check(net: nn.Module, size: int) -> None:
    config: Any = net.config
    if not plan_of(net):
        raise BadRecipe(f"parallel.tensor = {size} is not for a {config.model_type}: leave it at 1.")
    widths = {name: vars(config)[name] for name in _WIDTHS if vars(config).get(name)}
    uneven = {name: width for name, width in widths.items() if width % size}
    if uneven:
        common = math.gcd(*widths.values())
        fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        told = ", ".join(f"{name} = {width}" for name, width in uneven.items())
        raise BadRecipe(f"parallel.tensor = {size} does not divide {told}: {fitting} would do.")

"""Which layout a job asks for: one process, or several that share the rows, the weights, the layers or the experts."""

from typing import Any

import torch
from torch import nn

from kun.errors import BadRecipe
from kun.training.job import Job
from kun.training.layout import ParallelLayout, Routed, Sharded
from kun.training.networks import Net, Networks
from kun.training.piped import Piped
from kun.training.processes import Processes


def lay_out(networks: Networks[Net], job: Job, processes: Processes) -> ParallelLayout[Net]:
    """Spread the trained network over the processes as a job says. Raises `BadRecipe` for what cannot be spread so."""
    parallel = job.parallel
    if processes.world == 1:
        return ParallelLayout(networks, processes)
    divided = parallel.shard or parallel.tensor * parallel.pipeline * parallel.expert > 1
    if divided and job.lora:
        raise BadRecipe(
            "A low-rank adapter trains on several processes by parallel.data alone: leave out the others."
        )
    if divided and job.train.sample_every:
        raise BadRecipe(
            "train.sample_every needs a whole network on one process: leave it out, or use parallel.data."
        )
    if parallel.expert > 1 and (parallel.shard or parallel.pipeline > 1):
        raise BadRecipe("parallel.expert goes with data and tensor, not with shard or pipeline.")
    if parallel.shard or parallel.expert > 1:
        _check_even(networks.trained, parallel.shard, is_new=job.model.source is None)
    if parallel.expert > 1:
        return Routed(networks, processes, parallel.expert)
    if parallel.pipeline > 1:
        if parallel.shard:
            raise BadRecipe(
                "parallel.shard does not go with parallel.pipeline, which divides the weights already."
            )
        return Piped(networks, processes)
    if parallel.shard:
        compute = torch.bfloat16 if job.train.precision == "bf16" else torch.float32
        return Sharded(networks, processes, compute)
    return ParallelLayout(networks, processes)


def _check_even(net: nn.Module, is_sharded: bool, *, is_new: bool) -> None:
    """Raise `BadRecipe` where processes that wait for each other in a layer might not all come to it."""
    config: Any = net.config
    on = [name for name in ("layer_dropout", "decoder_layer_dropout") if vars(config).get(name)]
    if on:
        fix = " and ".join(f"model.{name} = 0" for name in on) if is_new else "model.dropout = 0"
        raise BadRecipe(f"Layers that are left out at random cannot lie on several processes: set {fix}.")
    if is_sharded and vars(config).get("n_experts"):
        raise BadRecipe("parallel.shard is not for networks with experts: use parallel.expert.")

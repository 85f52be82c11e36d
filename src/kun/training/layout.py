"""How a network lies on the processes of a training: where its gradients add up, and who holds what."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kun.errors import BadRecipe
from kun.training.feed import Batch
from kun.training.objectives import Objective
from kun.training.optimizers import Slot, local
from kun.training.processes import Processes
from kun.training.recipe import Recipe

_BUCKET = 2**18
"""Numbers that are summed over processes at once: 1 MB. A tensor with more is summed where it lies."""


class Layout:
    """All of the network on every process, each of which learns from its share of the rows.

    Gradients are summed once a step, in float32. On a processor this is faster than `Sharded`, which moves weights
    for every batch as well, and it lets the network be compiled as a whole.
    """

    is_part = False
    """Whether some parameters lie on other processes alone."""

    def __init__(self, net: nn.Module, processes: Processes) -> None:
        self.net, self.processes = net, processes
        self.parameters = sum(p.numel() for p in net.parameters())
        self.trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        self.is_whole = processes.size("tensor") == 1
        """Whether this process holds all of the network, as one process alone would."""
        self._shell = None if self.is_whole or not processes.is_first else shell(net)
        if processes.mesh is not None and not self.is_whole:
            from kun.adaptation.sharding.tensor import split_layers

            split_layers(net, processes.mesh["tensor"])

    def check(self, objective: Objective) -> None:
        """Raise `BadRecipe` for an objective that cannot be computed so."""

    def gradients(self, objective: Objective, batches: list[Batch], targets: float) -> Tensor:
        """Bring forth the gradients of this process's batches; the sum of their losses over `targets`."""
        total = torch.zeros((), device=next(self.net.parameters()).device)
        for batch in batches:
            loss = objective.loss(self.net, batch) / targets
            loss.backward()
            total += loss.detach()
        return total

    def measure(self, objective: Objective, batch: Batch) -> dict[str, float]:
        """The objective's measures of a batch that belongs to this process."""
        return objective.measure(self.net, batch)

    def groups(self, name: str) -> list[dist.ProcessGroup]:
        """The processes over which the gradient of this parameter is still to be summed."""
        return self._along("data")

    def copies(self, slot: Slot) -> int:
        """How many processes hold the same numbers of a parameter."""
        tensors = 1 if _is_split(slot.master, "tensor") else self.processes.size("tensor")
        return self.processes.size("data") * tensors

    def reduce(self, slots: Iterable[Slot]) -> None:
        """Sum the gradients of a step over the processes that hold the same parameters."""
        if self.processes.world == 1:
            return
        by_groups: dict[tuple[dist.ProcessGroup, ...], list[Slot]] = {}
        for slot in slots:
            by_groups.setdefault(tuple(self.groups(slot.name)), []).append(slot)
        for groups, some in by_groups.items():
            for group in groups:
                reached = _reached_anywhere(group, some)
                _sum_over(group, [local(slot.gradient) for slot in reached if slot.gradient is not None])

    def norm(self, slots: Iterable[Slot]) -> Tensor:
        """The 2-norm of all gradients on all processes: float32 []."""
        shares: dict[int, list[Tensor]] = {}
        for slot in slots:
            if slot.gradient is not None:
                shares.setdefault(self.copies(slot), []).append(local(slot.gradient))
        if self.processes.world == 1:
            return _norm(shares.get(1, []))
        squares = sum(_norm(gradients).double().square() / copies for copies, gradients in shares.items())
        whole = torch.as_tensor(squares, dtype=torch.float64)
        dist.all_reduce(whole)
        return whole.sqrt().float()

    def shell(self) -> nn.Module | None:
        """The network as one process would have it, without its weights: on the first, where none has it."""
        return self._shell

    def evened(self, batches: list[Batch]) -> list[tuple[Batch, float]]:
        """As many batches on every process, each with what it counts: those with fewer repeat their last for naught."""
        missing = self.processes.most(len(batches)) - len(batches)
        return [*((batch, 1.0) for batch in batches), *[(batches[-1], 0.0)] * missing]

    def _along(self, dimension: str) -> list[dist.ProcessGroup]:
        mesh = self.processes.mesh
        return [] if mesh is None or self.processes.size(dimension) == 1 else [mesh[dimension].get_group()]


class Sharded(Layout):
    """Each process keeps its part of the weights alone (FSDP2), and of what the optimizer remembers."""

    def __init__(self, net: nn.Module, processes: Processes, compute: torch.dtype) -> None:
        from kun.adaptation.sharding.data import shard

        outline = shell(net) if processes.is_first else None
        super().__init__(net, processes)
        assert processes.mesh is not None
        self._shell, self.is_whole = outline, False
        self.whole = shard(net.float(), processes.mesh["data"], compute)

    def gradients(self, objective: Objective, batches: list[Batch], targets: float) -> Tensor:
        from kun.adaptation.sharding.data import synchronize

        total = torch.zeros((), device=next(self.net.parameters()).device)
        even = self.evened(batches)
        for number, (batch, weight) in enumerate(even):
            synchronize(self.whole, number == len(even) - 1)
            loss = self.whole(objective.loss, batch) * (weight / targets)
            loss.backward()
            total += loss.detach()
        return total

    def measure(self, objective: Objective, batch: Batch) -> dict[str, float]:
        return self.whole(objective.measure, batch)

    def groups(self, name: str) -> list[dist.ProcessGroup]:
        return []

    def copies(self, slot: Slot) -> int:
        return 1 if _is_split(slot.master, "tensor") else self.processes.size("tensor")


class Routed(Layout):
    """The experts of each layer lie on `size` of the processes along data, and tokens go where theirs are (GShard)."""

    def __init__(self, net: nn.Module, processes: Processes, size: int) -> None:
        from kun.adaptation.sharding.experts import check_experts, spread_experts

        check_experts(net, size)
        outline = shell(net) if processes.is_first else None
        super().__init__(net, processes)
        self._shell, self.is_whole, self.is_part = outline, False, True
        self.size = size
        mesh = processes.mesh
        assert mesh is not None
        rows = mesh.mesh.movedim(mesh.mesh_dim_names.index("data"), -1)  # type: ignore[union-attr]
        blocks = rows.reshape(-1, processes.size("data") // size, size)
        near = processes.group_of([row for block in blocks.tolist() for row in block])
        self._alike = processes.group_of([row for block in blocks.mT.tolist() for row in block])
        spread_experts(net, near)

    def gradients(self, objective: Objective, batches: list[Batch], targets: float) -> Tensor:
        total = torch.zeros((), device=next(self.net.parameters()).device)
        for batch, weight in self.evened(batches):
            loss = objective.loss(self.net, batch) * (weight / targets)
            loss.backward()
            total += loss.detach()
        return total

    def groups(self, name: str) -> list[dist.ProcessGroup]:
        if ".experts." not in name:
            return super().groups(name)
        return [self._alike] if self.processes.size("data") > self.size else []

    def copies(self, slot: Slot) -> int:
        return super().copies(slot) // (self.size if ".experts." in slot.name else 1)


def lay_out(net: nn.Module, recipe: Recipe, processes: Processes) -> Layout:
    """Spread `net` over the processes as a recipe says. Raises `BadRecipe` for what cannot be spread so."""
    parallel = recipe.parallel
    if processes.world == 1:
        return Layout(net, processes)
    divided = parallel.shard or parallel.tensor * parallel.pipeline * parallel.expert > 1
    if divided and recipe.lora:
        raise BadRecipe(
            "A low-rank adapter trains on several processes by parallel.data alone: leave out the others."
        )
    if divided and recipe.train.sample_every:
        raise BadRecipe(
            "train.sample_every needs a whole network on one process: leave it out, or use parallel.data."
        )
    if parallel.expert > 1 and (parallel.shard or parallel.pipeline > 1):
        raise BadRecipe("parallel.expert goes with data and tensor, not with shard or pipeline.")
    if parallel.shard or parallel.expert > 1:
        _check_even(net, parallel.shard, is_new=recipe.model.source is None)
    if parallel.expert > 1:
        return Routed(net, processes, parallel.expert)
    if parallel.pipeline > 1:
        from kun.training.piped import Piped

        if parallel.shard:
            raise BadRecipe(
                "parallel.shard does not go with parallel.pipeline, which divides the weights already."
            )
        return Piped(net, processes)
    if parallel.shard:
        compute = torch.bfloat16 if recipe.train.precision == "bf16" else torch.float32
        return Sharded(net, processes, compute)
    return Layout(net, processes)


def _check_even(net: nn.Module, is_sharded: bool, *, is_new: bool) -> None:
    """Raise `BadRecipe` where processes that wait for each other in a layer might not all come to it."""
    config: Any = net.config
    on = [name for name in ("layer_dropout", "decoder_layer_dropout") if vars(config).get(name)]
    if on:
        mend = " and ".join(f"model.{name} = 0" for name in on) if is_new else "model.dropout = 0"
        raise BadRecipe(f"Layers that are left out at random cannot lie on several processes: set {mend}.")
    if is_sharded and vars(config).get("n_experts"):
        raise BadRecipe("parallel.shard is not for networks with experts: use parallel.expert.")


def shell(net: nn.Module) -> nn.Module:
    """A copy of a network whose learning parameters have shapes and no numbers."""
    empty: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in net.parameters() if p.requires_grad
    }
    return copy.deepcopy(net, empty)


def filled(shell: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A shell with weights, by name, in the types that it had."""
    mine = dict(shell.named_parameters())
    shell.load_state_dict(
        {name: weight.to(mine[name].dtype) for name, weight in weights.items()}, strict=False, assign=True
    )
    return shell


def _norm(tensors: list[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def _is_split(tensor: Tensor, dimension: str) -> bool:
    mesh: Any = getattr(tensor, "device_mesh", None)
    if mesh is None or dimension not in (mesh.mesh_dim_names or ()):
        return False
    placements: Any = tensor.placements  # type: ignore[attr-defined]
    return placements[mesh.mesh_dim_names.index(dimension)].is_shard()


def _reached_anywhere(group: dist.ProcessGroup, slots: list[Slot]) -> list[Slot]:
    """Those to which a backward pass came on some process; where it did not here, the gradient is zero."""
    came = torch.tensor([slot.gradient is not None for slot in slots], dtype=torch.int32)
    came = came.to(slots[0].master.device)
    dist.all_reduce(came, dist.ReduceOp.MAX, group=group)
    reached = [slot for slot, here in zip(slots, came.tolist(), strict=True) if here]
    for slot in reached:
        if slot.gradient is None:
            slot.gradient = torch.zeros_like(slot.master, requires_grad=False)
    return reached


def _sum_over(group: dist.ProcessGroup, tensors: list[Tensor]) -> None:
    """Sum tensors of one type over a group, in place, small ones some at a time."""
    large = [tensor for tensor in tensors if tensor.numel() >= _BUCKET and tensor.is_contiguous()]
    for tensor in large:
        dist.all_reduce(tensor, group=group)
    apart = {id(tensor) for tensor in large}
    for bucket in _buckets([tensor for tensor in tensors if id(tensor) not in apart]):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        dist.all_reduce(flat, group=group)
        parts = flat.split([tensor.numel() for tensor in bucket])
        torch._foreach_copy_(bucket, [part.view_as(t) for part, t in zip(parts, bucket, strict=True)])


def _buckets(tensors: list[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket

"""How a network lies on the processes of a training: where its gradients add up, and who holds what."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Generic

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kun.networks.network import Network
from kun.training.feed import Batch
from kun.training.networks import Net, Networks
from kun.training.optimizers import Slot, local
from kun.training.processes import Processes
from kun.training.task import Loss, Task

_BUCKET = 2**18
"""Numbers that are summed over processes at once: 1 MB. A tensor with more is summed where it lies."""


class ParallelLayout(Generic[Net]):
    """All of the network on every process, each of which learns from its share of the rows.

    Gradients are summed once a step, in float32. On a processor this is faster than `Sharded`, which moves weights
    for every batch as well, and it lets the network be compiled as a whole.
    """

    is_part = False
    """Whether some parameters lie on other processes alone."""

    def __init__(self, networks: Networks[Net], processes: Processes) -> None:
        net = networks.trained
        self.networks, self.net, self.processes = networks, net, processes
        self.parameters = sum(p.numel() for p in net.parameters())
        self.trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        self.is_whole = processes.size("tensor") == 1
        """Whether this process holds all of the network, as one process alone would."""
        self._shell = None if self.is_whole or not processes.is_first else shell(net)
        if processes.mesh is not None and not self.is_whole:
            from kun.adaptation.sharding.tensor import split_layers

            assert isinstance(net, Network)
            split_layers(net, processes.mesh["tensor"])

    def check(self, task: Task[Net]) -> None:
        """Raise `BadRecipe` for a task that cannot be computed so."""

    def gradients(self, task: Task[Net], batches: list[Batch], count: float) -> Loss:
        """Compute the gradients of this process's batches; the sum of their losses over `count`."""
        total = self._nothing()
        for batch in batches:
            made = task.loss(self.networks, batch)
            total = _backward(total, made, made.sum / count)
        return total

    def measure(self, task: Task[Net], batch: Batch) -> dict[str, float]:
        """The task's measures of a batch that belongs to this process."""
        return task.measure(self.networks, batch)

    def _nothing(self) -> Loss:
        return Loss(torch.zeros((), device=next(self.net.parameters()).device), 0)

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

    def shell(self) -> Net | None:
        """The network as one process would have it, without its weights: on the first, where none has it."""
        return self._shell

    def evened(self, batches: list[Batch]) -> list[tuple[Batch, float]]:
        """As many batches on every process, with weights: those with fewer repeat their last, with weight zero."""
        missing = self.processes.most(len(batches)) - len(batches)
        return [*((batch, 1.0) for batch in batches), *[(batches[-1], 0.0)] * missing]

    def _along(self, dimension: str) -> list[dist.ProcessGroup]:
        mesh = self.processes.mesh
        return [] if mesh is None or self.processes.size(dimension) == 1 else [mesh[dimension].get_group()]


class Sharded(ParallelLayout[Net]):
    """Each process keeps its part of the weights alone (FSDP2), and of what the optimizer remembers."""

    def __init__(self, networks: Networks[Net], processes: Processes, compute: torch.dtype) -> None:
        from kun.adaptation.sharding.data import shard

        net = networks.trained
        outline = shell(net) if processes.is_first else None
        super().__init__(networks, processes)
        assert processes.mesh is not None
        self._shell, self.is_whole = outline, False
        self.whole = shard(net.float(), processes.mesh["data"], compute)

    def gradients(self, task: Task[Net], batches: list[Batch], count: float) -> Loss:
        from kun.adaptation.sharding.data import synchronize

        total = self._nothing()
        even = self.evened(batches)
        for number, (batch, weight) in enumerate(even):
            synchronize(self.whole, number == len(even) - 1)
            made = Loss(*self.whole(lambda net, batch: _parts(task.loss(self.networks, batch)), batch))
            total = _backward(total, made, made.sum * (weight / count), weight)
        return total

    def measure(self, task: Task[Net], batch: Batch) -> dict[str, float]:
        measured: dict[str, float] = self.whole(lambda net, batch: task.measure(self.networks, batch), batch)
        return measured

    def groups(self, name: str) -> list[dist.ProcessGroup]:
        return []

    def copies(self, slot: Slot) -> int:
        return 1 if _is_split(slot.master, "tensor") else self.processes.size("tensor")


class Routed(ParallelLayout[Net]):
    """The experts of each layer lie on `size` of the processes along data, and tokens go where theirs are (GShard)."""

    def __init__(self, networks: Networks[Net], processes: Processes, size: int) -> None:
        from kun.adaptation.sharding.experts import check_experts, spread_experts

        net = networks.trained
        assert isinstance(net, Network)
        check_experts(net, size)
        outline = shell(net) if processes.is_first else None
        super().__init__(networks, processes)
        self._shell, self.is_whole, self.is_part = outline, False, True
        self.size = size
        mesh = processes.mesh
        assert mesh is not None
        rows = mesh.mesh.movedim(mesh.mesh_dim_names.index("data"), -1)  # type: ignore[union-attr]
        blocks = rows.reshape(-1, processes.size("data") // size, size)
        near = processes.group_of([row for block in blocks.tolist() for row in block])
        self._alike = processes.group_of([row for block in blocks.mT.tolist() for row in block])
        assert near is not None
        spread_experts(net, near)

    def gradients(self, task: Task[Net], batches: list[Batch], count: float) -> Loss:
        total = self._nothing()
        for batch, weight in self.evened(batches):
            made = task.loss(self.networks, batch)
            total = _backward(total, made, made.sum * (weight / count), weight)
        return total

    def groups(self, name: str) -> list[dist.ProcessGroup]:
        if ".experts." not in name:
            return super().groups(name)
        apart = self.processes.size("data") > self.size
        return [self._alike] if apart and self._alike is not None else []

    def copies(self, slot: Slot) -> int:
        return super().copies(slot) // (self.size if ".experts." in slot.name else 1)


def _parts(made: Loss) -> tuple[Tensor, int, Mapping[str, Tensor]]:
    """A loss as FSDP's hooks look into it."""
    return made.sum, made.count, made.metrics


def _backward(total: Loss, made: Loss, part: Tensor, weight: float = 1.0) -> Loss:
    """Compute the gradients of `part` of a batch's loss; the total with it."""
    part.backward()
    more = {
        name: total.metrics.get(name, 0.0) + value.detach() * weight for name, value in made.metrics.items()
    }
    metrics = {**total.metrics, **more}  # batches of one step need not have the same
    return Loss(total.sum + part.detach(), total.count + round(made.count * weight), metrics)


def shell(net: Net) -> Net:
    """A copy of a network whose learning parameters have shapes and no numbers."""
    empty: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in net.parameters() if p.requires_grad
    }
    return copy.deepcopy(net, empty)


def filled(shell: Net, weights: Mapping[str, Tensor]) -> Net:
    """A shell with weights, by name, in the types that it had."""
    ours = dict(shell.named_parameters())
    shell.load_state_dict(
        {name: weight.to(ours[name].dtype) for name, weight in weights.items()}, strict=False, assign=True
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

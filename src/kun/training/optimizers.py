"""The optimizers that change the weights: SGD, Adam, AdamW, and Muon for the layers' matrices, over float32 masters.

A network that computes in bfloat16 has a float32 master of each parameter, and small updates add up there. Gradients
of all parts of a step are summed in float32, too, each as soon as the backward pass has made it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kun.training.sharded import spread_like
from kun.training.snapshot import Snapshot
from kun.training.tables import OptimizerTable


@dataclass(eq=False)
class Slot:
    """One parameter that learns: the `weight` that computes, its float32 `master` (the same tensor where the weight is
    float32), the `gradient` of this step so far, and what the optimizer remembers of it."""

    name: str
    weight: nn.Parameter
    master: Tensor
    decays: bool
    is_matrix: bool
    memory: dict[str, Tensor]
    gradient: Tensor | None = None
    average: Tensor | None = None


class Optimizer:
    """Gradients in, updates out. Adam: Kingma and Ba, arXiv:1412.6980; AdamW: Loshchilov and Hutter, arXiv:1711.05101;
    Muon: `orthogonal`; SGD: `_sgd`. Adam's weight decay is part of its gradient, AdamW's is not.

    Weight decay belongs to matrices and tables, not to biases and gains (as in GPT-1 and BERT).
    """

    def __init__(self, net: nn.Module, table: OptimizerTable, *, ema: float | None = None) -> None:
        self.table, self.ema, self.updates = table, ema, 0
        self.kept: dict[str, Tensor] = {}
        """What a task that changes the weights by itself remembers, by name."""
        self.slots = [_slot(name, p, net, table) for name, p in net.named_parameters() if p.requires_grad]
        self._hooks = [
            slot.weight.register_post_accumulate_grad_hook(_collector(slot)) for slot in self.slots
        ]
        if ema is not None:
            for slot in self.slots:
                slot.average = slot.master.detach().clone()

    def forget(self) -> None:
        """Drop the gradients of this step."""
        for slot in self.slots:
            slot.gradient = None

    @torch.no_grad()
    def step(self, share: float, norm: Tensor) -> None:
        """Change the weights at `share` of the peak rates, with gradients of this `norm` clipped, and forget these."""
        self.updates += 1
        clip = self.table.clip
        divisor = torch.ones(()) if clip is None else (norm / clip).clamp(min=1.0)
        moved = [slot for slot in self.slots if slot.gradient is not None]
        if self.table.name == "sgd":
            self._sgd(moved, self.table.lr * share, divisor)
        else:
            self._adamw([slot for slot in moved if not slot.is_matrix], self.table.lr * share, divisor)
            self._muon([slot for slot in moved if slot.is_matrix], self.table.muon_lr * share, divisor)
        self.forget()
        self._publish(moved)

    def _sgd(self, slots: list[Slot], lr: float, divisor: Tensor) -> None:
        """Stochastic gradient descent with heavy-ball momentum, weight decay as part of the gradient.

        Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013: its equations 1 and
        2, the momentum inside the rate as in torch.
        """
        for decays in (True, False):
            some = [slot for slot in slots if slot.decays == decays]
            if not some:
                continue
            masters = [local(slot.master) for slot in some]
            gradients = [local(slot.gradient) for slot in some if slot.gradient is not None]
            updates = list(torch._foreach_div(gradients, divisor.to(masters[0].device)))
            if decays and self.table.weight_decay:
                torch._foreach_add_(updates, masters, alpha=self.table.weight_decay)
            if self.table.momentum:
                momenta = [local(slot.memory["momentum"]) for slot in some]
                torch._foreach_mul_(momenta, self.table.momentum)
                torch._foreach_add_(momenta, updates)
                updates = momenta
            torch._foreach_add_(masters, updates, alpha=-lr)

    def _adamw(self, slots: list[Slot], lr: float, divisor: Tensor) -> None:
        table = self.table
        beta1, beta2 = table.betas
        for decays in (True, False):
            some = [slot for slot in slots if slot.decays == decays]
            if not some:
                continue
            device = some[0].master.device
            count = torch.tensor(float(self.updates), device=device)
            step = torch._fused_adam_ if table.name == "adam" else torch._fused_adamw_
            step(
                [local(slot.master) for slot in some],
                [local(slot.gradient) for slot in some if slot.gradient is not None],
                [local(slot.memory["first"]) for slot in some],
                [local(slot.memory["second"]) for slot in some],
                [],
                [count] * len(some),
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                weight_decay=table.weight_decay if decays else 0.0,
                eps=table.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=divisor.to(device),
                found_inf=None,
            )

    def _muon(self, slots: list[Slot], lr: float, divisor: Tensor) -> None:
        """Nesterov momentum, made orthogonal, so that every direction of a matrix moves by the same amount."""
        by_shape: dict[torch.Size, list[Slot]] = {}
        for slot in slots:
            by_shape.setdefault(slot.master.shape, []).append(slot)
        for (rows, columns), alike in by_shape.items():
            gradients = [local(gradient) for slot in alike if (gradient := slot.gradient) is not None]
            scaled = torch._foreach_div(gradients, divisor)
            momenta = [local(slot.memory["momentum"]) for slot in alike]
            torch._foreach_lerp_(momenta, scaled, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(scaled, momenta, MOMENTUM)
            masters = [local(slot.master) for slot in alike]
            torch._foreach_mul_(masters, 1 - lr * self.table.weight_decay)
            whole = torch.stack(
                [_gathered(mine, slot.master) for mine, slot in zip(ahead, alike, strict=True)]
            )
            updates = [
                local(spread_like(slot.master, update))
                for slot, update in zip(alike, orthogonal(whole).float(), strict=True)
            ]
            torch._foreach_add_(masters, updates, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _publish(self, slots: list[Slot]) -> None:
        """Bring the masters into the weights that compute, and into the averages."""
        apart = [slot for slot in slots if slot.master is not slot.weight]
        if apart:
            torch._foreach_copy_(
                [local(slot.weight) for slot in apart], [local(slot.master) for slot in apart]
            )
        if self.ema is not None:
            averages = [local(slot.average) for slot in self.slots if slot.average is not None]
            torch._foreach_lerp_(averages, [local(slot.master) for slot in self.slots], 1 - self.ema)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the network has the averaged weights, where there are averages."""
        if self.ema is None:
            yield
            return
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for slot in self.slots:
            assert slot.average is not None
            held = slot.master.clone()
            slot.master.copy_(slot.average)
            slot.average.copy_(held)
            if slot.master is not slot.weight:
                slot.weight.copy_(slot.master)

    @torch.no_grad()
    def put(self, weights: dict[str, Tensor]) -> None:
        """Give the network other weights, by name."""
        for slot in self.slots:
            slot.weight.copy_(weights[slot.name])

    def state(self) -> dict[str, Tensor]:
        """All that resuming needs, by name: masters, averages and what is remembered of each parameter."""
        state: dict[str, Tensor] = {f"kept.{name}": tensor for name, tensor in self.kept.items()}
        for slot in self.slots:
            state[f"master.{slot.name}"] = slot.master.detach()
            state |= {f"{kind}.{slot.name}": tensor for kind, tensor in slot.memory.items()}
            if slot.average is not None:
                state[f"average.{slot.name}"] = slot.average
        return state

    @torch.no_grad()
    def load(self, snapshot: Snapshot, updates: int, *, partly: bool = False) -> None:
        """Take back what `state` gave after `updates` updates. Raises `DamagedFile` where it is another network's.

        `partly` where other processes hold some of the network's parameters.
        """
        snapshot.load_into(self.state(), partly=partly)
        self.updates = updates
        for slot in self.slots:
            if slot.master is not slot.weight:
                slot.weight.copy_(slot.master)


def _slot(name: str, weight: nn.Parameter, net: nn.Module, table: OptimizerTable) -> Slot:
    full = weight.dtype == torch.float32
    master = weight if full else weight.detach().float()
    # XLNet has a bias for each head, in a table
    decays = weight.dim() >= 2 and not name.endswith("bias")
    is_matrix = table.name == "muon" and decays and weight.dim() == 2 and _in_a_layer(name, net)
    memory = {kind: torch.zeros_like(master, requires_grad=False) for kind in _kinds(table, is_matrix)}
    return Slot(name, weight, master, decays, is_matrix, memory)


def _kinds(table: OptimizerTable, is_matrix: bool) -> tuple[str, ...]:
    """The optimizer's memory of a parameter from step to step."""
    if table.name == "sgd":
        return ("momentum",) if table.momentum else ()
    return ("momentum",) if is_matrix else ("first", "second")


def _in_a_layer(name: str, net: nn.Module) -> bool:
    """True if a parameter is a projection within the network, and no table or head at its ends."""
    owner = net.get_submodule(name.rpartition(".")[0])
    return not isinstance(owner, nn.Embedding) and any(part.isdecimal() for part in name.split("."))


def _collector(slot: Slot) -> Callable[[Tensor], None]:
    """Takes a gradient over as soon as it is whole, so that no second set of gradients is held."""

    def collect(weight: Tensor) -> None:
        gradient: Any = weight.grad
        weight.grad = None
        assert gradient is not None
        spread: Any = slot.master
        if hasattr(spread, "placements") and gradient.placements != spread.placements:  # sums yet to be made
            gradient = gradient.redistribute(placements=spread.placements)
        if slot.gradient is None:
            slot.gradient = gradient.float()
        else:
            slot.gradient += gradient

    return collect


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that is spread over several."""
    held: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return held.detach()


def _gathered(mine: Tensor, like: Tensor) -> Tensor:
    """The whole of a matrix of which this process holds `mine`, and which is spread as `like` is."""
    if not hasattr(like, "to_local"):
        return mine
    from torch.distributed.tensor import DTensor

    spread: Any = like
    return DTensor.from_local(
        mine, spread.device_mesh, spread.placements, run_check=False, shape=like.shape, stride=like.stride()
    ).full_tensor()


MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients that bring singular values near one within five steps."""


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrices with singular values near one, [n, rows, columns] in bfloat16.

    By Newton and Schulz's iteration.
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x

"""The optimizers: SGD and Adam against torch's own, Muon against the polar factor."""

from pathlib import Path

import pytest
import torch
from torch import nn

from kun.errors import BadRecipe
from kun.training.optimizers import MOMENTUM, Optimizer, orthogonal
from kun.training.recipe import read_recipe
from kun.training.tables import OptimizerTable


def _net() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


def _groups(net: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices decay, vectors do not."""
    matrices = [p for p in net.parameters() if p.dim() == 2]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def _check_five_steps(
    ours: nn.Module, optimizer: Optimizer, reference: nn.Module, theirs: torch.optim.Optimizer
) -> None:
    inputs = torch.randn(16, 6)
    for _ in range(5):
        ours(inputs).square().mean().backward()
        optimizer.step(1.0, torch.ones(()))
        theirs.zero_grad()
        reference(inputs).square().mean().backward()
        theirs.step()
    for mine, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.1), (0.0, 0.1), (0.5, 0.0)])
def test_sgd_takes_the_steps_of_torchs_own(momentum: float, decay: float) -> None:
    ours, reference = _net(), _net()
    table = OptimizerTable(name="sgd", lr=0.1, momentum=momentum, weight_decay=decay, clip=None)
    optimizer = Optimizer(ours, table)
    theirs = torch.optim.SGD(_groups(reference, decay), lr=0.1, momentum=momentum)
    _check_five_steps(ours, optimizer, reference, theirs)


def test_sgd_clips_and_follows_the_schedule() -> None:
    net = nn.Linear(3, 1, bias=False)
    before = net.weight.detach().clone()
    optimizer = Optimizer(net, OptimizerTable(name="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, clip=2.0))
    net(torch.tensor([[3.0, 4.0, 0.0]])).sum().backward()
    optimizer.step(0.5, torch.tensor(5.0))  # the norm of (3, 4, 0)
    torch.testing.assert_close(before - net.weight, torch.tensor([[3.0, 4.0, 0.0]]) * (2 / 5) * 0.25)


def test_sgd_remembers_one_tensor_a_weight_and_none_without_momentum() -> None:
    assert [set(slot.memory) for slot in Optimizer(_net(), OptimizerTable(name="sgd")).slots] == [
        {"momentum"}
    ] * 4
    plain = Optimizer(_net(), OptimizerTable(name="sgd", momentum=0.0))
    assert [set(slot.memory) for slot in plain.slots] == [set()] * 4


def test_a_momentum_of_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('stage = "pretrain"\n[optimizer]\nname = "sgd"\nmomentum = 1.0\n', encoding="utf-8")
    with pytest.raises(BadRecipe, match="momentum"):
        read_recipe(path)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_takes_the_steps_of_torchs_own_whose_decay_is_part_of_the_gradient(decay: float) -> None:
    ours, reference = _net(), _net()
    table = OptimizerTable(name="adam", lr=0.01, weight_decay=decay, betas=(0.9, 0.95), clip=None)
    optimizer = Optimizer(ours, table)
    theirs = torch.optim.Adam(_groups(reference, decay), lr=0.01, betas=(0.9, 0.95))
    _check_five_steps(ours, optimizer, reference, theirs)


def _polar(matrix: torch.Tensor) -> torch.Tensor:
    """The orthogonal matrix that is nearest, by the singular value decomposition in float64."""
    u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ v


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_what_muon_makes_orthogonal_has_the_directions_of_the_polar_factor(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    made = orthogonal(matrix[None])[0].double()
    u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    within = u.T @ made @ v.T  # diagonal, if singular vectors are the same
    sizes = within.diagonal()
    assert 0.6 < float(sizes.min()) <= float(sizes.max()) < 1.3  # as near to one as five steps bring them
    assert float((within - sizes.diag()).abs().max()) < 0.05
    polar = _polar(matrix)
    assert float((made * polar).sum() / made.norm() / polar.norm()) > 0.97


def test_muons_first_step_is_the_polar_factor_of_the_momentum_by_its_rate() -> None:
    torch.manual_seed(1)
    net = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(12, 20)])})
    (linear,) = net["layers"]
    before, inputs = linear.weight.detach().clone(), torch.randn(32, 12)
    optimizer = Optimizer(net, OptimizerTable(name="muon", lr=1e-3, muon_lr=0.1, weight_decay=0.0, clip=None))
    linear(inputs).square().mean().backward()
    gradient = next(slot.gradient for slot in optimizer.slots if slot.is_matrix)
    assert gradient is not None
    ahead = (
        (1 - MOMENTUM) * (1 + MOMENTUM) * gradient
    )  # Nesterov: the momentum, which began at zero, a step ahead
    optimizer.step(1.0, torch.ones(()))
    moved = (before - linear.weight.detach()).double()
    wanted = 0.1 * (20 / 12) ** 0.5 * _polar(ahead)
    assert float((moved * wanted).sum() / moved.norm() / wanted.norm()) > 0.97
    assert 0.8 < float(moved.norm() / wanted.norm()) < 1.15


def test_muon_moves_matrices_of_layers_alone_and_adamw_all_else() -> None:
    net = nn.ModuleDict({"embed": nn.Embedding(8, 4), "layers": nn.ModuleList([nn.Linear(4, 4)])})
    kinds = {slot.name: slot.is_matrix for slot in Optimizer(net, OptimizerTable(name="muon")).slots}
    assert kinds == {"embed.weight": False, "layers.0.weight": True, "layers.0.bias": False}

"""The optimizers: SGD against torch's own."""

from pathlib import Path

import pytest
import torch
from torch import nn

from kun.errors import BadRecipe
from kun.training.optimizers import Optimizer
from kun.training.recipe import read_recipe
from kun.training.tables import OptimizerTable


def _net() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.1), (0.0, 0.1), (0.5, 0.0)])
def test_sgd_takes_the_steps_of_torchs_own(momentum: float, decay: float) -> None:
    ours, reference = _net(), _net()
    table = OptimizerTable(name="sgd", lr=0.1, momentum=momentum, weight_decay=decay, clip=None)
    optimizer = Optimizer(ours, table)
    matrices = [p for p in reference.parameters() if p.dim() == 2]
    vectors = [p for p in reference.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    theirs = torch.optim.SGD(groups, lr=0.1, momentum=momentum)
    inputs = torch.randn(16, 6)
    for _ in range(5):
        ours(inputs).square().mean().backward()
        optimizer.step(1.0, torch.ones(()))
        theirs.zero_grad()
        reference(inputs).square().mean().backward()
        theirs.step()
    for mine, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


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

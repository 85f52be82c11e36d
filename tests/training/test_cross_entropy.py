"""Cross-entropy in parts gives what torch gives for all the logits at once."""

import pytest
import torch
from torch.nn import functional as F

import kun.training.cross_entropy as module
from kun.training.cross_entropy import IGNORED, cross_entropy


@pytest.fixture(params=[2**25, 64], ids=["in one part", "in many parts"])
def parts(request, monkeypatch):
    monkeypatch.setattr(module, "_MOST_LOGITS", request.param)
    monkeypatch.setattr(module, "_BLOCK_LOGITS", 48)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.usefixtures("parts")
def test_loss_and_gradients_are_those_of_the_whole(smoothing, weighed):
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 17)
    states = torch.randn(3, 5, 8, requires_grad=True)
    labels = torch.randint(0, 17, (3, 5))
    labels[0, 2:] = IGNORED
    weights = torch.rand(3, 5) if weighed else None
    losses = F.cross_entropy(
        head(states).flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing
    )
    wanted = (losses if weights is None else losses * weights.flatten()).sum()
    theirs = torch.autograd.grad(wanted * 0.5, [states, *head.parameters()])
    loss = cross_entropy(head, states, labels, smoothing=smoothing, weights=weights)
    ours = torch.autograd.grad(loss * 0.5, [states, *head.parameters()])
    torch.testing.assert_close(loss, wanted)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    with torch.no_grad():
        torch.testing.assert_close(
            cross_entropy(head, states, labels, smoothing=smoothing, weights=weights), wanted
        )


@pytest.mark.usefixtures("parts")
def test_two_parameters_that_a_head_adds_up_have_their_gradients_each():
    torch.manual_seed(0)
    one, two = (torch.randn(17, 8, requires_grad=True) for _ in range(2))
    states, labels = torch.randn(15, 8, requires_grad=True), torch.randint(0, 17, (15,))

    def head(x):
        return F.linear(x, one + two)

    theirs = torch.autograd.grad(F.cross_entropy(head(states), labels, reduction="sum") * 0.5, [one, two])
    ours = torch.autograd.grad(cross_entropy(head, states, labels) * 0.5, [one, two])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_what_has_no_label_has_no_loss_and_no_gradient():
    head = torch.nn.Linear(4, 5)
    states = torch.randn(2, 4, requires_grad=True)
    loss = cross_entropy(head, states, torch.full((2,), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.count_nonzero(states.grad) == 0


def test_all_the_logits_are_never_there(monkeypatch):
    monkeypatch.setattr(module, "_MOST_LOGITS", 1000)
    seen = []
    weight = torch.randn(100, 8, requires_grad=True)

    def head(x):
        seen.append(len(x) * 100)
        return x @ weight.T

    cross_entropy(head, torch.randn(64, 8, requires_grad=True), torch.randint(0, 100, (64,))).backward()
    assert max(seen) <= 1000


def test_bfloat16_states_lose_no_more_than_their_own_rounding():
    torch.manual_seed(1)
    weight = torch.randn(300, 32)
    states, labels = torch.randn(64, 32), torch.randint(0, 300, (64,))
    exact = F.cross_entropy(states @ weight.T, labels, reduction="sum")
    rough = cross_entropy(lambda x: x @ weight.bfloat16().T, states.bfloat16().requires_grad_(), labels)
    assert abs(float(rough.detach()) / float(exact) - 1) < 0.01

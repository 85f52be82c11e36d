"""Dropout keeps what it says it keeps, and its mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kun.blocks.dropout import Dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_a_share_of_places_is_zero_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    dropped = dropout(torch.ones(200_000, dtype=dtype), p).float()
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert len(dropped.unique()) == 2


def test_places_are_dropped_independently_of_their_neighbours():
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(400_000), 0.5) == 0).float() - 0.5
    for distance in (1, 2, 3, 4, 8, 64):
        together = (dropped[distance:] * dropped[:-distance]).mean().item() * 4
        assert abs(together) < 0.01, distance


def test_the_gradient_falls_where_the_value_fell():
    x = torch.randn(3, 5, 7, requires_grad=True)
    y = dropout(x, 0.4)
    y.sum().backward()
    assert torch.allclose(x.grad * x, y)


@given(st.lists(st.integers(0, 5), min_size=0, max_size=4), st.floats(0, 1))
def test_every_shape_and_probability_is_taken(shape, p):
    y = dropout(torch.ones(shape), p)
    assert y.shape == tuple(shape)
    assert bool(torch.isfinite(y).all())


def test_the_ends_of_the_scale_keep_all_and_nothing():
    x = torch.randn(1000)
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1e-9), x)
    assert torch.equal(dropout(x, 1.0), torch.zeros(1000))


def test_a_seed_gives_the_same_places_and_another_gives_others():
    drop = Dropout(0.5)

    def draw(seed):
        torch.manual_seed(seed)
        return drop(torch.ones(1000))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(drop.eval()(torch.ones(1000)), torch.ones(1000))

"""Rotary positions: what they promise whatever the scaling."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kun.blocks.rotary import SCALINGS, Rotary, RotaryConfig, frequencies, rotate


def config(scaling: str) -> RotaryConfig:
    return RotaryConfig(scaling=scaling, factor=4.0, original=32)


@given(st.sampled_from(SCALINGS), st.integers(0, 20), st.integers(0, 20), st.integers(0, 8))
def test_a_score_depends_on_the_distance_alone(scaling: str, a: int, b: int, shift: int) -> None:
    rotary = Rotary(config(scaling), 16)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0)).double()

    def score(i: int, j: int) -> float:
        turned = [rotate(x, *rotary(torch.tensor([[place]]), torch.float64)) for x, place in ((q, i), (k, j))]
        return float((turned[0] * turned[1]).sum())

    assert score(a, b) == pytest.approx(score(a + shift, b + shift), abs=2e-4)


@pytest.mark.parametrize("scaling", [s for s in SCALINGS if s != "yarn"])
def test_turning_keeps_lengths(scaling: str) -> None:
    x = torch.randn(1, 5, 2, 16)
    turned = rotate(x, *Rotary(config(scaling), 16)(torch.arange(5)[None], torch.float32))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize("scaling", ["linear", "llama3", "yarn"])
def test_scalings_slow_the_slowest_turn_by_the_factor_and_none_speeds_up(scaling: str) -> None:
    plain, scaled = frequencies(config("default"), 64), frequencies(config(scaling), 64)
    assert (scaled <= plain * 1.000001).all()
    assert float(scaled[-1]) == pytest.approx(float(plain[-1]) / 4, rel=1e-5)


def test_dynamic_scaling_begins_where_the_original_context_ends() -> None:
    dynamic = config("dynamic")
    assert torch.equal(frequencies(dynamic, 16, 32), frequencies(config("default"), 16))
    assert frequencies(dynamic, 16, 33)[-1] < frequencies(dynamic, 16, 32)[-1]


def test_frequencies_are_there_after_building_on_the_meta_device() -> None:
    with torch.device("meta"):
        rotary = Rotary(config("yarn"), 16)
    cos, _ = rotary(torch.arange(3)[None], torch.float32)
    assert cos.device.type == "cpu"
    assert torch.isfinite(cos).all()
    assert rotary.bfloat16().frequencies(0, torch.device("cpu")).dtype == torch.float32

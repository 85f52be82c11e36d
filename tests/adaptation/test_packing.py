"""What is packed comes back within half a step, in torch and in compiled code alike."""

import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from gguf.quants import quantize as gguf_quantize
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kun.adaptation import native
from kun.adaptation.packing import GROUP, PANEL, Bits, Packed, pack, rounding_error, unpack, unpack_rows

BITS = st.sampled_from([4, 8])


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Odd sizes, and scales from the smallest float16 to large ones."""
    outputs, inputs = draw(st.integers(1, 40)), draw(st.integers(1, 100))
    scale = 10.0 ** draw(st.integers(-6, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randn(outputs, inputs, generator=generator) * scale


def steps(weight: Tensor, bits: Bits) -> Tensor:
    """The step of each weight's group [outputs, inputs], were the group's whole span cut evenly."""
    outputs, inputs = weight.shape
    groups = -(-inputs // GROUP)
    filled = torch.nn.functional.pad(weight, (0, groups * GROUP - inputs)).view(outputs, groups, GROUP)
    if bits == 4:
        step = (filled.amax(-1) - filled.amin(-1)) / 15
    else:
        step = filled.abs().amax(-1) / 120  # 240 steps from end to end, at the least
    return step.repeat_interleave(GROUP, dim=1)[:, :inputs]


def half_spacing(weight: Tensor) -> float:
    """What rounding a scale and a minimum to float16 may add: relative to the largest weight, and absolute."""
    return 2e-3 * weight.abs().max().item() + 127 * 2**-25


@given(matrices(), BITS)
def test_weights_come_back_within_a_step(weight: Tensor, bits: Bits) -> None:
    back = unpack(pack(weight, bits), *weight.shape)
    # of four bits the narrower spans may be better on the whole, and cut an extreme by some steps
    bound = steps(weight, bits) * (0.5 if bits == 8 else 2) + half_spacing(weight)
    assert ((back - weight).abs() <= bound).all()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("bits", [4, 8])
def test_compiled_packing_is_at_least_as_near(bits: Bits) -> None:
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(3)) ** 3

    def error(packed: Packed) -> float:
        return (unpack(packed, *weight.shape) - weight).square().sum().item()

    assert error(native.pack(weight, bits)) <= 1.001 * error(pack(weight, bits))


@pytest.mark.parametrize("native_pack", [False, True])
@pytest.mark.parametrize("steps", range(1, 16))
def test_even_steps_lose_nothing_whichever_of_the_codes_went_unused(steps: int, native_pack: bool) -> None:
    codes = torch.randint(0, steps + 1, (32, 64), generator=torch.Generator().manual_seed(steps)).float()
    codes[:, 0], codes[:, 1], codes[:, 32], codes[:, 33] = 0, steps, 0, steps
    weight = codes * 0.125 - 0.5
    if native_pack and not native.available():
        pytest.skip("there is no C compiler here")
    packed = native.pack(weight, 4) if native_pack else pack(weight, 4)
    assert torch.equal(unpack(packed, 32, 64), weight)


@pytest.mark.parametrize("native_pack", [False, True])
def test_four_bits_of_gguf_come_back_as_they_were(native_pack: bool) -> None:
    """Q4_1 exactly; of Q4_0, whose least weight is up to eight steps from zero, as near as float16 holds that."""
    if native_pack and not native.available():
        pytest.skip("there is no C compiler here")
    floats = torch.randn(64, 96, generator=torch.Generator().manual_seed(4)).numpy()
    for kind, bound in ((GGMLQuantizationType.Q4_1, 0), (GGMLQuantizationType.Q4_0, 1e-3**2)):
        weight = torch.from_numpy(dequantize(gguf_quantize(floats, kind), kind))
        packed = native.pack(weight, 4) if native_pack else pack(weight, 4)
        assert rounding_error(weight, packed) <= bound


@pytest.mark.parametrize("native_pack", [False, True])
def test_scales_that_float16_does_not_hold_lose_its_rounding_alone(native_pack: bool) -> None:
    """As in Q4_K: scale and minimum are a float16 times six bits, and not all codes are in use."""
    generator = torch.Generator().manual_seed(5)
    scale, minimum = (torch.randint(20, 64, (64, 8, 1), generator=generator) * 0.0123 for _ in range(2))
    codes = torch.randint(0, 16, (64, 8, 32), generator=generator)
    codes = codes.minimum(torch.randint(8, 16, (64, 8, 1), generator=generator))
    weight = (codes * scale - 8 * minimum).view(64, 256)
    if native_pack and not native.available():
        pytest.skip("there is no C compiler here")
    packed = native.pack(weight, 4) if native_pack else pack(weight, 4)
    assert rounding_error(weight, packed) < 1e-3**2


@given(st.integers(1, 40), st.integers(1, 100), st.floats(1e-3, 0.5), st.integers(0, 99))
def test_the_error_that_is_judged_is_that_of_the_whole(
    outputs: int, inputs: int, noise: float, seed: int
) -> None:
    """Of a matrix small enough to be judged whole."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    packed = pack(weight + noise * torch.randn(outputs, inputs, generator=generator), 4)
    error = (unpack(packed, outputs, inputs) - weight).square().sum() / weight.square().sum()
    assert rounding_error(weight, packed) == pytest.approx(error.item(), rel=1e-4)


def test_a_large_matrix_is_judged_by_panels_from_all_of_it() -> None:
    weight = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    packed = pack(weight, 4)
    error = (unpack(packed, *weight.shape) - weight).square().sum() / weight.square().sum()
    assert rounding_error(weight, packed) == pytest.approx(error.item(), rel=0.05)
    packed.codes[len(packed.codes) // 2 :] = 0
    assert rounding_error(weight, packed) > 10 * error


@given(matrices(), BITS, st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_rows_are_those_of_the_whole(weight: Tensor, bits: Bits, wanted: list[int]) -> None:
    packed = pack(weight, bits)
    ids = torch.tensor(wanted) % len(weight)
    whole = unpack(packed, *weight.shape)
    assert torch.equal(unpack_rows(packed, ids, weight.shape[1]), whole[ids])
    if native.available():
        torch.testing.assert_close(native.rows(ids, packed, weight.shape[1]), whole[ids])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("row", [-1, 48])
def test_a_row_that_is_not_there_is_refused(row: int) -> None:
    with pytest.raises(IndexError, match="0 to 47"):
        native.rows(torch.tensor([0, row]), pack(torch.ones(48, 32), 8), 32)


def test_whole_panels_and_groups_are_stored() -> None:
    packed = pack(torch.ones(PANEL + 1, GROUP + 1), 4)
    assert packed.codes.shape == (2, 2, 256)
    assert packed.scales.shape == (2, 2, 2, PANEL)


def test_weights_beyond_half_precision_stay_finite() -> None:
    weight = torch.tensor([[1e9, -1e9] * 16])
    for bits in (4, 8):
        assert unpack(pack(weight, bits), 1, 32).isfinite().all()  # type: ignore[arg-type]

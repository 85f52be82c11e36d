"""Weights as GGUF's blocks: as near as the format allows, and the same again when they came from such blocks."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from gguf.quants import quantize as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kun.errors import BadInput
from kun.hub.gguf.gguf_quantize import KINDS, quantize, stored

QUANTIZED = ["Q8_0", "Q4_0", "Q4_1"]
ROWS = arrays(np.float32, (3, 64), elements=st.floats(-8, 8, width=32))


def kind_of(name: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[name]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_as_many_as_the_format_says_and_the_reference_reads_them(kind: str) -> None:
    rows = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    data = quantize(rows, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind_of(kind)]
    assert data.shape == (5, 96 // block * size)
    read = dequantize(data, kind_of(kind)).reshape(5, 96)
    np.testing.assert_array_equal(read, stored(rows, kind).numpy())


@pytest.mark.parametrize("kind", QUANTIZED)
@given(rows=ROWS)
def test_no_number_is_further_away_than_a_block_of_its_kind_allows(kind: str, rows: np.ndarray) -> None:
    blocks = rows.reshape(-1, 32)
    # an eighth of the largest in Q4_0, a fifteenth of the range in Q4_1, with the stretch that the search may take,
    # and float16's own steps
    largest, span = np.abs(blocks).max(-1), np.ptp(blocks, axis=-1)
    bound = {"Q8_0": largest / 120, "Q4_0": largest / 4, "Q4_1": span / 5}[kind] + 1e-3 * (1 + largest)
    distance = np.abs(stored(torch.from_numpy(rows), kind).numpy().reshape(-1, 32) - blocks).max(-1)
    assert (distance <= bound).all()


@pytest.mark.parametrize("kind", QUANTIZED)
def test_the_error_is_not_larger_than_that_of_the_reference_quantizer(kind: str) -> None:
    rows = torch.randn(64, 256, generator=torch.Generator().manual_seed(1)) * 0.05
    theirs = dequantize(reference(rows.numpy(), kind_of(kind)), kind_of(kind)).reshape(64, 256)
    ours = stored(rows, kind).numpy()
    assert np.square(ours - rows.numpy()).mean() <= np.square(theirs - rows.numpy()).mean()


@pytest.mark.parametrize("kind", QUANTIZED)
@given(rows=ROWS)
def test_numbers_that_came_from_blocks_of_the_reference_go_back_into_the_same(
    kind: str, rows: np.ndarray
) -> None:
    # numbers so small that float16 has no steps for their scale are no weights
    rows = np.where(np.abs(rows) < 1e-2, np.float32(0), rows)
    once = dequantize(reference(rows, kind_of(kind)), kind_of(kind)).reshape(rows.shape)
    np.testing.assert_array_equal(stored(torch.from_numpy(once), kind).numpy(), once)


def test_zeros_stay_zeros() -> None:
    for kind in KINDS:
        assert not stored(torch.zeros(2, 32), kind).any()


def test_numbers_that_the_type_cannot_hold_are_refused() -> None:
    with pytest.raises(BadInput, match="not finite"):
        quantize(torch.full((1, 32), torch.nan), "Q8_0")
    with pytest.raises(BadInput, match="BF16"):
        quantize(torch.full((1, 32), 1e6), "F16")

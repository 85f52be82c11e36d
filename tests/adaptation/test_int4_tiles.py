"""Torch's own 4-bit kernel over our codes; its form for processors is what can be tried everywhere."""

import pytest
import torch

from kun.adaptation import int4_tiles
from kun.adaptation.packing import pack, unpack


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (48, 96), (576, 1536)])
def test_the_tiles_stand_for_the_same_weights(outputs: int, inputs: int) -> None:
    torch.manual_seed(0)
    packed = pack(torch.randn(outputs, inputs) * 0.05, 4)
    x = torch.randn(3, 5, inputs)
    assert int4_tiles.fits(outputs, inputs)
    product = int4_tiles.multiply(x, int4_tiles.tile(packed, outputs, inputs))
    wanted = x @ unpack(packed, outputs, inputs).T
    assert product.shape == wanted.shape
    assert product.dtype == torch.float32
    # activations, scales and zeros have eight bits of precision in bfloat16
    assert (product - wanted).norm() < 0.01 * wanted.norm()


def test_a_size_without_tiles_is_known_before_the_kernel_is_asked() -> None:
    assert not int4_tiles.fits(10, 64)
    assert not int4_tiles.fits(64, 48 + 1)

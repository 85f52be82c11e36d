"""A network that computes as llama.cpp's library does."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from torch import nn
from torch.nn import functional as F

from kun.hub.export.ggml import LikeGgml, gelu, rounded

NUMBERS = torch.randn(6, 96, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_what_meets_weights_of_few_bits_is_rounded_to_the_blocks_of_the_reference(kind: str) -> None:
    eight = gguf.GGMLQuantizationType.Q8_0
    theirs = dequantize(quantize(NUMBERS.numpy(), eight), eight).reshape(6, 96)
    np.testing.assert_allclose(rounded(NUMBERS, kind).numpy(), theirs, rtol=1e-6)
    assert not rounded(torch.zeros(1, 32), kind).any()


def test_each_matrix_rounds_what_flows_into_it_as_its_own_kind_asks() -> None:
    net = nn.Sequential(nn.Linear(96, 64), nn.GELU(), nn.Linear(64, 32, bias=False))
    with torch.inference_mode(), LikeGgml(net, {"0.weight": "BF16", "2.weight": "Q8_0"}):
        found = net(NUMBERS)
    with torch.inference_mode():
        inner = gelu(F.linear(NUMBERS.bfloat16().float(), net[0].weight, net[0].bias))
        torch.testing.assert_close(found, F.linear(rounded(inner, "Q8_0"), net[2].weight), atol=0, rtol=0)


def test_gelu_is_the_tanh_form_to_the_precision_of_float16() -> None:
    x = torch.linspace(-20, 20, 401)
    exact = F.gelu(x, approximate="tanh")
    torch.testing.assert_close(gelu(x), exact, atol=1e-3, rtol=2e-3)
    assert not torch.equal(gelu(x), exact)
    assert torch.equal(gelu(torch.tensor([-50.0, 50.0])), torch.tensor([0.0, 50.0]))

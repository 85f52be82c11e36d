"""Attention as it is written down and torch's fused kernel are one function, gradients included."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from kun.blocks.attention import attend, attend_in_steps, biased


def parts(b: int, t: int, s: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(t * 31 + s)
    return [torch.randn(b, 3, n, 8, dtype=dtype).requires_grad_() for n in (t, s, s)]


@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["none", "causal", "seen", "added"]),
    st.sampled_from([None, 1.0, 0.3]),
)
def test_in_steps_it_is_what_the_fused_kernel_gives(
    b: int, t: int, s: int, kind: str, scale: float | None
) -> None:
    s = t if kind == "causal" else s
    seen = torch.rand(b, 1, t, s) > 0.5
    seen[..., 0] = True
    mask = {"seen": seen, "added": biased(torch.randn(b, 3, t, s), seen, torch.float32)}.get(kind)
    weights, results = torch.randn(b, 3, t, 8), []
    for way in (attend_in_steps, _fused):
        q, k, v = parts(b, t, s)
        out = way(q, k, v, mask, causal=kind == "causal", scale=scale)
        (out * weights).sum().backward()
        results.append([out, q.grad, k.grad, v.grad])
    for got, wanted in zip(*results, strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool, scale: Any) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)


@pytest.mark.parametrize("causal", [False, True])
def test_training_in_bfloat16_stays_near_float32(causal: bool) -> None:
    wide = [x.detach().transpose(1, 2) for x in parts(2, 40, 40)]
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (x.detach().clone().to(dtype).requires_grad_() for x in wide)
        out = attend(q, k, v, causal=causal)
        assert out.dtype == dtype
        out.square().sum().backward()
        found.append([x.float() for x in (out, q.grad, k.grad, v.grad)])
    for exact, near in zip(*found, strict=True):
        assert (exact - near).norm() < 0.02 * exact.norm()


def test_a_learned_bias_gets_its_gradient_and_dropout_drops() -> None:
    q, k, v = (x.detach().transpose(1, 2) for x in parts(1, 5, 5))
    bias = torch.zeros(1, 3, 5, 5, requires_grad=True)
    attend(q, k, v, bias).square().sum().backward()
    step = torch.zeros(1, 3, 5, 5)
    step[0, 1, 2, 3] = 1e-2
    with torch.no_grad():
        slope = (attend(q, k, v, step).square().sum() - attend(q, k, v, -step).square().sum()) / 2e-2
    assert bias.grad is not None
    assert bias.grad[0, 1, 2, 3].item() == pytest.approx(slope.item(), abs=1e-2)
    torch.manual_seed(0)
    ones = torch.ones(1, 200, 3, 8)
    dropped = attend(ones, ones, ones, torch.zeros(1, 3, 200, 200, requires_grad=True), dropout=0.5)
    assert dropped.std() > 0
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)

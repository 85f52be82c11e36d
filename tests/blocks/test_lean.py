"""Parts that keep only what goes into them for the backward pass give the gradients of what they stand for."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from kun.blocks import tiled
from kun.blocks.activations import swiglu
from kun.blocks.attention import attend, causal_mask
from kun.blocks.norm import RMSNorm


def drawn(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(sum(sum(shape) for shape in shapes))
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


@given(
    b=st.integers(1, 3),
    t=st.integers(1, 40),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 3), (6, 1)]),
    kind=st.sampled_from(["all", "causal", "documents", "padding"]),
)
def test_attention_in_tiles_is_attention(b: int, t: int, heads: tuple[int, int], kind: str) -> None:
    numbers = torch.randint(0, 4, (b, t)).sort(1).values
    seen = {"documents": causal_mask(numbers, t, None, numbers.device), "padding": _padded(numbers)}.get(kind)
    given, results = torch.randn(b, t, heads[0], 5, dtype=torch.float64), []
    for in_tiles in (True, False):
        q, k, v = drawn(*((b, t, n, 5) for n in (heads[0], heads[1], heads[1])))
        if in_tiles:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tiled, "QUERIES", 16)
                out = tiled.attend_in_tiles(q, k, v, seen, causal=kind == "causal", scale=0.3)
                (out * given).sum().backward()
        else:
            out = _fused(q, k, v, seen, kind == "causal")
            (out * given).sum().backward()
        results.append([out, q.grad, k.grad, v.grad])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def _padded(numbers: Tensor) -> Tensor:
    real = numbers > 0
    real[:, -1] = True
    return real[:, None, None, :]


def _fused(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, causal: bool) -> Any:
    k, v = (each.repeat_interleave(q.shape[2] // k.shape[2], dim=2) for each in (k, v))
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, seen, is_causal=causal, scale=0.3).transpose(1, 2)


def kept_bytes(run: Any, *inputs: Tensor) -> int:
    """What a call keeps for its backward pass beside its inputs."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run(*inputs)
    known = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    assert out.requires_grad
    return sum(size for place, size in kept.items() if place not in known)


def test_attention_of_long_rows_keeps_no_scores_in_training() -> None:
    q, k, v = drawn((2, 512, 6, 8), (2, 512, 2, 8), (2, 512, 2, 8), dtype=torch.bfloat16)
    mask = causal_mask(torch.ones(2, 512, dtype=torch.int32), 512, None, q.device)
    scores = 2 * 6 * 512 * 512 * 2
    # the mask: one byte for each of a row
    assert kept_bytes(lambda q, k, v: attend(q, k, v, mask), q, k, v) <= scores // 6


def test_attention_of_long_rows_in_training_is_attention() -> None:
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        q, k, v = drawn((1, 600, 4, 16), (1, 600, 2, 16), (1, 600, 2, 16), dtype=torch.float32)
        numbers = torch.ones(1, 600, dtype=torch.int32)
        numbers[:, 350:] = 2
        mask = causal_mask(numbers, 600, None, q.device)
        out = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask)
        out.float().square().sum().backward()
        results.append([out, q.grad, k.grad, v.grad])
    for got, wanted in zip(*results, strict=True):
        assert (got - wanted).norm() < 0.02 * wanted.norm()


def test_a_norm_keeps_its_input_and_a_number_a_row() -> None:
    (x,) = drawn((64, 32), dtype=torch.bfloat16)
    norm = RMSNorm(32, 1e-5).bfloat16()
    assert kept_bytes(lambda x, _: norm(x), x, norm.weight) == 64 * 4


def test_a_norms_gradients_are_those_of_its_formula() -> None:
    exact, weight = drawn((7, 5, 32), (32,))
    norm = RMSNorm(32, 1e-5).bfloat16()
    norm.weight.data = weight.detach().bfloat16()
    given, x = torch.randn(7, 5, 32), exact.detach().bfloat16().requires_grad_()
    near = norm(x)
    (near * given).sum().backward()
    out = weight * exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + 1e-5)
    (out * given).sum().backward()
    for got, wanted in ((near, out), (x.grad, exact.grad), (norm.weight.grad, weight.grad)):
        assert (got - wanted).norm() < 0.01 * wanted.norm()
    frozen = norm.requires_grad_(False)
    again = x.detach().clone().requires_grad_()
    (frozen(again) * given).sum().backward()
    assert torch.equal(again.grad, x.grad)


def test_a_norm_in_float64_has_gradients() -> None:
    (x,) = drawn((7, 32))
    norm = RMSNorm(32, 1e-5).double()
    given = torch.randn(7, 32, dtype=torch.float64)
    (norm(x) * given).sum().backward()
    again = x.detach().clone().requires_grad_()
    (again * torch.rsqrt(again.square().mean(-1, keepdim=True) + 1e-5) * given).sum().backward()
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swiglu_has_the_same_bits_and_keeps_its_two_inputs(dtype: torch.dtype) -> None:
    results = []
    for way in (swiglu, lambda gate, up: F.silu(gate) * up):
        gate, up = drawn((64, 33), (64, 33), dtype=dtype)
        out = way(gate, up)
        out.square().sum().backward()
        results.append([out, gate.grad, up.grad])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert kept_bytes(swiglu, *drawn((64, 33), (64, 33), dtype=dtype)) == 0

"""Products with weights in few bits: near to those of floats, the same bits in any batch, in any number of threads."""

import os
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kun.adaptation import native
from kun.adaptation.packing import Packed, pack, unpack

pytestmark = pytest.mark.usefixtures("compiled")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(x: Tensor, packed: Packed, outputs: int, bias: Tensor | None) -> Tensor:
    """What the packed weights stand for, times rows rounded to 8 bits in groups of 32."""
    width = -(-x.shape[1] // 32) * 32
    groups = torch.nn.functional.pad(x, (0, width - x.shape[1])).view(len(x), -1, 32)
    scale = groups.abs().amax(-1, keepdim=True) / 127
    rounded = (groups / torch.where(scale == 0, 1, scale)).round() * scale
    exact = (
        rounded.view(len(x), width)[:, : x.shape[1]].double() @ unpack(packed, outputs, x.shape[1]).double().T
    )
    return (exact + (0 if bias is None else bias.double())).float()


@given(
    st.integers(1, 70),
    st.integers(1, 150),
    st.integers(1, 60),
    st.sampled_from([4, 8]),
    st.booleans(),
    st.integers(0, 99),
)
def test_products_are_those_of_the_rounded_rows(
    outputs: int, inputs: int, rows: int, bits: int, biased: bool, seed: int
) -> None:
    packed = pack(random(outputs, inputs, seed=seed), bits)  # type: ignore[arg-type]
    x, bias = random(rows, inputs, seed=seed + 1), random(outputs, seed=seed + 2) if biased else None
    got = native.linear(x, packed, outputs, bias)
    # a value midway between two steps may go to either
    torch.testing.assert_close(got, reference(x, packed, outputs, bias), rtol=1e-4, atol=0.05)
    assert (got - reference(x, packed, outputs, bias)).abs().mean() < 2e-3


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("outputs", "inputs"), [(33, 70), (48, 64), (160, 96)])
def test_a_row_is_the_same_bits_in_any_batch(bits: int, outputs: int, inputs: int) -> None:
    packed, x = pack(random(outputs, inputs), bits), random(131, inputs, seed=1)  # type: ignore[arg-type]
    whole = native.linear(x, packed, outputs)
    for rows in (*range(1, 41), 95, 96, 97, 130):
        assert torch.equal(native.linear(x[-rows:], packed, outputs), whole[-rows:])


def test_other_floating_types_come_back_as_they_went_in() -> None:
    packed, x = pack(random(20, 32), 8), random(2, 3, 32)
    assert native.linear(x.bfloat16(), packed, 20).dtype == torch.bfloat16
    assert native.linear(x, packed, 20).shape == (2, 3, 20)
    assert native.linear(x[:0], packed, 20).shape == (0, 3, 20)


def test_many_threads_get_what_one_gets() -> None:
    """The pool serves one of them at a time; the others go alone."""
    packed = pack(random(300, 256), 4)
    rows = [random(n, 256, seed=n) for n in (1, 3, 17, 40, 100, 2)]
    wanted = [native.linear(x, packed, 300) for x in rows]
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(40):
            if not torch.equal(native.linear(rows[which], packed, 300), wanted[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_multiplies_with_threads_of_its_own() -> None:
    packed, x = pack(random(200, 128), 4), random(30, 128, seed=1)
    wanted = native.linear(x, packed, 200).numpy().tobytes()
    child = os.fork()
    if child == 0:
        try:
            same = all(native.linear(x, packed, 200).numpy().tobytes() == wanted for _ in range(20))
        except BaseException:
            os._exit(2)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert native.linear(x, packed, 200).numpy().tobytes() == wanted

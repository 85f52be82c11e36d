"""Products of matrices by the encoder's threads."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.knowledge.products import product


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_a_product_is_numpy_s(rows: int, width: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left = rng.standard_normal((rows, width)).astype(np.float32)
    right = rng.standard_normal((width, columns) if columns else width).astype(np.float32)
    assert product(left, right) == pytest.approx(left @ right, abs=1e-4)


def test_arrays_that_are_only_for_reading_are_multiplied_without_a_warning() -> None:
    left = np.ones((2, 3), np.float32)
    left.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert product(left, np.ones(3, np.float32)).tolist() == [3.0, 3.0]

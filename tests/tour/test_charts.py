"""The small charts of the tour: which numbers stand at their axes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.tour.charts import _powers, _round_numbers, _written


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.062, 1.0, "0.2 0.4 0.6 0.8 1"),
        (2890, 7700, "3,000 4,000 5,000 6,000 7,000"),
        (2, 3, "2 2.2 2.4 2.6 2.8 3"),
        (-1, 1, "-1 -0.5 0 0.5 1"),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, shown: str) -> None:
    assert " ".join(map(_written, _round_numbers(low, high))) == shown


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_numbers_of_an_axis_are_few_and_lie_on_it(low: float, length: float) -> None:
    high = low + length
    found = _round_numbers(low, high)
    assert 3 <= len(found) <= 9
    slack = 1e-5 * length + 1e-9 * abs(low)
    assert all(low - slack <= value <= high + slack for value in found)


def test_an_axis_of_powers_shows_powers_of_ten_where_there_are_two() -> None:
    assert _powers(-7.2, 4.8) == [-7, -5, -3, -1, 1, 3]
    assert [round(10**value) for value in _powers(math.log10(2.1), math.log10(6))] == [3, 4, 5, 6]

"""What each kind of position can tell is computed: that places differ, that offsets are recoverable."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kun.errors import BadInput
from kun.inspection.opened import Opened
from kun.inspection.positions import KINDS, places


@given(st.integers(2, 128), st.integers(2, 64).map(lambda half: 2 * half))
def test_every_sinusoidal_place_differs_and_shifts_by_its_offset_alone(n: int, width: int) -> None:
    facts = places("sinusoidal", n, width).facts
    assert facts["nearest"] > 0
    assert facts["shift"] < 1e-4


@pytest.mark.parametrize("kind", ["rotary", "relative", "alibi"])
def test_scores_of_relative_positions_depend_on_the_distance_alone(kind: str) -> None:
    assert places(kind, 48, 32).facts["offset"] < 1e-4


def test_words_are_numbered_from_one() -> None:
    assert places("index", 3).table.flatten().tolist() == [1, 2, 3]


def test_a_shuffled_table_would_be_found_out() -> None:
    """The facts can fail: they are computed from the table."""
    from kun.inspection.positions import _by_offset, _nearest, _shift_error

    table = places("sinusoidal", 32, 32).table
    shuffled = table[torch.randperm(32, generator=torch.Generator().manual_seed(0))]
    assert _shift_error(shuffled, 8) > 0.1
    assert _nearest(torch.cat((table, table[:1]))) == 0
    assert _by_offset(table @ shuffled.T) > 0.1


def test_a_learned_table_is_the_networks_own(encoder: Opened, decoder: Opened) -> None:
    shown = places("learned", 16, net=encoder.net)
    assert torch.equal(shown.table, encoder.net.embeddings.positions.weight[:16])
    assert shown.facts["nearest"] > 0
    with pytest.raises(BadInput, match="learns no table"):
        places("learned", 16, net=decoder.net)


WRONG = [("spiral", 8, 8), ("index", 1, 8), ("rotary", 8, 7), ("alibi", 9999, 8)]


@pytest.mark.parametrize(("kind", "n", "width"), WRONG)
def test_impossible_positions_are_refused(kind: str, n: int, width: int) -> None:
    with pytest.raises(BadInput):
        places(kind, n, width)


def test_all_kinds_are_drawn() -> None:
    from kun.inspection.picture import positions

    shown = [places(kind, 16, 16) for kind in KINDS if kind != "learned"]
    svg = positions(shown, "svg").decode()
    assert all(one.kind in svg for one in shown)

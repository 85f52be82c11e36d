"""Words in a plane: principal components, pairs joined, words without a vector named."""

from pathlib import Path

import numpy as np
import pytest

from kun.errors import BadInput
from kun.wordvectors.picture import draw, panel, project, usual_panels
from kun.wordvectors.vectors import WordVectors


def test_the_plane_keeps_the_directions_in_which_words_differ_most() -> None:
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 8))
    units = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    vectors = WordVectors([f"w{n}" for n in range(20)], units.astype(np.float32))
    seen = project(vectors, vectors.words)
    assert seen.kept == pytest.approx(1.0, abs=1e-6)
    between = np.linalg.norm(units[:, None] - units[None], axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(seen.points[:, None] - seen.points[None], axis=-1), between, atol=1e-5
    )


def test_the_same_vectors_give_the_same_picture(by_hand: WordVectors) -> None:
    one, other = (draw([panel(by_hand, [("king", "queen"), ("man", "woman")])], "svg") for _ in range(2))
    assert b"queen" in one
    assert one.startswith(b"<?xml")
    assert project(by_hand, by_hand.words).points.tolist() == project(by_hand, by_hand.words).points.tolist()
    assert len(one) == len(other)


def test_words_without_a_vector_are_named_and_left_out(by_hand: WordVectors) -> None:
    seen = panel(by_hand, [("king", "queen"), ("man", "nobody")])
    assert seen.missing == ("nobody",)
    assert seen.groups == (("king", "queen"), ("man",))
    with pytest.raises(BadInput, match=r"fewer than three.*nobody"):
        panel(by_hand, [("nobody", "king")])


def test_two_words_are_too_few_and_not_unknown(by_hand: WordVectors) -> None:
    with pytest.raises(BadInput, match="A picture shows 3 to 500 words, not 2"):
        panel(by_hand, [("king", "queen")])


def test_vectors_of_one_number_lie_on_a_line() -> None:
    vectors = WordVectors(["a", "b", "c"], np.array([[1.0], [-2.0], [3.0]], np.float32))
    one = panel(vectors, [("a", "b"), ("c",)])
    assert one.projection.points.shape == (3, 2)
    assert np.ptp(one.projection.points[:, 0]) == pytest.approx(2.0)
    assert not one.projection.points[:, 1].any()
    assert draw([one], "svg").startswith(b"<?xml")


def test_the_usual_picture_is_in_the_language_of_which_the_vectors_know_more() -> None:
    words = [
        "国王",
        "男人",
        "女人",
        *"的一是不了人我在有他",
        "king",
        "queen",
        "man",
        "woman",
        "prince",
        "princess",
    ]
    rng = np.random.default_rng(0)
    (one, *_) = usual_panels(WordVectors(words, rng.normal(size=(len(words), 4)).astype(np.float32)))
    assert one.groups[0] == ("king", "queen")


def test_kings_and_capitals_are_drawn_where_they_are_known(by_hand: WordVectors, tmp_path: Path) -> None:
    (one,) = usual_panels(by_hand)
    assert one.groups[:2] == (("king", "queen"), ("man", "woman"))
    assert draw([one], "png").startswith(b"\x89PNG")
    with pytest.raises(BadInput, match="no kings"):
        usual_panels(WordVectors(["a", "b"], np.eye(2, dtype=np.float32)))

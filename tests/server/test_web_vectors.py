"""The page of words as vectors: what is asked of it by signs, and words without a vector of their own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_models import save_writer

from kun.errors import BadInput, NotFound
from kun.server.web.vectors import _near, _terms
from kun.wordvectors.opening import open_vectors
from kun.wordvectors.vectors import WordVectors


def visit_of(vectors: WordVectors) -> Any:
    return SimpleNamespace(web=SimpleNamespace(service=SimpleNamespace(word_vectors=lambda name: vectors)))


def test_a_word_from_its_pieces_has_neighbours_other_than_these(tmp_path: Path, tiny_home: Path) -> None:
    table = open_vectors(save_writer(tmp_path / "writer"))
    made, near = _near(visit_of(table), "writer", "foxdog鑫")
    assert made is not None
    assert len(made.pieces) > 1
    assert made.left_out
    assert near == table.near(made.vector, 8, without=made.rows)
    assert not {word for word, _ in near} & set(made.pieces)


def test_a_word_with_a_vector_has_no_pieces_and_one_without_any_is_unknown() -> None:
    vectors = WordVectors(["king", "queen"], np.array([[1.0, 0.0], [0.5, 1.0]], np.float32))
    assert _near(visit_of(vectors), "small", "king") == (None, vectors.near("king", 8))
    with pytest.raises(NotFound):
        _near(visit_of(vectors), "small", "zzzz")


@pytest.mark.parametrize(
    "text",
    ["king − man + woman", "king + woman - man", "king−man+woman", "king -man +woman", "woman + king − man"],
)
def test_an_analogy_is_read_by_its_signs(text: str) -> None:
    b, a, c = _terms(text)
    assert a == "man"
    assert {b, c} == {"king", "woman"}


def test_a_hyphen_within_a_word_is_no_sign() -> None:
    assert _terms("well-known − man + woman") == ("well-known", "man", "woman")


@pytest.mark.parametrize(
    "text",
    ["king man woman", "king + man + woman", "king − man − woman", "king − man", "− king", "", "king −"],
)
def test_another_sum_is_no_analogy(text: str) -> None:
    with pytest.raises(BadInput, match="king − man"):
        _terms(text)

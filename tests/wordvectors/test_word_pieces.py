"""A word from its pieces: runs of letters, or a tokenizer's pieces and the rows that a model has for them."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_writer

from kun.errors import BadInput
from kun.hub.opening import open_checkpoint
from kun.wordvectors.opening import composed, open_vectors
from kun.wordvectors.pieces import compose, runs
from kun.wordvectors.spelling import nearest_spelled
from kun.wordvectors.tokens import TokenVectors
from kun.wordvectors.vectors import WordVectors

WORDS = ("kingdom", "kingdoms", "empire", "walking", "walked", "国王", "国家", "女王")


@pytest.fixture
def vectors() -> WordVectors:
    return WordVectors(WORDS, np.eye(len(WORDS), dtype=np.float32))


def test_runs_have_the_ends_of_their_word() -> None:
    assert list(runs("king"))[:4] == ["<ki", "kin", "ing", "ng>"]
    assert "<king" in list(runs("king"))
    assert list(runs("a")) == ["<a>"]


@pytest.mark.parametrize(
    ("word", "near"), [("kingdm", "kingdom"), ("walkin", "walking"), ("empires", "empire"), ("国", "国家")]
)
def test_a_misspelt_word_lies_near_the_one_that_was_meant(vectors: WordVectors, word: str, near: str) -> None:
    made = compose(vectors, word)
    assert made.pieces
    assert near in [found for found, _ in vectors.near(made.vector, 2)]


def test_a_words_own_vector_is_not_used(vectors: WordVectors) -> None:
    assert compose(vectors, "kingdom").vector[0] == 0


@pytest.mark.parametrize("word", ["", "zzzz", "x" * 200])
def test_a_word_of_which_no_piece_is_known_is_an_error(vectors: WordVectors, word: str) -> None:
    with pytest.raises(BadInput):
        compose(vectors, word)


def test_one_letter_off_comes_first_and_the_commonest_of_them() -> None:
    words = ["kings", "thing", "king", "ring", "kingdom", "queen"]
    assert nearest_spelled("kingg", words)[:2] == ["kings", "king"]
    assert nearest_spelled("xqzvw", words) == []


def test_a_models_own_table_has_the_rows_of_its_pieces(tmp_path: Path, tiny_home: Path) -> None:
    save_writer(tmp_path / "writer")
    table = open_vectors(tmp_path / "writer")
    assert isinstance(table, TokenVectors)
    checkpoint = open_checkpoint(tmp_path / "writer")
    tokenizer = checkpoint.tokenizer
    state = checkpoint.state()
    rows = next(tensor for name, tensor in state.items() if "embed" in name).float().numpy()
    word = next(word for word in table.words if word.isalpha() and len(word) > 1)
    (token,) = next(
        one for one in (tokenizer.encode(f" {word}").ids, tokenizer.encode(word).ids) if len(one) == 1
    )
    np.testing.assert_allclose(table[word], rows[token], atol=1e-6)


def test_a_word_of_several_pieces_is_their_sum(tmp_path: Path, tiny_home: Path) -> None:
    save_writer(tmp_path / "writer")
    table = open_vectors(tmp_path / "writer")
    made = composed(table, "foxdog")
    assert len(made.pieces) > 1
    np.testing.assert_allclose(made.vector, sum(table[piece] for piece in made.pieces), atol=1e-5)

"""A word from its pieces: runs of letters, or a tokenizer's pieces and the rows that a model has for them."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import byte_level_tokenizer, save_writer

from kun.errors import BadInput
from kun.hub import loading
from kun.hub.opening import open_checkpoint
from kun.wordvectors.analogies import Analogy, measure
from kun.wordvectors.opening import composed, open_vectors
from kun.wordvectors.pieces import _pieces as compose_pieces
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


def test_characters_are_pieces_of_chinese_alone(vectors: WordVectors) -> None:
    for word in ("café", "наивный", "king"):
        assert not [piece for piece in compose_pieces(word) if len(piece) == 1]
    assert [piece for piece in compose_pieces("国王T") if len(piece) == 1] == ["国", "王"]


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


@pytest.fixture
def table() -> TokenVectors:
    """A model's table in which every way to write king lies nearer to king − man + woman than queen does."""
    rows = {"king": [1, 0.3, 1], "King": [1, 0.2, 1], "##king": [1, 0.2, 0.9], "queen": [1, 0.1, 0.5],
            "man": [1, 0.3, 0], "woman": [1, 0.2, 0], "Paris": [0, 0, 1]}  # fmt: skip
    vectors = np.array(list(rows.values()), np.float32)
    return TokenVectors(
        {word: token for token, word in enumerate(rows)}, vectors, byte_level_tokenizer(), "tiny"
    )


def test_other_spellings_of_the_query_words_are_left_out_with_them(table: TokenVectors) -> None:
    assert table.analogy("man", "king", "woman")[0][0] == "queen"
    among = [word for word, _ in table.analogy("man", "king", "woman", exclude=False, k=3)]
    assert set(among) == {"king", "King", "##king"}
    rates = measure(table, [Analogy("man", "king", "woman", "queen")])
    assert (rates.rate(exclude=True), rates.rate(exclude=False)) == (1.0, 0.0)


def test_a_piece_inside_a_word_is_told_from_the_one_that_begins_it(table: TokenVectors) -> None:
    assert [table.inside(piece) for piece in ("king", "man")] == ["##king", "man"]


def test_a_name_in_small_letters_is_found_with_its_capital(table: TokenVectors) -> None:
    np.testing.assert_array_equal(table["paris"], table["Paris"])
    assert table.row("king") != table.row("King")


def test_the_pieces_of_a_word_are_not_among_its_neighbours(tmp_path: Path, tiny_home: Path) -> None:
    table = open_vectors(save_writer(tmp_path / "writer"))
    made = composed(table, "foxdog")
    near = {word for word, _ in table.near(made.vector, 20, without=made.rows)}
    assert not near & set(made.pieces)


def test_only_the_table_is_read_of_a_model(
    tmp_path: Path, tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_writer(tmp_path / "writer")

    def refuse(*given: object) -> None:
        raise AssertionError("the whole network was built")

    monkeypatch.setattr(loading, "build", refuse)
    table = open_vectors(tmp_path / "writer")
    assert len(table.vectors) == len(table.words)


def test_pieces_without_a_row_are_named(tmp_path: Path, tiny_home: Path) -> None:
    save_writer(tmp_path / "writer")
    table = open_vectors(tmp_path / "writer")
    made = composed(table, "a国")
    assert made.pieces
    assert len(made.left_out) == 3  # the bytes of a character, of which none can be read alone

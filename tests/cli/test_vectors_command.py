"""`kun vectors`: train, near, analogy, sum, plot, as text and as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Kun

from kun.settings import DEFAULT_MODEL
from kun.wordvectors.opening import open_vectors
from kun.wordvectors.vectors import WordVectors

WORDS = ["king", "queen", "man", "woman", "throne", "kingdom"]
ROWS = [[1, 0.3, 1], [1, -0.1, 0.2], [1, 0.3, 0], [1, -0.3, 0], [0, 0.2, 2], [0, 0.9, 1.5]]


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    return str(WordVectors(WORDS, np.array(ROWS, np.float32)).save(tmp_path / "small"))


def seen(*line: object, kun: Kun) -> Any:
    ran = kun("vectors", *line, "--json")
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def test_neighbours_are_shown_of_vectors_and_of_a_models_own_table(kun: Kun, vectors: str) -> None:
    (one,) = seen("near", "king", "-m", vectors, "-k", 2, kun=kun)
    assert (one["vectors"], len(one["near"])) == ("small", 2)
    (table,) = seen("near", "the", "-m", DEFAULT_MODEL, "--pieces", kun=kun)
    assert table["label"].endswith("not GPT's")
    assert "queen" in kun("vectors", "near", "king", "-m", vectors).out


def test_a_misspelt_word_is_put_together_from_its_pieces(kun: Kun, vectors: str) -> None:
    (one,) = seen("near", "kingdm", "-m", vectors, "--pieces", kun=kun)
    assert one["near"][0]["word"] in ("kingdom", "king")
    assert any(piece in "<kingdom>" for piece in one["pieces"])
    ran = kun("vectors", "near", "kingdm", "-m", vectors)
    assert ran.code == 1
    assert "kingdom" in ran.err


def test_an_analogy_stands_with_and_without_the_query_words(kun: Kun, vectors: str) -> None:
    (one,) = seen("analogy", "man", "king", "woman", "-m", vectors, kun=kun)
    assert one["without_query_words"][0]["word"] == "queen"
    assert one["with_query_words"][0]["word"] != "queen"
    text = kun("vectors", "analogy", "man", "king", "woman", "-m", vectors).out
    assert "query words left out" in text


def test_a_file_of_analogies_is_rated_both_ways(kun: Kun, vectors: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text(": rank\nman king woman queen\nman king woman nobody\n", encoding="utf-8")
    (one,) = seen("analogy", "--file", file, "-m", vectors, kun=kun)
    assert (one["questions"], one["asked"], one["without_query_words"], one["with_query_words"]) == (
        2,
        1,
        1.0,
        0.0,
    )
    assert "1 of 2" in kun("vectors", "analogy", "--file", file, "-m", vectors).out


def test_where_no_analogy_could_be_asked_no_rate_is_told(kun: Kun, vectors: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("男人 国王 女人 王后\n", encoding="utf-8")
    (one,) = seen("analogy", "--file", file, "-m", vectors, kun=kun)
    assert (one["asked"], one["without_query_words"], one["with_query_words"]) == (0, None, None)
    told = kun("vectors", "analogy", "--file", file, "-m", vectors).out
    assert "None could be asked: name vectors of that language with -m." in told
    assert "0.000" not in told


def test_of_few_words_the_query_words_themselves_are_shown_too(kun: Kun, tmp_path: Path) -> None:
    few = str(WordVectors(WORDS[:4], np.array(ROWS[:4], np.float32)).save(tmp_path / "few"))
    told = kun("vectors", "analogy", "man", "king", "woman", "-m", few).out.splitlines()
    assert all(sum(word in line.split() for line in told[2:]) >= 1 for word in ("king", "man", "woman"))


def test_an_argument_that_is_no_text_is_read_as_what_of_it_is(kun: Kun) -> None:
    ran = kun("vectors", "near", "\udcff", "-m", DEFAULT_MODEL, "--pieces")
    assert (ran.code, "the sum of its pieces" in ran.out) == (0, True)


def test_errors_name_the_options_of_this_command(kun: Kun, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three four one two three four\n\n" * 4, encoding="utf-8")
    ran = kun("vectors", "train", text, "-o", tmp_path / "run")
    assert "(--min-count = 5)" in ran.err
    assert "set --dimensions below 4" in ran.err
    assert "--dimensions: input should be" in kun("vectors", "train", text, "-d", 0).err
    assert "set --min-count lower" in kun("vectors", "train", text, "--min-count", 99).err


@pytest.mark.parametrize(("epochs", "is_told"), [(1, True), (3000, False)])
def test_vectors_that_met_few_words_are_told_of(kun: Kun, tmp_path: Path, epochs: int, is_told: bool) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three four one two three four\n\n" * 50, encoding="utf-8")
    ran = kun("vectors", "train", text, "-d", 2, "-o", tmp_path / "run", "--epochs", epochs)
    assert ran.code == 0
    assert ("give more text, or more --epochs" in ran.err) == is_told


def test_a_bad_place_for_the_text_format_is_known_before_the_training(kun: Kun, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three four one two three four\n\n" * 4, encoding="utf-8")
    ran = kun("vectors", "train", text, "-d", 2, "-o", tmp_path / "run", "--text-format", tmp_path)
    assert f"{tmp_path} is a folder: name a file, such as" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [("man", "king"), (), ("a", "b", "c", "d")])
def test_another_number_of_words_is_no_analogy(kun: Kun, vectors: str, words: tuple[str, ...]) -> None:
    ran = kun("vectors", "analogy", *words, "-m", vectors)
    assert ran.code == 2
    assert "three words" in ran.err


def test_a_sum_says_whose_idea_it_is(kun: Kun, vectors: str) -> None:
    one = seen("sum", "king", "man", "-m", vectors, kun=kun)
    np.testing.assert_allclose(one["sum"], [2, 0.6, 1], rtol=1e-6)
    assert "label" not in one  # a sum of words is no word from its pieces
    assert "fastText" not in kun("vectors", "sum", "king", "man", "-m", vectors).out
    assert "fastText" in seen("sum", "h", "t", "-m", DEFAULT_MODEL, kun=kun)["label"]


def test_the_pieces_of_a_word_are_those_from_inside_words_but_the_first(kun: Kun, home: Path) -> None:
    table = open_vectors(home / "models" / DEFAULT_MODEL)
    inside = next(word for word in table.words if word.startswith("##") and word[2:] in table.index)
    first, piece = next(word for word in table.words if word.isalpha() and word != inside[2:]), inside[2:]
    one = seen("sum", first, piece, "-m", DEFAULT_MODEL, kun=kun)
    assert (one["words"], "label" in one) == ([first, inside], True)
    np.testing.assert_allclose(one["sum"], table[first] + table[inside], rtol=1e-4, atol=1e-6)
    words = seen("sum", first, "+", piece, "-m", DEFAULT_MODEL, kun=kun)
    assert (words["words"], "label" in words) == ([first, piece], False)
    np.testing.assert_allclose(words["sum"], table[first] + table[piece], rtol=1e-4, atol=1e-6)


def test_a_picture_is_drawn(kun: Kun, vectors: str, tmp_path: Path) -> None:
    path = tmp_path / "kings.svg"
    one = seen("plot", "king:queen", "man:woman:nobody", "-m", vectors, "-o", path, kun=kun)
    assert set(one["panels"][0]["points"]) == {"king", "queen", "man", "woman"}
    assert one["panels"][0]["missing"] == ["nobody"]
    assert b"queen" in path.read_bytes()
    assert kun("vectors", "plot", "king:queen", "-m", vectors, "-o", tmp_path / "kings.gif").code == 2


@pytest.mark.parametrize("method", ["skip-gram", "cbow", "glove"])
def test_vectors_are_trained_and_written_for_others(kun: Kun, tmp_path: Path, method: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"the fish {n % 9} became a bird {n % 5}" for n in range(300)), encoding="utf-8"
    )
    out, file = tmp_path / "run", tmp_path / "words.vec"
    options = ("-o", out, "--method", method, "-d", 6, "--epochs", 2, "--text-format", file)
    one = seen("train", text, *options, kun=kun)
    assert (one["words"], one["dimensions"]) == (14, 6)
    assert file.read_text(encoding="utf-8").startswith("14 6\n")
    assert kun("vectors", "near", "fish", "-m", one["vectors"]).code == 0
    again = kun("vectors", "train", text, *options)
    assert (again.code, "--resume" in again.err) == (2, True)
    assert "out=" not in again.err  # here -o is the folder itself
    assert "name its folder with -o FOLDER" in kun("vectors", "train", text, "--resume").err


@pytest.mark.parametrize("option", ["--window", "--epochs"])
def test_a_number_that_is_none_is_an_error_and_no_default(kun: Kun, tmp_path: Path, option: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the fish became a bird\n\n" * 50, encoding="utf-8")
    ran = kun("vectors", "train", text, "-o", tmp_path / "run", option, 0)
    assert (ran.code, option.strip("-") in ran.err) == (2, True)


def test_an_unknown_method_and_a_missing_text_are_told_of(kun: Kun, tmp_path: Path) -> None:
    assert "skip-gram, cbow, glove" in kun("vectors", "train", tmp_path, "--method", "fast").err
    ran = kun("vectors", "train", tmp_path / "none.txt", "-o", tmp_path / "run")
    assert ran.code == 1
    assert "none.txt" in ran.err


def test_words_are_added_and_taken_away_by_the_sign_before_them(kun: Kun, vectors: str) -> None:
    total = seen("sum", "king", "-", "man", "+", "woman", "-m", vectors, kun=kun)
    assert (total["words"], total["minus"]) == (["king", "woman"], ["man"])
    assert total["sum"] == pytest.approx([1, -0.3, 1], abs=1e-6)
    assert "king + woman − man" in kun("vectors", "sum", "king", "−", "man", "+", "woman", "-m", vectors).out
    assert seen("sum", "king", "man", "-m", vectors, kun=kun)["sum"] == pytest.approx([2, 0.6, 1], abs=1e-6)


@pytest.mark.parametrize("words", [("king", "+"), ("+", "king"), ("king", "+", "+", "man")])
def test_a_sign_without_its_word_is_an_error(kun: Kun, vectors: str, words: tuple[str, ...]) -> None:
    ran = kun("vectors", "sum", *words, "-m", vectors)
    assert ran.code == 2
    assert "between" in ran.err

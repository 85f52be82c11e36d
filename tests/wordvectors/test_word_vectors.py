"""Word vectors as a user asks them: neighbours, analogies, sums; folders and files that hold them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from damages import damaged

import kun
from kun.errors import BadInput, DamagedFile, KunError, NotFound
from kun.wordvectors.opening import open_vectors
from kun.wordvectors.text_format import write_text
from kun.wordvectors.vectors import WordVectors


def test_neighbours_are_words_whose_vectors_point_the_same_way(by_hand: WordVectors) -> None:
    near = by_hand.near("king", k=2)
    cosines = {
        word: float(by_hand.unit("king") @ by_hand.unit(word)) for word in by_hand.words if word != "king"
    }
    assert near == [
        (word, pytest.approx(cosine, abs=1e-5))
        for word, cosine in sorted(cosines.items(), key=lambda one: -one[1])[:2]
    ]
    assert "king" not in [word for word, _ in by_hand.near("king", k=100)]
    assert len(by_hand.near("king", k=100)) == 5


def test_king_minus_man_plus_woman_is_queen_only_when_the_query_words_are_left_out(
    by_hand: WordVectors,
) -> None:
    assert by_hand.analogy("man", "king", "woman")[0][0] == "queen"
    assert by_hand.analogy("man", "king", "woman", exclude=False)[0][0] == "king"


def test_a_sum_is_the_sum_of_rows_as_they_are(by_hand: WordVectors) -> None:
    total, near = by_hand.sum(["king", "man"])
    np.testing.assert_allclose(total, [2, 0.6, 1], rtol=1e-6)
    assert not {"king", "man"} & {word for word, _ in near}


def test_a_word_is_found_as_it_is_written_or_as_the_house_cuts_it(by_hand: WordVectors) -> None:
    assert by_hand.row("King") == by_hand.row("king")
    assert by_hand.row("國王") == by_hand.row("国王")
    assert "nobody" not in by_hand


def test_an_unknown_word_names_those_that_are_spelled_most_alike(by_hand: WordVectors) -> None:
    with pytest.raises(NotFound, match=r"'qeen'.* queen"):
        by_hand.near("qeen")
    with pytest.raises(NotFound, match=r"kinng.*king"):
        by_hand.analogy("man", "kinng", "woman")


@pytest.mark.parametrize("k", [0, -1, 10**6])
def test_a_number_of_neighbours_that_cannot_be_shown_is_an_error(by_hand: WordVectors, k: int) -> None:
    with pytest.raises(BadInput, match="neighbours"):
        by_hand.near("king", k=k)


def test_vectors_of_another_size_and_zeros_have_no_neighbours(by_hand: WordVectors) -> None:
    with pytest.raises(BadInput, match="3 numbers"):
        by_hand.near(np.ones(4, np.float32))
    with pytest.raises(BadInput, match="zeros"):
        by_hand.near(np.zeros(3, np.float32))
    with pytest.raises(BadInput, match="numbers that are none"):
        by_hand.near(np.full(3, np.nan, np.float32))


def test_a_word_with_a_vector_of_zeros_is_near_to_nothing() -> None:
    vectors = WordVectors(["a", "b", "c"], np.array([[1, 0], [0, 0], [1, 1]], np.float32))
    assert vectors.near("a", k=2) == [("c", pytest.approx(0.5**0.5, abs=1e-5)), ("b", 0.0)]


def test_a_word_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="twice"):
        WordVectors(["a", "a"], np.ones((2, 2), np.float32))


def test_a_saved_folder_is_what_kun_load_opens(by_hand: WordVectors, tmp_path: Path) -> None:
    folder = kun.save(by_hand, tmp_path / "words")
    again = kun.load(folder)
    assert isinstance(again, kun.WordVectors)
    assert (again.words, again.name) == (by_hand.words, "words")
    np.testing.assert_array_equal(again.vectors, by_hand.vectors)
    assert "word-vectors" in (folder / "README.md").read_text(encoding="utf-8")


def test_word2vecs_text_format_reads_back_to_the_same_bits(by_hand: WordVectors, tmp_path: Path) -> None:
    exact = WordVectors(by_hand.words, by_hand.vectors / np.float32(3))
    path = kun.save(exact, tmp_path / "words.vec")
    again = kun.load(path)
    assert isinstance(again, WordVectors)
    assert path.read_text(encoding="utf-8").startswith("6 3\nking ")
    assert again.words == exact.words
    np.testing.assert_array_equal(again.vectors, exact.vectors)


def test_a_file_of_gloves_own_without_a_first_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("the 0.1 0.2 0.3\n. . . 1 2 3\nking -1 2e-3 3\n", encoding="utf-8")
    vectors = kun.load(path)
    assert isinstance(vectors, WordVectors)
    assert vectors.words == ("the", ". . .", "king")


def test_gensim_reads_what_is_written_and_what_it_writes_is_read(
    by_hand: WordVectors, tmp_path: Path
) -> None:
    gensim = pytest.importorskip("gensim.models")
    path = tmp_path / "words.vec"
    assert write_text(path, by_hand.words, by_hand.vectors) == 0
    theirs = gensim.KeyedVectors.load_word2vec_format(str(path))
    assert tuple(theirs.index_to_key) == by_hand.words
    np.testing.assert_array_equal(theirs.vectors, by_hand.vectors)
    assert [
        word for word, _ in theirs.most_similar(positive=["king", "woman"], negative=["man"], topn=3)
    ] == [word for word, _ in by_hand.analogy("man", "king", "woman", k=3)]
    theirs.save_word2vec_format(str(tmp_path / "theirs.vec"))
    ours = kun.load(tmp_path / "theirs.vec")
    assert isinstance(ours, WordVectors)
    np.testing.assert_allclose(ours.vectors, by_hand.vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("3 2\na 1 2\nb 3 4\n", "2 of its 3"),
        ("2 2\na 1 2\nb 3\n", "line 3"),
        ("2 2\na 1 2\nb 3 nan\n", "line 3: 'b' has a number that is none"),
    ],
)
def test_a_file_that_is_cut_short_is_named_with_its_line(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "words.vec"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DamagedFile, match=fault):
        kun.load(path)


@pytest.mark.parametrize("content", ["", "no vectors at all\n"])
def test_a_file_that_holds_no_vectors_is_told_of_as_such(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.vec"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DamagedFile, match=r"empty\.vec holds no vectors in word2vec's text format"):
        open_vectors(path)


def test_words_that_the_text_format_cannot_hold_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BadInput, match="new york"):
        write_text(tmp_path / "words.vec", ["new york"], np.ones((1, 2), np.float32))
    assert not (tmp_path / "words.vec").exists()
    vectors = WordVectors(["the", ". . .", "king"], np.arange(6, dtype=np.float32).reshape(3, 2))
    again = kun.load(vectors.save(tmp_path / "words.vec"))
    assert isinstance(again, WordVectors)
    assert again.words == ("the", "king")
    assert again.vectors.tolist() == [[0, 1], [4, 5]]
    assert "1 words" in caplog.text


@pytest.mark.parametrize("head", ["3 2\n", ""])
def test_a_mark_of_the_byte_order_is_no_part_of_the_first_word(tmp_path: Path, head: str) -> None:
    path = tmp_path / "words.vec"
    path.write_text(f"\ufeff{head}a 1 2\nb 3 4\nc 5 6", encoding="utf-8")
    vectors = kun.load(path)
    assert isinstance(vectors, WordVectors)
    assert vectors.words == ("a", "b", "c")
    assert vectors["c"].tolist() == [5, 6]


def test_a_text_that_holds_no_vectors_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a fish of the northern sea\nbecame a bird\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no model"):
        kun.load(path)


@pytest.mark.parametrize("name", ["words.txt", "model.safetensors"])
def test_a_damaged_folder_is_named(by_hand: WordVectors, tmp_path: Path, name: str) -> None:
    folder = by_hand.save(tmp_path / "words")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedFile, match=name.split(".", maxsplit=1)[0]):
        kun.load(folder)


@pytest.mark.parametrize("name", ["words.txt", "model.safetensors"])
def test_of_damages_to_words_and_numbers_none_gives_other_neighbours(
    by_hand: WordVectors, tmp_path: Path, name: str
) -> None:
    folder = by_hand.save(tmp_path / "words")
    whole = (folder / name).read_bytes()
    for seed in range(8):
        damaged(folder / name, seed)
        with pytest.raises(KunError):
            kun.load(folder)
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("vectors", torch.ones(3, 2, dtype=torch.bfloat16)),
        ("vectors", torch.full((3, 2), torch.nan)),
        ("outputs", torch.ones(2, 2)),
        ("counts", torch.ones(3)),
    ],
)
def test_tables_of_another_type_or_size_or_of_no_numbers_are_named(
    tmp_path: Path, name: str, tensor: torch.Tensor
) -> None:
    from safetensors.torch import save_file

    folder = WordVectors(["a", "b", "c"], np.ones((3, 2), np.float32)).save(tmp_path / "words")
    (folder / "kun.json").unlink()  # another program's folder
    save_file({"vectors": torch.ones(3, 2), name: tensor}, folder / "model.safetensors")
    with pytest.raises(DamagedFile, match=name):
        kun.load(folder)


def test_a_folder_with_other_things_is_not_written_over(by_hand: WordVectors, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(BadInput, match="other things"):
        by_hand.save(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep me"

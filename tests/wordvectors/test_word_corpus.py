"""Text into words and ids: counted in bounded memory, cut by the house, a part held out."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kun.data.rows import Text
from kun.errors import BadInput, DamagedFile
from kun.text.words import cut_words
from kun.wordvectors.corpus import Limits, build, open_corpus
from kun.wordvectors.counting import WordCounts


def test_counts_of_a_vocabulary_beyond_the_memory_are_exact(tmp_path: Path) -> None:
    chance = random.Random(0)
    words = [f"w{int(chance.paretovariate(0.6)) % 5000}" for _ in range(30_000)]
    counts = WordCounts(tmp_path, in_memory=100)
    for start in range(0, len(words), 50):
        counts.add(words[start : start + 50])
        assert len(counts._counts) <= 150
    expected = sorted(
        ((word, n) for word, n in Counter(words).items() if n >= 3), key=lambda one: (-one[1], one[0])
    )
    assert counts.commonest(3, 200) == expected[:200]
    assert counts.total == 30_000


def test_words_are_cut_by_the_house_in_either_language() -> None:
    assert cut_words("The King’s 3 daughters, in 2024.") == [
        "the",
        "king",
        "s",
        "3",
        "daughters",
        "in",
        "2024",
    ]
    assert cut_words("國王愛公主。") == ["国王", "爱", "公主"]
    assert cut_words("GPT-2 和词向量") == ["gpt", "2", "和", "词", "向量"]


def test_paragraphs_become_ids_by_frequency(tmp_path: Path) -> None:
    rows = [Text("b a b\na\n\nb rare"), Text("b a")]
    corpus = build(tmp_path / "words", rows, Limits(least=2))
    assert corpus.vocabulary.words == ("b", "a")
    assert corpus.vocabulary.counts.tolist() == [4, 3]
    assert corpus.learned.ids.tolist() == [0, 1, 0, 1, -1, 0, 1, -1]
    assert len(corpus.learned) == 6
    assert corpus.held_out is None
    again = open_corpus(tmp_path / "words")
    assert (again.learned.digest, again.vocabulary.words) == (corpus.learned.digest, corpus.vocabulary.words)


def test_a_share_of_the_paragraphs_is_held_out_and_not_learned_from(tmp_path: Path) -> None:
    text = "\n\n".join(f"common words and number{n} number{n}" for n in range(400))
    corpus = build(tmp_path / "words", [Text(text)], Limits(least=1), share=0.25)
    assert corpus.held_out is not None
    assert 0.15 < len(corpus.held_out) / (len(corpus.learned) + len(corpus.held_out)) < 0.35
    learned = set(np.unique(corpus.learned.ids))
    assert set(np.unique(corpus.held_out.ids)) <= learned  # a word of held-out text alone has no vector


def test_the_commonest_words_stay_where_there_are_too_many(tmp_path: Path) -> None:
    text = " ".join(f"w{n} " * (20 - n) for n in range(20))
    corpus = build(tmp_path / "words", [Text(text)], Limits(least=1, most=5))
    assert corpus.vocabulary.words == ("w0", "w1", "w2", "w3", "w4")


def test_a_text_in_which_no_word_comes_often_enough_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"3 words.*min_count"):
        build(tmp_path / "words", [Text("all words differ")], Limits(least=5))
    assert not (tmp_path / "words").exists()


@pytest.mark.parametrize("name", ["learned.ids", "corpus.json", "vocabulary.json"])
def test_a_text_that_is_cut_short_is_not_trained_on(tmp_path: Path, name: str) -> None:
    build(tmp_path / "words", [Text("a b a b")], Limits(least=1))
    path = tmp_path / "words" / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedFile, match="start another run"):
        open_corpus(tmp_path / "words")

"""The text that a tokenizer is learned from, and the part of it that is held out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kun.data.corpus import Corpus, texts_of
from kun.data.rows import Conversation, Labelled, Pair, Row, Text


def test_all_that_a_row_says_is_its_text() -> None:
    said = Conversation(({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}))
    rows: list[Row] = [Text("x"), said, Pair("s", "t"), Labelled(("one", "two"), "1")]
    assert [texts_of(row) for row in rows] == [["x"], ["a", "b"], ["s", "t"], ["one", "two"]]


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=5), st.integers(1, 300))
def test_the_two_parts_together_are_the_whole_text_in_short_blocks(lengths: list[int], line: int) -> None:
    texts = [("x" * line + "\n") * (length // (line + 1)) + f"end {n}" for n, length in enumerate(lengths)]
    corpus = Corpus([Text(text) for text in texts], held_out=0.3)
    blocks = [*corpus.training(), *corpus.held_out()]
    assert Counter("".join(blocks)) == Counter("".join(texts))
    assert all(len(block) <= 4096 for block in blocks)


def test_about_the_share_is_held_out_and_the_same_blocks_in_any_order() -> None:
    rows: list[Row] = [Text(f"text number {n}") for n in range(4000)]
    held_out = set(Corpus(rows, 0.1).held_out())
    assert 300 < len(held_out) < 500
    assert set(Corpus(rows[::-1], 0.1).held_out()) == held_out
    assert not held_out & set(Corpus(rows, 0.1).training())

"""How a text is cut, and how byte pair encoding came to it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import byte_level_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers

from kun.errors import BadInput
from kun.inspection.tokens import LONGEST_TEXT, cut_tokens, merges

TOKENIZER = byte_level_tokenizer()


@given(st.text(max_size=60))
def test_the_pieces_bytes_are_the_texts_bytes(text: str) -> None:
    cutting = cut_tokens(text, TOKENIZER, "tiny")
    assert b"".join(piece.bytes for piece in cutting.pieces) == text.encode()
    assert [piece.id for piece in cutting.pieces] == TOKENIZER.encode(text, add_special_tokens=False).ids
    assert all(piece.text == text[piece.start : piece.end] for piece in cutting.pieces)


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20))
def test_merges_go_from_characters_to_the_tokenizers_own_pieces(word: str) -> None:
    steps = merges(word, TOKENIZER)
    assert steps[0] == tuple(word)
    assert list(steps[-1]) == TOKENIZER.encode(word, add_special_tokens=False).tokens
    for before, after in pairwise(steps):
        assert len(after) == len(before) - 1
        assert "".join(after) == "".join(before)


def test_lowering_is_built_from_its_letters() -> None:
    made = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(VOCABULARY)}, merges=MERGES))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    steps = merges("lowering", made)
    assert steps[1] == ("lo", "w", "e", "r", "i", "n", "g")
    assert steps[-1] == ("low", "er", "ing")


MERGES = [("l", "o"), ("lo", "w"), ("e", "r"), ("i", "n"), ("in", "g")]
VOCABULARY = [*"lowering", *("".join(pair) for pair in MERGES)]


def test_a_tokenizer_that_does_not_merge_says_so_by_an_empty_list() -> None:
    made = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "low": 1, "##ering": 2}, unk_token="[UNK]"))
    assert merges("lowering", made) == []
    assert [piece.text for piece in cut_tokens("lowering", made, "pieces").pieces] == ["low", "ering"]


def test_several_words_and_long_texts_are_refused() -> None:
    for words in ("two words", "", "a" * 201):
        with pytest.raises(BadInput, match="one word"):
            merges(words, TOKENIZER)
    with pytest.raises(BadInput, match="shorten"):
        cut_tokens("a" * (LONGEST_TEXT + 1), TOKENIZER, "tiny")


def test_an_empty_text_has_no_pieces() -> None:
    assert cut_tokens("", TOKENIZER, "tiny").bytes_per_token == 0

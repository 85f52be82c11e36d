"""Ids back to text, as they arrive: never half a character, and in the end the same as all at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from kun.errors import DamagedFile
from kun.text.tokenizer import Detokenizer, load_tokenizer, token_bytes


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["hello world, hello there", "你好你好"], trainer)
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens([AddedToken("标记 mark", special=False)])
    return tokenizer


def sentencepiece() -> Tokenizer:
    pieces = [
        "<unk>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "a",
        "b",
        "▁a",
        "ab",
        "▁ab",
        "好",
    ]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("▁", -3), ("a", -2), ("▁a", -1), ("好", -2)], unk_id=0)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


BYTE_LEVEL, SENTENCEPIECE, UNIGRAM = byte_level(), sentencepiece(), unigram()


def streamed(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> list[str]:
    detokenizer = Detokenizer(tokenizer, skip_special=skip_special)
    return [*(detokenizer.push([index]) for index in ids), detokenizer.finish()]


@given(st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=40), st.booleans())
def test_any_ids_of_byte_level_bpe_stream_to_what_they_decode_to(ids: list[int], skip: bool) -> None:
    whole = BYTE_LEVEL.decode(ids, skip_special_tokens=skip)
    assert "".join(streamed(BYTE_LEVEL, ids, skip)) == whole


@pytest.mark.parametrize(
    "tokenizer", [BYTE_LEVEL, SENTENCEPIECE, UNIGRAM], ids=["bytes", "pieces", "unigram"]
)
@given(text=st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab 好🙂"))))
def test_any_text_streams_to_what_it_decodes_to(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@given(st.text(alphabet="ab 好你🙂é"))
def test_no_piece_holds_half_a_character(text: str) -> None:
    for tokenizer in (BYTE_LEVEL, SENTENCEPIECE):
        assert not any("\ufffd" in piece for piece in streamed(tokenizer, tokenizer.encode(text).ids))


@given(st.lists(st.integers(2, 257), max_size=12))
def test_stray_bytes_of_pieces_become_replacement_characters_and_whole_characters_stay(
    ids: list[int],
) -> None:
    raw = bytes(index - 2 for index in ids)
    text = "".join(streamed(SENTENCEPIECE, ids)).replace("\ufffd", "")
    expected = raw.decode("utf-8", "ignore")
    assert text == (expected.removeprefix(" ") if raw.startswith(b" ") else expected)


def test_half_a_character_at_the_end_becomes_one_replacement_character() -> None:
    ids = BYTE_LEVEL.encode("é").ids[:1]
    assert streamed(BYTE_LEVEL, ids) == ["", "\ufffd"]


ANY_TEXT = st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab 好🙂")))


@given(ANY_TEXT)
def test_the_bytes_of_tokens_are_those_of_the_text(text: str) -> None:
    """Half a character is its own bytes, not a replacement character's; a token's space is its own too."""
    spelt = b"".join(token_bytes(BYTE_LEVEL, index) for index in BYTE_LEVEL.encode(text).ids)
    assert spelt == text.encode()
    pieces = b"".join(token_bytes(SENTENCEPIECE, index) for index in SENTENCEPIECE.encode(text).ids)
    assert pieces == (f" {text}" if text else "").replace("▁", " ").encode()


def test_bytes_of_what_is_no_character_and_of_no_token() -> None:
    first = BYTE_LEVEL.encode("é").ids[0]
    assert token_bytes(BYTE_LEVEL, first) == b"\xc3"
    assert token_bytes(BYTE_LEVEL, BYTE_LEVEL.token_to_id("标记 mark")) == "标记 mark".encode()
    assert token_bytes(UNIGRAM, UNIGRAM.token_to_id("好")) == "好".encode()
    assert token_bytes(BYTE_LEVEL, 10**6) == b""


def test_special_tokens_are_left_out_or_shown_as_asked() -> None:
    ids = [*BYTE_LEVEL.encode("hello").ids, BYTE_LEVEL.token_to_id("<|end|>")]
    assert "".join(streamed(BYTE_LEVEL, ids)) == "hello"
    assert "".join(streamed(BYTE_LEVEL, ids, skip_special=False)) == "hello<|end|>"


def test_an_id_outside_the_vocabulary_says_nothing() -> None:
    assert "".join(streamed(BYTE_LEVEL, [10**6])) == ""


def test_a_tokenizer_is_loaded_without_the_padding_and_cutting_of_its_file(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert (
        load_tokenizer(tmp_path).encode("hello world, hello there").ids
        == byte_level().encode("hello world, hello there").ids
    )


def test_a_missing_or_broken_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=r"tokenizer\.json is missing"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"', encoding="utf-8")
    with pytest.raises(DamagedFile, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)

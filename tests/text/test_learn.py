"""Learned tokenizers: nothing of a text is lost, and transformers reads the same ids from their files."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kun.errors import BadInput
from kun.hub.layout import write_tokenizer
from kun.text.compression import by_language, compression, pieces_of
from kun.text.learn import CHATML, KINDS, Kind, LearnedTokenizer, byte_tokenizer, learn_tokenizer
from kun.text.tokenizer import Detokenizer, load_tokenizer

ENGLISH = "The lower tower is lowering. A flower, slower and slower, was following the tower's power: 1234 of 5678.\n"
CHINESE = "北冥有鱼，其名为鲲。鲲之大，不知其几千里也；化而为鸟，其名为鹏。\n"
CODE = "def lower(word: str) -> str:\n    return [word.lower() for word in words if word != '']\n\n"
TEXTS = [ENGLISH, CHINESE, CODE] * 8
SIZES: dict[Kind, int] = {"bpe": 400, "wordpiece": 240, "unigram": 420, "bytes": 300, "characters": 200}
LEARNED = {
    kind: learn_tokenizer(TEXTS, kind, size, special_tokens=["<extra>"]) for kind, size in SIZES.items()
}
LOSSLESS: list[Kind] = ["bpe", "unigram", "bytes"]


def test_every_kind_is_learned_within_its_size_special_tokens_first_or_last() -> None:
    assert set(LEARNED) == set(KINDS)
    for kind, learned in LEARNED.items():
        assert learned.tokenizer.get_vocab_size() <= SIZES[kind]
        ids = [
            learned.tokenizer.token_to_id(token) for token in [*learned.special_tokens.values(), "<extra>"]
        ]
        assert None not in ids
        added = learned.tokenizer.get_added_tokens_decoder()
        assert all(added[index].special for index in ids)


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=60)
@given(
    text=st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab \n好🙂")))
)
def test_any_text_in_normal_form_comes_back_whole(kind: Kind, text: str) -> None:
    import unicodedata

    text = unicodedata.normalize("NFC", text.replace("▁", ""))
    tokenizer = LEARNED[kind].tokenizer
    # a control token that is spelled out is read as one
    assume(not any(one.content in text for one in tokenizer.get_added_tokens_decoder().values()))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.push(ids) + detokenizer.finish() == text


def test_characters_that_were_learned_come_back_and_others_are_unknown() -> None:
    tokenizer = LEARNED["characters"].tokenizer
    assert tokenizer.decode(tokenizer.encode(ENGLISH + CHINESE + CODE).ids) == ENGLISH + CHINESE + CODE
    assert tokenizer.encode("a龘").tokens == ["a", "<|unknown|>"]


def test_bytes_are_their_own_ids() -> None:
    assert byte_tokenizer().encode("aé好\n").ids == list("aé好\n".encode())
    assert byte_tokenizer().token_to_id("<|endoftext|>") == 256


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_the_files_with_equal_ids_special_tokens_and_chat(
    kind: Kind, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    learned = LEARNED[kind]
    write_tokenizer(tmp_path, learned.tokenizer, learned.config)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    for text in (ENGLISH + CHINESE + CODE, "  two  spaces\t\n\n\n", "<extra>a<|im_end|>", "𝄞 é 3.14", ""):
        ids = learned.tokenizer.encode(text).ids
        assert reference(text)["input_ids"] == ids == load_tokenizer(tmp_path).encode(text).ids
    for name, token in learned.special_tokens.items():
        assert getattr(reference, name) == token
    if learned.chat_template:
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        rendered = reference.apply_chat_template(messages, tokenize=False)
        assert rendered == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "bytes", "characters"])
def test_learning_twice_gives_the_same_tokenizer(kind: Kind) -> None:
    again = learn_tokenizer(iter(TEXTS), kind, SIZES[kind], special_tokens=["<extra>"])
    assert again.tokenizer.to_str() == LEARNED[kind].tokenizer.to_str()


def test_bpe_cuts_numbers_digit_by_digit_and_words_with_their_space() -> None:
    tokens = LEARNED["bpe"].tokenizer.encode("the tower 1234").tokens
    assert tokens[-4:] == ["1", "2", "3", "4"]
    assert "Ġtower" in tokens


def test_wordpiece_puts_its_marks_around_texts_and_can_ignore_case() -> None:
    assert LEARNED["wordpiece"].tokenizer.encode("tower", "flower").type_ids[-1] == 1
    assert LEARNED["wordpiece"].tokenizer.encode("tower").tokens[:: len("..")][0] == "[CLS]"
    lower = learn_tokenizer(TEXTS, "wordpiece", 200, lowercase=True).tokenizer
    assert lower.encode("TOWER").ids == lower.encode("tower").ids


def test_a_letter_too_rare_for_the_vocabulary_is_spelt_in_bytes_or_unknown() -> None:
    many = [chr(0x4E00 + n) for n in range(2000)]
    unigram = learn_tokenizer([*TEXTS, "".join(many)], "unigram", 500).tokenizer
    assert unigram.get_vocab_size() <= 500
    assert unigram.decode(unigram.encode("".join(many), add_special_tokens=False).ids) == "".join(many)
    wordpiece = learn_tokenizer([*TEXTS, " ".join(many)], "wordpiece", 500).tokenizer
    assert wordpiece.get_vocab_size() <= 500
    assert "[UNK]" in wordpiece.encode(" ".join(many)).tokens


def test_what_cannot_be_learned_is_said_with_the_mend() -> None:
    with pytest.raises(BadInput, match="no tokenizer of kind 'bp': use one of bpe"):
        learn_tokenizer(TEXTS, "bp")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="A vocabulary of 100 is too small for bpe: it needs 259"):
        learn_tokenizer(TEXTS, "bpe", 100)
    for kind in set(KINDS) - {"bytes"}:  # which learns nothing
        with pytest.raises(BadInput, match="no text to learn a tokenizer from"):
            learn_tokenizer([" ", "\n"], kind, 1000)


def test_without_a_chat_template_there_are_no_tokens_for_turns() -> None:
    plain = learn_tokenizer(TEXTS, "bpe", 300, chat_template=None)
    assert plain.chat_template is None
    assert plain.tokenizer.token_to_id("<|im_end|>") is None
    assert LEARNED["bpe"].chat_template == CHATML


def test_compression_is_bytes_per_token_by_language() -> None:
    texts = by_language([ENGLISH, CHINESE * 4, CODE])
    assert list(texts) == ["zh", "en", "code"]
    found = compression(LEARNED["bytes"].tokenizer, texts)
    assert {one.bytes_per_token for one in found.values()} == {1.0}
    assert found["zh"].bytes == found["zh"].tokens == len((CHINESE * 4).encode())
    better = compression(LEARNED["bpe"].tokenizer, texts)
    assert all(better[language].bytes_per_token > 1.5 for language in texts)
    assert compression(LEARNED["bpe"].tokenizer, {"en": []})["en"].bytes_per_token == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_of_a_word_spell_it(kind: Kind) -> None:
    learned: LearnedTokenizer = LEARNED[kind]
    pieces = pieces_of("lowering", learned.tokenizer)
    assert "".join(pieces).replace("##", "").strip() == "lowering"
    if kind == "bpe":
        assert len(pieces) < len("lowering")
    assert pieces_of("好", LEARNED["bytes"].tokenizer) == ["\\xe5", "\\xa5", "\\xbd"]

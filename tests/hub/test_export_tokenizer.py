"""Tokenizers into GGUF and back: the same ids, and those that llama.cpp would cut otherwise refused."""

from typing import Any

import pytest
from tiny_models import CORPUS
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from kun.errors import UnsupportedFormat
from kun.hub.export.gguf_tokenizer import losses, tokenizer_fields
from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.tokenizer import CUTTINGS, GgufTokenizer

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def fields_of(tokenizer: Tokenizer, special: dict[str, str] | None = None, rows: int = 0) -> dict[str, Any]:
    return tokenizer_fields(tokenizer, rows or tokenizer.get_vocab_size(), special or {}, [], None)


def read_back(fields: dict[str, Any], tmp_path: Any) -> Tokenizer:
    return GgufTokenizer(GgufFile(tmp_path / "x.gguf", fields)).build()


def byte_level(name: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=CUTTINGS[name].whole_words_first))
    tokenizer.pre_tokenizer = CUTTINGS[name].steps()
    if CUTTINGS[name].composes:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.mark.parametrize("name", CUTTINGS)
def test_the_pattern_of_byte_level_bpe_is_found_by_what_it_does(tmp_path: Any, name: str) -> None:
    tokenizer = byte_level(name)
    fields = fields_of(tokenizer)
    assert fields["tokenizer.ggml.pre"] == name
    back = read_back(fields, tmp_path)
    for text in [*CORPUS, "x12 ab  \n\n c!? (d)"]:
        assert back.encode(text).ids == tokenizer.encode(text).ids


def test_a_pattern_without_a_name_is_refused() -> None:
    tokenizer = byte_level("gpt-2")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("[aeiou]"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    with pytest.raises(UnsupportedFormat, match="no name for the pattern"):
        fields_of(tokenizer)


def test_bpe_with_bytes_to_fall_back_on_becomes_sentencepieces(tmp_path: Any) -> None:
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *"▁abn",
        "an",
        "ana",
        "▁b",
        "▁ban",
    ]
    merges = [("a", "n"), ("▁", "b"), ("an", "a"), ("▁b", "an")]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fields = fields_of(tokenizer, SPECIAL)
    assert fields["tokenizer.ggml.model"] == "llama"
    assert fields["tokenizer.ggml.add_bos_token"] is True
    back = read_back(fields, tmp_path)
    for text in ["banana", "ban an a", "nab 鲲", ""]:
        assert back.encode(text).ids == tokenizer.encode(text).ids


def test_wordpiece_goes_and_comes_back(tmp_path: Any) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fish", "##es", "北", "海", "the", "!"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(pieces[:5])
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    fields = fields_of(tokenizer, special)
    assert fields["tokenizer.ggml.bos_token_id"] == 2
    assert fields["tokenizer.ggml.tokens"][5:8] == ["▁fish", "es", "▁北"]
    assert (
        read_back(fields, tmp_path).encode("The Fishes! 北海").ids == tokenizer.encode("The Fishes! 北海").ids
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    with pytest.raises(UnsupportedFormat, match="lower case"):
        fields_of(tokenizer, special)


def test_unigram_keeps_its_scores(tmp_path: Any) -> None:
    pieces = [
        ("<unk>", 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        ("▁", -2.0),
        ("▁fish", -1.0),
        ("f", -4.0),
        ("ish", -3.5),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", prepend_scheme="always")]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    fields = fields_of(tokenizer, SPECIAL)
    assert fields["tokenizer.ggml.scores"][3:] == [-2.0, -1.0, -4.0, -3.5]
    assert read_back(fields, tmp_path).encode("fish fish").ids == tokenizer.encode("fish fish").ids
    tokenizer.normalizer = normalizers.NFKC()
    with pytest.raises(UnsupportedFormat, match="NFKC"):
        fields_of(tokenizer, SPECIAL)


def test_rows_without_a_token_are_marked_as_unused_and_too_few_rows_refused() -> None:
    tokenizer = byte_level("gpt-2")
    size = tokenizer.get_vocab_size()
    fields = fields_of(tokenizer, rows=size + 2)
    assert fields["tokenizer.ggml.token_type"][-2:] == [5, 5]
    with pytest.raises(UnsupportedFormat, match="as many tokens as rows"):
        fields_of(tokenizer, rows=size - 1)


def test_what_llama_cpp_does_otherwise_is_said_and_taken_out_of_a_text() -> None:
    (loss,) = losses(byte_level("qwen2"))
    assert "NFC" in loss.sentence
    assert loss.spare("cafe\u0301 é") == "café é"
    assert losses(byte_level("smollm")) == []


def test_of_a_text_for_wordpiece_only_the_words_with_vowel_signs_are_taken_out() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    (loss,) = losses(tokenizer)
    assert loss.spare("caf\u00e9 안녕! हिन्दी ไทย x") == "caf\u00e9   ไทย x"


def test_of_a_text_with_a_mask_only_the_spaces_beside_it_are_taken_out() -> None:
    tokenizer = byte_level("smollm")
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    (loss,) = losses(tokenizer)
    assert loss.spare("a b  <mask> c d") == "a b<mask>c d"


def test_a_token_that_llama_cpp_makes_a_mark_of_by_its_name_is_said() -> None:
    tokenizer = Tokenizer(models.BPE({"</s>": 0, "x": 1}, []))
    (loss,) = losses(tokenizer)
    assert "</s>" in loss.sentence
    assert loss.spare("a</s>b") == "ab"
    tokenizer.add_special_tokens(["</s>"])
    assert losses(tokenizer) == []

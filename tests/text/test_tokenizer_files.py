"""Tokenizers of checkpoints without tokenizer.json give the reference's ids: SentencePiece's, else transformers'."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizer_makers import byte_level_files, lines, sentencepiece_model, words_file, write_config
from tokenizers import Tokenizer

from kun.text.tokenizer_files import read_tokenizer, tokenizer_settings

LINES = lines()
CONTROL = ["<sep>", "<cls>"]


def read(folder: Path) -> Tokenizer:
    return read_tokenizer(folder, json.loads((folder / "config.json").read_text()))


def reference_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    """transformers' own, special tokens included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text)["input_ids"] for text in texts]


def differing(tokenizer: Tokenizer, expected: list[list[int]], texts: list[str] = LINES) -> list[str]:
    return [text for text, ids in zip(texts, expected, strict=True) if tokenizer.encode(text).ids != ids]


@pytest.mark.parametrize(
    "said",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"do_lower_case": False, "strip_accents": True},
     {"tokenize_chinese_chars": False}],
    ids=["default", "cased", "accents", "cased-bare", "chinese-whole"],
)  # fmt: skip
@pytest.mark.parametrize("model_type", ["bert", "ernie"])
def test_vocab_txt_is_berts(tmp_path: Path, model_type: str, said: dict[str, bool]) -> None:
    words_file(tmp_path)
    write_config(tmp_path, model_type, tokenizer_class="BertTokenizer", **said)
    tokenizer = read(tmp_path)
    assert differing(tokenizer, reference_ids(tmp_path, LINES)) == []
    assert tokenizer.encode("a [MASK]", "b").tokens == ["[CLS]", "a", "[MASK]", "[SEP]", "b", "[SEP]"]
    assert tokenizer_settings(tmp_path, {})["mask_token"] == "[MASK]"


@pytest.mark.parametrize("said", [{}, {"add_prefix_space": True}, {"add_bos_token": True}], ids=str)
def test_vocab_json_and_merges_are_gpt2s(tmp_path: Path, said: dict[str, bool]) -> None:
    byte_level_files(tmp_path, ["<|endoftext|>"])
    write_config(tmp_path, "gpt2", tokenizer_class="GPT2Tokenizer", **said)
    assert differing(read(tmp_path), reference_ids(tmp_path, LINES)) == []


@pytest.mark.parametrize("said", [{}, {"add_prefix_space": True}], ids=str)
def test_roberta_has_fairseqs_special_tokens(tmp_path: Path, said: dict[str, bool]) -> None:
    byte_level_files(tmp_path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    write_config(tmp_path, "roberta", **said)
    tokenizer = read(tmp_path)
    assert differing(tokenizer, reference_ids(tmp_path, LINES)) == []
    mask = tokenizer.encode("a <mask>").ids[-2:]
    assert mask == [tokenizer.token_to_id("<mask>"), tokenizer.token_to_id("</s>")]


def test_qwen2_cuts_and_composes_as_the_reference(tmp_path: Path) -> None:
    byte_level_files(tmp_path, ["<|endoftext|>"])
    write_config(tmp_path, "qwen2", tokenizer_class="Qwen2Tokenizer")
    assert differing(read(tmp_path), reference_ids(tmp_path, LINES)) == []


FORMS = {
    "t5": ("spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
    "xlnet": ("spiece.model", {"control_symbols": CONTROL, "pad_id": 5, "user_defined_symbols": ["<eop>", "<eod>"]}),
    "llama": ("tokenizer.model", {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
                                  "remove_extra_whitespaces": False, "vocab_size": 700}),
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "ernie4_5": ("tokenizer.model", {"model_type": "bpe", "normalization_rule_name": "nfkc"}),
}  # fmt: skip
CLASSES = {
    "t5": "T5Tokenizer",
    "xlnet": "XLNetTokenizer",
    "llama": "LlamaTokenizer",
    "ernie4_5": "Ernie4_5_Tokenizer",
}


def framed(form: str, ids: list[int]) -> list[int]:
    """SentencePiece's ids as the form's own class has them, with the tokens that it puts around a text."""
    match form:
        case "t5":
            return [*ids, 1]
        case "xlnet":
            return [*ids, 3, 4]
        case "llama":
            return [1, *ids]
        case "xlm-roberta":
            return [0, *(index + 1 if index else 3 for index in ids), 2]
    return ids


@dataclass(frozen=True)
class Made:
    """A folder with a SentencePiece model, what Kun makes of it, and the reference."""

    form: str
    folder: Path
    tokenizer: Tokenizer
    reference: SentencePieceProcessor

    def expected(self, text: str) -> list[int]:
        return framed(self.form, self.reference.encode(text))


@pytest.fixture(scope="module", params=FORMS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, form = tmp_path_factory.mktemp("form"), request.param
    file, options = FORMS[form]
    model = sentencepiece_model(folder / file, **options)
    write_config(folder, form, **({"tokenizer_class": CLASSES[form]} if form in CLASSES else {}))
    return Made(form, folder, read(folder), SentencePieceProcessor(model_file=str(model)))


def test_a_sentencepiece_model_gives_its_own_ids(made: Made) -> None:
    different = differing(made.tokenizer, [made.expected(text) for text in LINES])
    assert all(tied(made, text) for text in different)
    assert len(different) <= len(LINES) // 100


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_gets_sentencepieces_ids(made: Made, text: str) -> None:
    assert made.tokenizer.encode(text).ids == made.expected(text) or tied(made, text)


def tied(made: Made, text: str) -> bool:
    """Whether two cuts of Unigram's are equally likely, between which SentencePiece's single precision decides."""
    ours, theirs = made.tokenizer.encode(text).ids, made.expected(text)
    return made.form != "llama" and sorted(ours) == sorted(theirs)

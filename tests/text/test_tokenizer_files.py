"""Tokenizers of checkpoints without tokenizer.json give the reference's ids: SentencePiece's, else transformers'."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizer_makers import byte_level_files, lines, sentencepiece_model, words_file, write_config
from tokenizers import Tokenizer

from kun.errors import DamagedFile, UnsupportedFormat
from kun.hub.export.gguf_tokenizer import losses, tokenizer_fields
from kun.text.sentencepiece import SentencePieceModel
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


def folder_with(tmp_path: Path, form: str, **said: object) -> Path:
    file, options = FORMS[form]
    sentencepiece_model(tmp_path / file, **options)
    write_config(tmp_path, form, **({"tokenizer_class": CLASSES[form]} if form in CLASSES else {}), **said)
    return tmp_path


@pytest.mark.parametrize(("legacy", "behind"), [(True, ["▁", "b"]), (False, ["b"])])
def test_llama_puts_a_space_behind_a_special_token_where_it_is_legacy(
    tmp_path: Path, legacy: bool, behind: list[str]
) -> None:
    tokenizer = read(folder_with(tmp_path, "llama", legacy=legacy))
    tokens = tokenizer.encode("a</s>b").tokens
    assert tokens[tokens.index("</s>") + 1 :] in (behind, ["".join(behind)])
    assert ("▁" in tokenizer.encode("</s>x").tokens[2]) == legacy


def test_llama_ends_texts_where_its_config_says_so_and_keeps_added_tokens_at_their_ids(
    tmp_path: Path,
) -> None:
    folder = folder_with(tmp_path, "llama", add_eos_token=True, add_bos_token=False)
    size = read(folder).get_vocab_size()
    (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": size + 1, "<|im_start|>": size}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": {"content": "<pad>"}, "additional_special_tokens": ["<|im_start|>"]})
    )
    tokenizer = read(folder)
    ids = tokenizer.encode("<|im_start|>hi<|im_end|>").ids
    assert (ids[0], ids[-2], ids[-1]) == (size, size + 1, 2)
    assert tokenizer.token_to_id("<pad>") == size + 2
    assert tokenizer_settings(folder, {})["pad_token"] == "<pad>"


def test_t5s_marks_of_spans_stand_last_in_reverse_and_words_behind_them_begin_anew(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "t5", extra_ids=4)
    tokenizer = read(folder)
    size = tokenizer.get_vocab_size()
    assert [tokenizer.token_to_id(f"<extra_id_{n}>") for n in range(4)] == [
        size - 1,
        size - 2,
        size - 3,
        size - 4,
    ]
    text = "the <extra_id_0> fox <extra_id_1>"
    assert tokenizer.encode(text).ids == reference_ids(folder, [text])[0]


def test_xlnet_pads_on_the_left_and_bares_and_lowers_letters_where_it_is_asked_to(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "xlnet", keep_accents=False, do_lower_case=True)
    tokenizer = read(folder)
    assert tokenizer.encode("Café ``a''").ids == tokenizer.encode('cafe "a"').ids
    pair = tokenizer.encode("a", "b")
    assert pair.ids[-2:] == [3, 4]
    assert pair.type_ids[-1] == 2
    assert tokenizer_settings(folder, {})["padding_side"] == "left"


def test_user_defined_pieces_stay_whole_wherever_they_stand(tmp_path: Path) -> None:
    sentencepiece_model(
        tmp_path / "tokenizer.model", model_type="bpe", user_defined_symbols=["<n>", "<|tab|>"]
    )
    write_config(tmp_path, "llama", add_bos_token=False)
    reference, tokenizer = (
        SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model")),
        read(tmp_path),
    )
    texts = ["<n>fox", "the<n><|tab|>fox <n>", "a <|tab|>b", *LINES]
    assert differing(tokenizer, reference.encode(texts), texts) == []


@pytest.fixture
def marian(tmp_path: Path) -> Path:
    sentencepiece_model(tmp_path / "source.spm", vocab_size=300)
    pieces = SentencePieceProcessor(
        model_file=str(sentencepiece_model(tmp_path / "target.spm", vocab_size=400))
    )
    source = SentencePieceProcessor(model_file=str(tmp_path / "source.spm"))
    texts = [processor.id_to_piece(n) for processor in (source, pieces) for n in range(3, len(processor))]
    vocabulary = dict.fromkeys(["</s>", "<unk>", ">>zh<<", *texts, "<pad>"])
    (tmp_path / "vocab.json").write_text(json.dumps({text: index for index, text in enumerate(vocabulary)}))
    write_config(tmp_path, "marian", tokenizer_class="MarianTokenizer", source_lang="en", target_lang="zh")
    return tmp_path


def test_marian_cuts_by_the_source_and_numbers_by_the_shared_vocabulary(marian: Path) -> None:
    texts = [">>zh<< the quick fox", *LINES]
    different = differing(read(marian), reference_ids(marian, texts), texts)
    # what the source does not know at all the reference looks up as a whole run: a run of it may be told otherwise
    assert len(different) <= len(texts) // 20


@pytest.mark.parametrize("form", ["chatglm2", "chatglm"])
def test_chatglm_puts_the_blank_to_fill_where_its_release_has_it(tmp_path: Path, form: str) -> None:
    if form == "chatglm":
        blanks = [f"<|blank_{n}|>" for n in range(2, 81)]
        symbols = ["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"]
        sentencepiece_model(
            tmp_path / "ice_text.model", user_defined_symbols=["<n>", "<|tab|>", *blanks], control_symbols=symbols,
            remove_extra_whitespaces=False, normalization_rule_name="identity", vocab_size=700,
        )  # fmt: skip
        model = tmp_path / "ice_text.model"
    else:
        model = sentencepiece_model(
            tmp_path / "tokenizer.model", model_type="bpe", byte_fallback=True, vocab_size=700
        )
    write_config(
        tmp_path, "chatglm", tokenizer_class="ChatGLMTokenizer", auto_map={"AutoTokenizer": ["x.Y", None]}
    )
    tokenizer, reference = read(tmp_path), SentencePieceProcessor(model_file=str(model))
    size = len(reference)
    if form == "chatglm":
        ids = reference.encode("a<|blank_3|>b<n><|tab|>c")
        assert tokenizer.encode("a   b\n\tc").ids == [*ids, *map(tokenizer.token_to_id, ("[gMASK]", "<sop>"))]
    else:
        assert tokenizer.encode("soporific sop").ids == [
            size + 1,
            size + 3,
            *reference.encode("soporific sop"),
        ]
        assert tokenizer.encode("<|user|>", add_special_tokens=False).ids == [size + 6]


def test_a_tokenizer_of_unknown_code_is_refused_by_its_name(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path / "tokenizer.model")
    write_config(tmp_path, "llama", tokenizer_class="StrangeTokenizer")
    with pytest.raises(UnsupportedFormat, match=r"StrangeTokenizer.*tokenizer\.json"):
        read(tmp_path)


def test_a_missing_part_and_files_of_two_checkpoints_are_named(tmp_path: Path) -> None:
    byte_level_files(tmp_path, ["<|endoftext|>"])
    (tmp_path / "merges.txt").unlink()
    write_config(tmp_path, "gpt2", tokenizer_class="GPT2Tokenizer")
    with pytest.raises(DamagedFile, match=r"merges\.txt is missing"):
        read(tmp_path)
    byte_level_files(tmp_path, ["<|endoftext|>"])
    write_config(
        tmp_path, "gpt2", tokenizer_class="GPT2Tokenizer", added_tokens_decoder={"7000": {"content": "<x>"}}
    )
    with pytest.raises(DamagedFile, match="'<x>' the id 7000"):
        read(tmp_path)


@given(data=st.data())
def test_a_damaged_sentencepiece_model_is_named_or_read_never_a_crash(
    damaged: bytes, data: st.DataObject
) -> None:
    broken = bytearray(damaged)
    for place in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=4)):
        broken[place] ^= data.draw(st.integers(1, 255))
    broken = broken[: data.draw(st.sampled_from([len(broken), len(broken) // 2, 7]))]
    with NamedTemporaryFile(suffix=".model") as file:
        Path(file.name).write_bytes(broken)
        fault = ""
        try:
            SentencePieceModel.read(Path(file.name))
        except (DamagedFile, UnsupportedFormat) as error:
            fault = str(error)
    assert not fault or file.name in fault


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("spm") / "x.model"
    return sentencepiece_model(path, normalization_rule_name="identity").read_bytes()


def test_nothing_is_written_beside_the_files_and_what_was_converted_is_kept(
    tmp_path: Path, tiny_home: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    folder_with(folder, "llama")
    before = sorted(folder.iterdir())
    ids = read(folder).encode("the quick fox").ids
    kept = list((tiny_home / "cache" / "tokenizers").iterdir())
    assert (sorted(folder.iterdir()), len(kept)) == (before, 1)
    assert read(folder).encode("the quick fox").ids == ids
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    assert read(folder).encode("the quick fox").ids == ids
    assert len(list((tiny_home / "cache" / "tokenizers").iterdir())) == 1
    settings_before = tokenizer_settings(folder, {})
    write_config(folder, "llama", tokenizer_class="LlamaTokenizer", add_bos_token=False)
    assert read(folder).encode("the quick fox").ids == ids[1:]
    assert tokenizer_settings(folder, {}) != settings_before


def test_a_home_that_cannot_be_written_keeps_nothing_and_reads_all_the_same(
    tmp_path: Path, tiny_home: Path
) -> None:
    (tiny_home / "cache").mkdir(exist_ok=True)
    (tiny_home / "cache" / "tokenizers").write_text("a file")
    assert read(folder_with(tmp_path, "llama")).encode("fox").ids[0] == 1


def test_a_model_with_a_map_of_characters_keeps_it_in_gguf(tmp_path: Path) -> None:
    tokenizer = read(folder_with(tmp_path, "xlm-roberta"))
    fields = tokenizer_fields(tokenizer, tokenizer.get_vocab_size(), {"unk_token": "<unk>"}, [], None)
    original = SentencePieceModel.read(tmp_path / "sentencepiece.bpe.model").charsmap
    assert bytes(fields["tokenizer.ggml.precompiled_charsmap"]) == original
    assert [loss.sentence for loss in losses(tokenizer) if "NFC" in loss.sentence] == []

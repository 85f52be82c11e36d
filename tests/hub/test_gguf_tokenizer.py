"""The other kinds of tokenizer in a GGUF file give the ids of the reference's own conversion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CORPUS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.tokenizer import GgufTokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
TEXTS = st.text(
    st.one_of(
        st.sampled_from("the quick fox 你好世界 2024 ü🙂\n\t'."), st.characters(exclude_categories=["Cs"])
    )
)
Pieces = list[tuple[str, float, int]]


def written(
    path: Path, kind: str, pieces: Pieces, more: Callable[[Any], None] = lambda writer: None
) -> GgufTokenizer:
    """A GGUF file of a vocabulary alone, and what Kun makes of it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_tokenizer_model(kind)
    writer.add_token_list([piece for piece, _, _ in pieces])
    writer.add_token_scores([score for _, score, _ in pieces])
    writer.add_token_types([type_ for _, _, type_ in pieces])
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return GgufTokenizer(GgufFile.open(path))


def reference(architecture: str, kind: str, pieces: Pieces) -> Tokenizer:
    """What transformers makes of the same fields."""
    from transformers.integrations.gguf import convert_gguf_tokenizer

    fields = {
        "tokenizer_type": kind,
        "tokens": [piece for piece, _, _ in pieces],
        "scores": [score for _, score, _ in pieces],
        "token_type": [type_ for _, _, type_ in pieces],
    }
    made: Tokenizer = convert_gguf_tokenizer(architecture, fields)[0]
    return made


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def sentencepiece_pieces() -> Pieces:
    """BPE as SentencePiece lays it out: control, bytes, joined pieces by rank, then characters."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=220, show_progress=False))
    ranked = [piece for piece, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    joined = [piece for piece in ranked if len(piece) > 1]
    letters = [piece for piece in ranked if len(piece) == 1]
    pieces: Pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    pieces += [(piece, -float(rank), NORMAL) for rank, piece in enumerate([*joined, *letters])]
    return [*pieces, ("<think>", 0.0, USER_DEFINED)]


SENTENCEPIECE = sentencepiece_pieces()


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> GgufTokenizer:
    def named(writer: Any) -> None:
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)

    return written(tmp_path_factory.mktemp("gguf") / "spm.gguf", "llama", SENTENCEPIECE, named)


@given(text=TEXTS)
def test_sentencepiece_bpe_with_bytes_to_fall_back_on(sentencepiece: GgufTokenizer, text: str) -> None:
    ours = sentencepiece.build()
    # phi3's is the way of SentencePiece and llama.cpp: the space before the text is added to one that is there
    theirs = reference("phi3", "llama", SENTENCEPIECE)
    assert ids(ours, text) == ids(theirs, text)
    assert ours.decode(ids(ours, text)) == theirs.decode(ids(theirs, text))
    if not text.startswith((" ", "▁")):
        assert ids(ours, text) == ids(reference("llama", "llama", SENTENCEPIECE), text)


def test_sentencepiece_is_framed_and_keeps_marked_tokens_whole(sentencepiece: GgufTokenizer) -> None:
    tokenizer = sentencepiece.build()
    assert (
        tokenizer.encode("fox").ids[0] == 1
    )  # a vocabulary of this kind begins texts, unless it says otherwise
    assert tokenizer.token_to_id("<think>") in ids(tokenizer, "a <think> b")
    assert "<0xF0>" in tokenizer.encode("🦊").tokens
    assert tokenizer.decode(ids(tokenizer, "the 🦊!")) == "the 🦊!"
    assert (sentencepiece.end_ids(), sentencepiece.add_eos) == ([2], False)


def unigram_pieces() -> Pieces:
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"]
    )
    trainer.show_progress = False
    trained.train_from_iterator(CORPUS, trainer)
    import json

    special = {"<pad>": CONTROL, "</s>": CONTROL, "<unk>": UNKNOWN}
    vocabulary = json.loads(trained.to_str())["model"]["vocab"]
    return [(piece, score, special.get(piece, NORMAL)) for piece, score in vocabulary]


UNIGRAM = unigram_pieces()


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> GgufTokenizer:
    def named(writer: Any) -> None:
        writer.add_eos_token_id(1)
        writer.add_unk_token_id(2)
        writer.add_add_eos_token(True)

    return written(tmp_path_factory.mktemp("gguf") / "t5.gguf", "t5", UNIGRAM, named)


@given(text=TEXTS)
def test_unigram(unigram: GgufTokenizer, text: str) -> None:
    ours, theirs = unigram.build(), reference("t5", "t5", UNIGRAM)
    assert ids(ours, text) == ids(theirs, text)
    assert ours.decode(ids(ours, text)) == theirs.decode(ids(theirs, text))


def test_unigram_ends_texts_where_the_file_says_so(unigram: GgufTokenizer) -> None:
    assert unigram.build().encode("the fox").ids[-1] == 1


WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz0123456789.,;!?'",
    "the",
    "fox",
]
WORDS += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"] + [
    "##ing",
    "##er",
    "quick",
    "你",
    "好",
]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> GgufTokenizer:
    def as_llama_cpp_has_it(word: str) -> tuple[str, float, int]:
        if word.startswith("["):
            return word, 0.0, CONTROL
        return (word[2:] if word.startswith("##") else "▁" + word), 0.0, NORMAL

    def named(writer: Any) -> None:
        writer.add_unk_token_id(1)
        writer.add_bos_token_id(2)
        writer.add_sep_token_id(3)
        writer.add_pad_token_id(0)

    pieces = [as_llama_cpp_has_it(word) for word in WORDS]
    return written(tmp_path_factory.mktemp("gguf") / "bert.gguf", "bert", pieces, named)


@given(text=TEXTS)
def test_wordpiece(wordpiece: GgufTokenizer, text: str) -> None:
    from transformers import BertTokenizer

    theirs = BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)}).backend_tokenizer
    ours = wordpiece.build()
    assert ours.encode(text).ids == theirs.encode(text).ids
    assert ours.decode(ids(ours, text)) == theirs.decode(ids(theirs, text))

"""Texts become vectors as sentence-transformers makes them, whatever they hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from kun.adaptation.native_bert import fit_encoder
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families.bert.bert import Bert
from kun.families.bert.config import BertConfig
from kun.models.encoder import Encoder, EncoderRecipe

LIMIT = 16
E5 = EncoderRecipe(prefixes={"query": "query: ", "passage": "passage: "})


def new_tokenizer() -> Tokenizer:
    """One token a character, framed as BERT frames."""
    letters = "abcdefghijklmnopqrstuvwxyz: 鲲鹏"
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def new_net() -> Bert:
    torch.manual_seed(3)
    config = BertConfig(40, d_model=64, n_layers=2, n_heads=4, d_ff=128, max_positions=LIMIT)
    net = Bert(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def new_encoder(recipe: EncoderRecipe | None = None) -> Encoder:
    return Encoder(new_net(), new_tokenizer(), recipe=recipe, identity="a", name="tiny")


@torch.no_grad()
def by_hand(text: str, pooling: str) -> np.ndarray:
    ids = torch.tensor([new_tokenizer().encode(text).ids])
    states = new_net()(ids).last_hidden_state[0]
    vector = {"mean": states.mean(0), "cls": states[0], "max": states.amax(0)}[pooling]
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_the_pooled_states_of_the_prefixed_text(pooling) -> None:
    encoder = new_encoder(replace(E5, pooling=pooling))
    vectors = encoder.embed(["abc", "鲲鹏"], kind="query")
    for vector, text in zip(vectors, ["query: abc", "query: 鲲鹏"], strict=True):
        assert np.allclose(vector, by_hand(text, pooling), atol=1e-5)
    assert np.allclose(encoder.embed(["abc"], kind="passage")[0], by_hand("passage: abc", pooling), atol=1e-5)
    assert np.allclose(encoder.embed(["abc"])[0], by_hand("abc", pooling), atol=1e-5)


@given(st.lists(st.text(max_size=30), max_size=8), st.integers(1, 60))
def test_order_and_neighbours_change_nothing(texts: list[str], batch_tokens: int) -> None:
    encoder = ENCODER
    together = encoder.embed(texts, batch_tokens=batch_tokens)
    assert together.shape == (len(texts), 64)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for vector, text in zip(together, texts, strict=True):
        assert np.allclose(vector, encoder.embed([text])[0], atol=1e-5)


ENCODER = new_encoder()


def test_a_longer_text_is_cut_to_the_limit_and_keeps_its_last_special_token() -> None:
    cut = "a" * (LIMIT - 2)
    vectors = ENCODER.embed([cut, cut + "b", cut + "b" * 100_000])
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.allclose(vectors[0], vectors[2], atol=1e-6)
    assert new_encoder(EncoderRecipe(max_tokens=8)).max_tokens == 8
    assert new_encoder(EncoderRecipe(max_tokens=800)).max_tokens == LIMIT


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "a\n\u200b", "😀" * 50])
def test_every_text_has_a_vector(text: str) -> None:
    vector = ENCODER.embed([text])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_the_states_of_a_texts_own_tokens_are_given_beside_its_vector() -> None:
    encoder = new_encoder(E5)
    vectors, tokens = encoder.embed_tokens(["鲲鹏", "abc", ""], kind="query")
    assert np.allclose(vectors, encoder.embed(["鲲鹏", "abc", ""], kind="query"), atol=1e-6)
    for text, states in zip(["鲲鹏", "abc", ""], tokens, strict=True):
        ids = torch.tensor([new_tokenizer().encode("query: " + text).ids])
        whole = new_net()(ids).last_hidden_state[0].numpy()
        assert states.shape == (len(text), 64)
        assert np.allclose(states, whole[8 : 8 + len(text)], atol=1e-5)


def test_tokens_beyond_the_limit_have_no_states() -> None:
    _, tokens = ENCODER.embed_tokens(["a" * 100])
    assert tokens[0].shape == (LIMIT - 2, 64)


def test_an_encoder_that_does_not_pool_by_the_mean_gives_no_states() -> None:
    vectors, tokens = new_encoder(EncoderRecipe(pooling="cls")).embed_tokens(["abc"])
    assert vectors.shape == (1, 64)
    assert tokens[0].shape == (0, 64)


def test_no_texts_give_no_vectors() -> None:
    assert ENCODER.embed([]).shape == (0, 64)


def test_what_is_no_list_of_texts_is_refused() -> None:
    for wrong in ("abc", [b"abc"], [None]):
        with pytest.raises(BadInput, match="list of texts"):
            ENCODER.embed(wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="'document'"):
        ENCODER.embed(["a"], kind="document")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least 1"):
        ENCODER.embed(["a"], batch_tokens=0)


def test_progress_ends_with_all_texts_done() -> None:
    seen: list[tuple[int, int]] = []
    ENCODER.embed(["abcdef"] * 5, batch_tokens=16, progress=lambda *state: seen.append(state))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_identity_differs_where_vectors_do() -> None:
    recipes = [EncoderRecipe(), E5, EncoderRecipe(pooling="cls"), EncoderRecipe(max_tokens=8)]
    encoders = [new_encoder(recipe) for recipe in recipes]
    encoders.append(Encoder(new_net(), new_tokenizer(), identity="b"))
    assert len({encoder.identity for encoder in encoders}) == 5
    assert new_encoder(E5).identity == new_encoder(E5).identity


def test_a_tokenizer_that_pads_and_truncates_does_neither_here() -> None:
    tokenizer = new_tokenizer()
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(4)
    encoder = Encoder(new_net(), tokenizer)
    assert np.allclose(encoder.embed(["abcdef"]), ENCODER.embed(["abcdef"]), atol=1e-6)


def write(folder: Path, name: str, value: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def test_a_folder_of_sentence_transformers_says_how_to_pool_and_what_to_prefix(tmp_path: Path) -> None:
    assert EncoderRecipe.read(tmp_path) == EncoderRecipe(prefixes={"query": "", "passage": ""})
    kinds = ["Transformer", "Pooling", "Normalize"]
    write(tmp_path, "modules.json", [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])
    pooling = {
        "word_embedding_dimension": 64,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    write(tmp_path, "1_Pooling/config.json", pooling)
    write(tmp_path, "config_sentence_transformers.json", {"prompts": {"query": "q: ", "document": "d: "}})
    write(tmp_path, "sentence_bert_config.json", {"max_seq_length": 12})
    assert EncoderRecipe.read(tmp_path) == EncoderRecipe("cls", {"query": "q: ", "passage": "d: "}, 12)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("1_Pooling/config.json", {"pooling_mode_lasttoken": True}, UnsupportedFormat),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            UnsupportedFormat,
        ),
        (
            "1_Pooling/config.json",
            dict.fromkeys(["pooling_mode_cls_token", "pooling_mode_mean_tokens"], True),
            None,
        ),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], UnsupportedFormat),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, DamagedFile),
        ("config_sentence_transformers.json", {"prompts": ["query"]}, DamagedFile),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, DamagedFile),
    ],
)
def test_a_recipe_that_would_give_other_vectors_is_refused(tmp_path: Path, name: str, value, error) -> None:
    write(tmp_path, name, value)
    with pytest.raises(error or UnsupportedFormat):
        EncoderRecipe.read(tmp_path)


def test_a_damaged_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[{")
    with pytest.raises(DamagedFile, match=r"modules\.json is not valid JSON"):
        EncoderRecipe.read(tmp_path)


def test_the_network_fitted_to_this_machine_gives_the_same_vectors() -> None:
    texts = ["abc", "", "the quick fox", "鲲鹏 is a fish", "z" * 40]
    fitted = Encoder(fit_encoder(new_net()), new_tokenizer())
    assert (fitted.embed(texts) * ENCODER.embed(texts)).sum(axis=1).min() > 0.999

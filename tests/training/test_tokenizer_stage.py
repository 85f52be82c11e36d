"""The stage that learns a tokenizer."""

import json

import pytest

import kun
from kun.errors import BadInput, BadRecipe
from kun.objectives.text.model import tokenizer_of
from kun.text.tokenizer import load_tokenizer
from kun.training.recipe import parse_recipe


@pytest.fixture
def tokenizer_recipe(tmp_path, text):
    path = tmp_path / "tokenizer.toml"
    path.write_text(
        f'stage = "tokenizer"\nout = "{tmp_path / "tok"}"\n[data]\ntrain = "{text}"\n'
        "[tokenizer]\nvocab_size = 400\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_the_stage_leaves_a_tokenizer_and_what_it_does_to_text(tokenizer_recipe, kind):
    run = kun.train(tokenizer_recipe, {"tokenizer.kind": kind})
    tokenizer = load_tokenizer(run.checkpoint)
    facts = json.loads((run.path / "facts.json").read_text(encoding="utf-8"))["tokenizer"]
    assert facts["vocabulary"] == tokenizer.get_vocab_size() <= 400
    assert facts["compression"]["en"]["bytes"] > facts["compression"]["en"]["tokens"] > 0
    assert "lowering" in facts["words"]
    assert "bytes per token" in run.report.read_text(encoding="utf-8")


def test_a_network_trains_on_a_tokenizer_that_was_learned(tokenizer_recipe, recipe):
    run = kun.train(tokenizer_recipe)
    trained = kun.train(recipe, {"model.tokenizer": str(run.checkpoint), "train.steps": 2})
    assert kun.load(trained.checkpoint).tokenizer.to_str() == load_tokenizer(run.checkpoint).to_str()


def test_a_tokenizer_for_chats_carries_a_template_and_one_without_has_none(tokenizer_recipe, tmp_path):
    config = "tokenizer_config.json"
    chat = kun.train(tokenizer_recipe).checkpoint / config
    plain = (
        kun.train(tokenizer_recipe, {"tokenizer.chat": False, "out": str(tmp_path / "plain")}).checkpoint
        / config
    )
    assert "assistant" in json.loads(chat.read_text(encoding="utf-8"))["chat_template"]
    assert "chat_template" not in json.loads(plain.read_text(encoding="utf-8"))


def test_a_tokenizer_of_no_text_is_refused(tokenizer_recipe, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(BadInput):
        kun.train(tokenizer_recipe, {"data.train": str(tmp_path / "empty.txt")})


def test_a_tokenizer_is_learned_from_as_many_rows_as_the_limit_says(tokenizer_recipe, text, tmp_path):
    first = tmp_path / "first.jsonl"
    first.write_text(
        "".join(text.read_text(encoding="utf-8").splitlines(keepends=True)[:9]), encoding="utf-8"
    )
    limited = kun.train(tokenizer_recipe, {"data.limit": 9, "tokenizer.vocab_size": 300})
    short = kun.train(
        tokenizer_recipe,
        {"data.train": str(first), "tokenizer.vocab_size": 300, "out": str(tmp_path / "short")},
    )
    ours, theirs = (load_tokenizer(run.checkpoint).to_str() for run in (limited, short))
    assert ours == theirs


def test_characters_are_those_of_as_many_rows_as_the_limit_says(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "aba"}\n{"text": "xyz"}\n', encoding="utf-8")
    values = {
        "stage": "pretrain",
        "model": {"family": "gpt2", "tokenizer": "characters"},
        "train": {"steps": 1},
    }
    recipe = parse_recipe({**values, "data": {"train": str(path), "limit": 1}})
    tokenizer, _ = tokenizer_of(recipe.model, recipe.data)
    assert tokenizer.token_to_id("b") is not None
    assert tokenizer.token_to_id("x") is None


def test_a_tokenizer_that_is_not_here_is_named_with_the_stage_that_makes_one(recipe):
    with pytest.raises(
        BadRecipe, match=r"model\.tokenizer = 'runs/nowhere/checkpoint'.*stage = \"tokenizer\""
    ):
        kun.train(recipe, {"model.tokenizer": "runs/nowhere/checkpoint"})

"""Recipes: what is read, what is refused, and how it is said."""

import tomllib

import pytest

from kun.errors import BadRecipe
from kun.training.recipe import parse_override, parse_recipe, read_recipe

LEAST = {"stage": "pretrain", "model": {"family": "gpt2"}, "data": {"train": "a.txt"}, "train": {"steps": 3}}


def test_a_recipe_written_out_with_its_defaults_reads_back_to_itself():
    recipe = parse_recipe(LEAST | {"model": {"family": "gpt2", "n_layers": 2}, "out": 'a "b"\\c\r\n\t\x7f鲲'})
    assert parse_recipe(tomllib.loads(recipe.to_toml())) == recipe


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"optimiser": {}}, "optimizer"),
        ({"optimizer": {"learning_rate": 1.0}}, "known are"),
        ({"optimizer": {"warmpu": 1}}, "did you mean optimizer.warmup"),
        ({"train": {"steps": "many"}}, "train.steps"),
        ({"train": {"steps": 3, "precision": "fp16"}}, "train.precision"),
        ({"train": {}}, "train.steps, tokens, epochs or minutes"),
        ({"model": {}}, "model.from"),
        ({"model": {"family": "gpt2", "from": "x"}}, "both"),
        ({"model": {"from": "x", "n_layers": 3}}, "n_layers"),
        ({"model": {"from": "x", "dropuot": 0.1}}, "did you mean model.dropout?"),
        ({"data": {"train": "a", "eval": 1.5}}, "share"),
        ({"data": {}}, "data.train is missing"),
        ({"stage": "pretraining"}, "stage"),
        ({"seed": -1}, "seed"),
        ({"train": {"steps": 3, "patience": 2}}, "data.eval"),
        ({"tokenizer": {"kind": "bpe"}}, "tokenizer"),
    ],
)
def test_a_mistake_is_named_with_its_key(change, told):
    with pytest.raises(BadRecipe) as error:
        parse_recipe(LEAST | change)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_are_laid_over_the_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        'stage = "pretrain"\n[model]\nfamily = "gpt2"\n[data]\ntrain = "a.txt"\n', encoding="utf-8"
    )
    recipe = read_recipe(
        path, dict(map(parse_override, ["train.steps=7", "out=some/folder", "optimizer.lr=1e-2"]))
    )
    assert (recipe.train.steps, recipe.out, recipe.optimizer.lr) == (7, "some/folder", 0.01)


@pytest.mark.parametrize("text", ["train.steps", "=3", ""])
def test_an_override_without_key_and_value_is_refused(text):
    with pytest.raises(BadRecipe, match="key=value"):
        parse_override(text)


@pytest.mark.parametrize(
    ("content", "told"), [(b"stage = ", "no TOML"), (b"\xff\xfe", "UTF-8"), (None, "does not exist")]
)
def test_a_file_that_is_no_recipe_is_named(tmp_path, content, told):
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadRecipe, match=told) as error:
        read_recipe(path)
    assert "recipe.toml" in str(error.value)


def test_an_override_into_what_is_no_table_is_refused(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('stage = "pretrain"\n', encoding="utf-8")
    with pytest.raises(BadRecipe, match="no table"):
        read_recipe(path, {"stage.name": "x"})

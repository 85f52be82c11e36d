"""The recipe of a tokenizer: what it cuts, and that what it writes is looked into without a model."""

from pathlib import Path

import pytest

from kun.api import inspect_merges, inspect_tokens
from kun.training.recipe import read_recipe
from kun.training.train import train

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "recipes" / "tokenizer.toml"


def test_a_tokenizer_without_a_model_is_looked_into(tmp_path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(
        "low low low lower newer wider singing bring\n" * 20 + "鱼化为鸟\n" * 20, encoding="utf-8"
    )
    changes = {"out": str(tmp_path / "run"), "data.train": str(text), "tokenizer.vocab_size": 300}
    pieces = train(read_recipe(RECIPE, changes), "run").checkpoint
    (cutting,) = inspect_tokens("lowering", [pieces])
    assert "".join(piece.text for piece in cutting.pieces) == "lowering"
    assert inspect_merges("lowering", pieces)[-1] == tuple(piece.text for piece in cutting.pieces)


@pytest.mark.slow
def test_the_recipe_cuts_lowering_into_low_er_ing_and_has_seen_chinese(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    run = train(read_recipe(RECIPE, {"out": str(tmp_path / "run")}), "run")
    (lowering,) = inspect_tokens("lowering", [run.checkpoint])
    assert [piece.text for piece in lowering.pieces] == ["low", "er", "ing"]
    chinese = "我们用文档训练一个模型，它会回答问题。"
    (cutting,) = inspect_tokens(chinese, [run.checkpoint])
    assert len(cutting.pieces) < len(chinese)  # words, and not bytes of characters

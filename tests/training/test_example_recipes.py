"""The recipes among the examples: each is read as it stands, and those of no model and no long text run for a step."""

import json
import runpy
from pathlib import Path

import pytest

from kun.training.recipe import read_recipe
from kun.training.train import train

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_example_leaves_its_run_where_the_docs_look_for_it(path):
    assert read_recipe(path).out == f"runs/{path.stem}"


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_example_is_read_and_trains(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    sample = tmp_path / "sample.txt"
    sample.write_text("A fish of the northern sea became a bird.\n\n" * 40, encoding="utf-8")
    recipe = read_recipe(path, {"out": str(tmp_path / "run")})
    if recipe.model.source is not None:
        return
    changes = {"out": str(tmp_path / "run"), "train.steps": 1, "train.eval_every": 1}
    if not str(recipe.data.train).startswith("examples/"):  # what is long, or the reader's own
        changes |= {"data.train": [str(sample), str(path)], "data.format": "text", "data.eval": 0.5}
    if recipe.data.share is not None:
        changes["data.share"] = 1.0
    if str(recipe.model.tokenizer).startswith("runs/"):  # what another recipe makes
        changes["model.tokenizer"] = "bytes"
    if recipe.stage == "vectors":  # few words, in paragraphs of which half are held out
        changes |= {"objective.dimensions": 4, "objective.min_count": 1}
        sample.write_text("\n\n".join(f"fish {n} of sea {n % 7} became a bird" for n in range(80)))
    if recipe.stage == "tokenizer":
        changes = {
            key: value for key, value in changes.items() if not key.startswith(("train.", "data.eval"))
        }
    run = train(read_recipe(path, changes), "run")
    assert run.checkpoint.is_dir()
    assert recipe.stage == "tokenizer" or "eval_loss" in run.metrics[-1]


def test_no_sum_that_is_held_out_is_learned_or_practised_either_way_round(tmp_path):
    folder, found = ROOT / "examples" / "recipes" / "data" / "sums", {}
    runpy.run_path(str(folder / "make.py"))["write"](tmp_path, 0)
    for name in ("start", "practice", "held-out"):
        text = (folder / f"{name}.jsonl").read_text(encoding="utf-8")
        assert text == (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8")
        for line in text.splitlines():
            row = json.loads(line)
            numbers = sorted(map(int, row["instruction"].split(" + ")))
            assert sum(numbers) == int(row["output"])
            assert found.setdefault(tuple(numbers), name) == name

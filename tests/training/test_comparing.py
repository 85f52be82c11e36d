"""Recipes that compare: several runs, a grid for each, one picture."""

import json
import shutil
from pathlib import Path

import pytest

import kun
from kun.errors import BadInput, BadRecipe, Diverged
from kun.inspection.curves import curves
from kun.training.comparing import Comparison, Panel

COMPARE = """
[compare]
draw = ["eval_loss", "grad_norm"]
log = ["grad_norm"]
[compare.runs.plain]
[compare.runs."SGD, tried"]
optimizer.name = "sgd"
try.optimizer.lr = [1e-6, 0.3]
[compare.runs.LSTM]
model = {family = "lstm", n_layers = 1, d_model = 16}
"""
QUICK = {"train.steps": 2, "train.eval_every": 1, "train.snapshot_every": 2}


@pytest.fixture
def comparing(recipe: Path) -> Path:
    recipe.write_text(recipe.read_text(encoding="utf-8") + COMPARE, encoding="utf-8")
    return recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Comparison:
    """A comparison of four trainings of two steps, of which one is shown for two."""
    folder = tmp_path_factory.mktemp("comparing")
    (folder / "text.jsonl").write_text(
        '{"text": "a fish"}\n{"text": "a bird in the sky"}\n', encoding="utf-8"
    )
    path = folder / "recipe.toml"
    path.write_text(
        f"""
stage = "pretrain"
out = "{folder / "run"}"
[model]
family = "gpt2"
n_layers = 1
n_heads = 2
d_model = 16
[data]
train = "{folder / "text.jsonl"}"
eval = "{folder / "text.jsonl"}"
[train]
steps = 2
context = 16
batch_tokens = 32
eval_every = 1
{COMPARE}""",
        encoding="utf-8",
    )
    trained = kun.train(path)
    assert isinstance(trained, Comparison)
    return trained


def _rewritten(recipe: Path, old: str, new: str) -> Path:
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), encoding="utf-8")
    return recipe


def test_every_run_is_trained_and_drawn_in_one_picture_with_its_numbers_next_to_it(made):
    assert list(made.runs) == ["plain", "SGD, tried, lr 0.3", "LSTM"]
    drawn = made.picture.read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in (*made.runs, "eval_loss", "grad_norm", "step"))
    numbers = json.loads((made.path / "comparison.json").read_text(encoding="utf-8"))
    assert [panel["log"] for panel in numbers["panels"]] == ["", "y"]
    losses = numbers["panels"][0]["lines"]["LSTM"]
    assert losses == [[1, 2], [line["eval_loss"] for line in made.runs["LSTM"].metrics]]


def test_of_a_grid_the_point_with_the_lowest_last_value_is_shown_and_all_are_told(made):
    assert list(made.tried) == ["plain", "SGD, tried, lr 1e-06", "SGD, tried, lr 0.3", "LSTM"]
    assert made.tried["SGD, tried, lr 0.3"] < made.tried["SGD, tried, lr 1e-06"]
    assert made.checkpoint == made.runs[min(made.runs, key=made.tried.__getitem__)].checkpoint
    assert kun.load(made.checkpoint).family.name in ("gpt", "lstm")


def test_a_model_of_another_family_takes_the_place_of_the_whole_table(made):
    written = (made.runs["LSTM"].path / "recipe.toml").read_text(encoding="utf-8")
    assert 'family = "lstm"' in written
    assert "n_heads" not in written


def test_a_comparison_is_never_written_over_and_goes_on_where_it_stopped(made):
    recipe = made.path.parent / "recipe.toml"
    with pytest.raises(BadInput, match="holds a run already"):
        kun.train(recipe)
    shutil.rmtree(made.runs["LSTM"].path)
    kept = made.runs["plain"].path / "metrics.jsonl"
    before = kept.stat().st_mtime_ns
    again = kun.train(recipe, resume=True)
    assert kept.stat().st_mtime_ns == before
    assert again.tried == made.tried


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "sgd"', 'nmae = "sgd"', r"compare\.runs\.SGD, tried: optimizer\.nmae is no key"),
        ("[1e-6, 0.3]", "0.3", r"compare\.runs\.SGD, tried\.try\.optimizer\.lr is 0\.3: list the values"),
        ("[1e-6, 0.3]", "[]", r"list the values to try"),
        ("runs.LSTM", "runs.PLAIN", r"PLAIN and plain would share a folder"),
    ],
)
def test_a_mistake_in_a_comparison_is_named(comparing, old, new, fault):
    with pytest.raises(BadRecipe, match=fault):
        kun.train(_rewritten(comparing, old, new), QUICK)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"compare.draw": ["grad_nrom"]}, r"names 'grad_nrom', which no run recorded; they have .*grad_norm"),
        ({"compare.by": "accuracy"}, r"by = 'accuracy', which .* did not record"),
    ],
)
def test_what_no_run_recorded_is_not_drawn_and_the_runs_are_kept_for_a_better_name(made, changes, fault):
    recipe = made.path.parent / "recipe.toml"
    with pytest.raises(BadRecipe, match=fault):
        kun.train(recipe, changes, resume=True)
    assert kun.train(recipe, resume=True).tried == made.tried


@pytest.mark.parametrize("changes", [{"seed": 5}, {"optimizer.lr": 0.5}])
def test_finished_runs_of_another_recipe_are_not_mixed_with_new_ones(made, changes):
    with pytest.raises(BadRecipe, match="was begun with"):
        kun.train(made.path.parent / "recipe.toml", changes, resume=True)


def test_what_only_some_runs_recorded_is_left_out_of_the_picture_and_named(made):
    told = []
    again = kun.train(
        made.path.parent / "recipe.toml",
        {"compare.draw": ["eval_loss", "grad_nrom"]},
        resume=True,
        progress=lambda stage, done, total, detail: told.append((stage, detail)),
    )
    assert ("left out of the picture", True) in [(stage, "grad_nrom" in detail) for stage, detail in told]
    assert len(json.loads((again.path / "comparison.json").read_text(encoding="utf-8"))["panels"]) == 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"data.eval": None, "train.eval_every": None}, "eval_every"),
        ({"stage": "tokenizer", "tokenizer.kind": "bpe"}, "no steps to compare"),
        ({"compare.runs": {"..": {}}}, "a letter or a digit"),
    ],
)
def test_what_can_be_known_before_is_said_before_the_first_step(comparing, tmp_path, changes, fault):
    with pytest.raises(BadRecipe, match=fault):
        kun.train(comparing, {**QUICK, **changes})
    assert not list((tmp_path / "run").glob("*/metrics.jsonl"))


def test_mistakes_in_any_run_are_found_before_the_first_step(comparing, tmp_path):
    with pytest.raises(BadRecipe):
        kun.train(_rewritten(comparing, 'name = "sgd"', 'name = "sdg"'), QUICK)
    assert not (tmp_path / "run").exists()


MAD = '[compare.runs.mad]\noptimizer = {name = "sgd", lr = 1e30, momentum = 0.0, warmup = 0}\n'


def test_a_run_that_diverges_is_a_result_and_ends_no_other(recipe):
    text = recipe.read_text(encoding="utf-8") + MAD + "[compare.runs.plain]\n"
    recipe.write_text(text, encoding="utf-8")
    made = kun.train(recipe, {**QUICK, "train.steps": 4})
    assert made.tried["mad"] == float("inf")
    assert made.tried["plain"] < 10
    assert ">mad<" in made.picture.read_text(encoding="utf-8")
    text = (made.path / "comparison.json").read_text(encoding="utf-8")
    written = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert None in written["tried"].values()


def test_a_comparison_whose_runs_all_diverge_says_so(recipe):
    recipe.write_text(recipe.read_text(encoding="utf-8") + MAD, encoding="utf-8")
    with pytest.raises(Diverged, match=r"Every run of .* diverged: lower optimizer.lr"):
        kun.train(recipe, {**QUICK, "train.steps": 4})


def test_a_comparison_is_not_shared_by_processes(comparing, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadRecipe, match="run it without torchrun"):
        kun.train(comparing, QUICK)


def test_the_axes_of_a_picture_are_those_that_a_plot_asks_for():
    drawn = curves([Panel("speed", "length", "xy", {"a": ([1, 100], [10, 1000])})]).decode()
    assert all(f">{text}<" in drawn for text in ("speed", "length", "a"))
    assert drawn != curves([Panel("speed", "length", "", {"a": ([1, 100], [10, 1000])})]).decode()

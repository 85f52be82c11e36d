"""`kun train` as people type it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Kun, Process

from kun.training.snapshot import steps


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A run of a tiny network, in folders with Chinese names and spaces."""
    folder = tmp_path / "训练 one"
    folder.mkdir()
    lines = "".join(f"the fish {number} turns into a bird\n\n" for number in range(300))
    (folder / "文本.txt").write_text(lines, encoding="utf-8")
    path = folder / "配方.toml"
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
train = "{folder / "文本.txt"}"
[train]
steps = 4
context = 32
batch_tokens = 128
snapshot_every = 2
""",
        encoding="utf-8",
    )
    return path


def test_a_run_says_how_it_went_and_where_it_lies(kun: Kun, recipe: Path) -> None:
    ran = kun("train", recipe)
    assert ran.code == 0, ran.err
    assert "4 steps" in ran.out
    assert str(recipe.parent / "run" / "checkpoint") in ran.out
    assert "report.html" in ran.out
    told = json.loads(kun("train", recipe, "--json", "-o", "out=" + str(recipe.parent / "b")).out)
    assert told["last"]["step"] == 4
    written = kun(
        "generate", recipe.parent / "run" / "checkpoint", "-p", "the", "--max-tokens", 3, "--quantize", "none"
    )
    assert written.code == 0, written.err


def test_a_comparison_shows_each_run_what_was_tried_and_where_the_picture_is(kun: Kun, recipe: Path) -> None:
    more = f"""
[compare]
by = "loss"
draw = ["loss"]
[compare.runs.plain]
train.steps = 1
[compare.runs.SGD]
optimizer.name = "sgd"
try.optimizer.lr = [0.1, 0.2]
train = {{steps = 1, eval_every = 1}}
data.eval = "{recipe.parent / "文本.txt"}"
"""
    recipe.write_text(recipe.read_text(encoding="utf-8") + more, encoding="utf-8")
    ran = kun("train", recipe)
    assert ran.code == 0, ran.err
    picture = recipe.parent / "run" / "comparison.svg"
    assert f"picture     {picture}" in ran.out
    assert "SGD, lr 0.2: " in ran.out
    assert picture.is_file()
    told = json.loads(kun("train", recipe, "--json", "--resume").out)
    assert told["picture"] == str(picture)
    assert set(told["tried"]) == {"plain", "SGD, lr 0.1", "SGD, lr 0.2"}
    assert all(run["last"]["step"] == 1 and run["parameters"] > 0 for run in told["runs"].values())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-o", "train.step=3"], "did you mean train.steps"),
        (["-o", "train.steps"], "key=value"),
        (["-o", "optimizer.lr=fast"], "optimizer.lr"),
        (["-o", "model.family=gpt5"], "did you mean gpt"),
        (["-o", "model.n_layer=3"], "did you mean model.n_layers"),
        (["-o", "model.n_heads=3"], "n_head"),
        (["-o", "model.n_heads=0"], "model.n_heads"),
        (["-o", "model.d_model=wide"], "model.d_model"),
        (["-o", "model.family=bert", "-o", "objective.name=next_token"], "does not fit"),
    ],
)
def test_a_mistake_in_the_recipe_is_a_sentence_and_exit_code_two(
    kun: Kun, recipe: Path, options: list[str], told: str
) -> None:
    ran = kun("train", recipe, *options)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert ran.err.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no file or folder"),
        (b"", "holds no data"),
        (b"\xff\xfe\x00broken \xc3\x28", "UTF-8"),
    ],
)
def test_data_that_cannot_be_used_is_named(kun: Kun, recipe: Path, content: bytes | None, told: str) -> None:
    text = recipe.parent / "文本.txt"
    text.unlink()
    if content is not None:
        text.write_bytes(content)
    ran = kun("train", recipe)
    assert ran.code in (1, 2)
    assert told in ran.err
    assert "文本.txt" in ran.err
    text.write_text("the fish turns into a bird\n\n" * 50, encoding="utf-8")
    assert kun("train", recipe).code == 0, "what was mended can be tried again in the same folder"


def test_ctrl_c_leaves_a_snapshot_and_resume_goes_on(
    kun: Kun, recipe: Path, start: Callable[..., Process]
) -> None:
    process = start("train", recipe, "-o", "train.steps=100000", "-o", "optimizer.schedule=constant")
    snapshots, until = recipe.parent / "run" / "snapshots", time.monotonic() + 120
    while not steps(snapshots) and time.monotonic() < until:
        time.sleep(0.1)
    process.interrupt()
    ran = process.wait(60)
    assert (ran.code, ran.err.splitlines()[-1]) == (130, "kun: Interrupted.")
    reached = steps(snapshots)[-1]
    again = kun(
        "train", recipe, "--resume", "-o", f"train.steps={reached + 3}", "-o", "optimizer.schedule=constant"
    )
    assert again.code == 0, again.err
    assert f"{reached + 3} steps" in again.out
    assert kun("train", recipe).code == 2

"""Tasks of another package: a frozen teacher, answers that the trained network samples, pictures; none edits Kun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kun
from kun.errors import BadRecipe
from kun.hub.opening import open_checkpoint
from kun.training import registry
from kun.training.recipe import parse_recipe
from kun.training.resolving import resolve
from kun.training.run import read_lines
from kun.training.snapshot import steps

TASKS = Path(__file__).with_name("tasks")
MODEL = '[model]\nfamily = "gpt2"\nn_layers = 1\nn_heads = 2\nd_model = 32\ntokenizer = "bytes"\n'
SMALL = 'context = 32\nbatch_tokens = 128\nprecision = "fp32"\nsnapshot_every = 4\n'
FAST = "[optimizer]\nlr = 1e-2\n"
CLOCK = ("seconds", "items_per_s", "tokens_per_s", "peak_share")


@pytest.fixture
def package(tmp_path):
    """A folder to be put on Python's path, in which a package registers the tasks as one that is installed would."""
    package = tmp_path / "site"
    known = package / "kun_test_tasks-1.0.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: kun-test-tasks\nVersion: 1.0\n")
    names = {
        "distillation": "Distillation",
        "bandit": "Bandit",
        "autoencoder": "Autoencoder",
        "broken": "None",
    }
    points = "".join(f"{name} = {name}:{kind}\n" for name, kind in names.items())
    (known / "entry_points.txt").write_text(f"[kun.tasks]\n{points}")
    return package


@pytest.fixture
def registered(package, monkeypatch):
    """The tasks in this process, too."""
    for path in (package, TASKS):
        monkeypatch.syspath_prepend(str(path))
    registry.tasks.cache_clear()
    yield
    registry.tasks.cache_clear()


@pytest.fixture
def recipes(tmp_path, text):
    """A recipe for each task."""
    teacher = tmp_path / "teacher.toml"
    data = f'[data]\ntrain = "{text}"\n'
    teacher.write_text(
        f'stage = "pretrain"\n{MODEL}{data}[train]\nsteps = 80\n{SMALL}[optimizer]\nlr = 1e-2\n',
        encoding="utf-8",
    )
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(20):
        shade = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(shade).save(pictures / f"{number:02}.png")

    def make(name):
        path = tmp_path / f"{name}.toml"
        if name == "distillation":
            trained = kun.train(teacher, {"out": str(tmp_path / "teacher")}).checkpoint
            objective = f'[objective]\nteacher = "{trained}"\nnear = 0.1\ntemperature = 1.0\n'
            content = f'stage = "distill"\n{MODEL}{data}{objective}[train]\nsteps = 4000\n{SMALL}{FAST}'
        elif name == "bandit":
            content = f'stage = "bandit"\n{MODEL}{data}[train]\nsteps = 40\n{SMALL}{FAST}'
        else:
            told = f'[data]\ntrain = "{pictures}"\n[train]\nsteps = 300\nbatch = 8\nprecision = "fp32"\n'
            content = (
                f'stage = "autoencoder"\n{told}snapshot_every = 4\neval_every = 100\n[optimizer]\nlr = 1e-2\n'
            )
        path.write_text(content, encoding="utf-8")
        return path

    return make


def _train(recipe, out, package, *flags):
    line = [sys.executable, "-m", "kun", "train", str(recipe), "-o", f'out="{out}"', *flags]
    paths = [str(package), str(TASKS), *sys.path]
    return subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    )


def _told(out):
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_lines(out / "metrics.jsonl")]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["distillation", "bandit", "autoencoder"])
def test_a_killed_training_goes_on_bit_for_bit(name, recipes, package, tmp_path):
    recipe, whole, run = recipes(name), tmp_path / "whole", tmp_path / "run"
    assert _train(recipe, whole, package).wait() == 0
    killed = _train(recipe, run, package)
    until = time.monotonic() + 120
    while not steps(run / "snapshots") and time.monotonic() < until:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (run / "checkpoint").exists()
    assert _train(recipe, run, package, "--resume").wait() == 0
    assert _told(run) == _told(whole)
    weights = sorted(path.relative_to(whole) for path in (whole / "checkpoint").rglob("*.safetensors"))
    assert weights
    for path in weights:
        assert (run / path).read_bytes() == (whole / path).read_bytes()
    _check(name, whole)


def _check(name, run):
    """What is particular to each task."""
    metrics = read_lines(run / "metrics.jsonl")
    facts = json.loads((run / "facts.json").read_text(encoding="utf-8"))
    report = (run / "report.html").read_text(encoding="utf-8")
    if name == "distillation":  # which ended by its own verdict
        assert metrics[-1]["loss"] < 0.1 <= metrics[-2]["loss"]
        assert "nats from its teacher" in facts["note"]
        assert "nats from its teacher" in report
        assert metrics[-1]["agreement"] > metrics[0]["agreement"]
    elif name == "bandit":
        assert sum(line["reward"] for line in metrics[-6:]) > sum(line["reward"] for line in metrics[:6])
        assert metrics[-1]["items"] == 8 * len(metrics)
        assert "tokens" not in metrics[-1]
        assert all(step % 2 == 0 for step in steps(run / "snapshots"))
    else:
        assert metrics[-1]["loss"] < 0.7 * metrics[0]["loss"]
        assert metrics[-1]["items"] == 8 * 300
        assert "eval_norm" in metrics[99]
        assert len(read_lines(run / "plots.jsonl")) == 3
        assert list(open_checkpoint(run / "checkpoint").components) == ["encoder", "decoder"]


def _recipe(stage, **tables):
    return parse_recipe({"stage": stage, "data": {"train": "x"}, "train": {"steps": 1}, **tables})


@pytest.mark.usefixtures("registered")
def test_options_are_checked_as_a_union_over_all_tasks_and_a_task_keeps_its_own():
    gpt = {"model": {"family": "gpt2"}}
    with pytest.raises(BadRecipe, match=r"did you mean objective\.temperature"):
        _recipe("distill", objective={"temprature": 1.0}, **gpt)
    with pytest.raises(BadRecipe, match=r"objective\.temperature.*greater than 0"):
        _recipe("distill", objective={"temperature": -1.0}, **gpt)
    job, task = resolve(_recipe("distill", objective={"temperature": 3.0, "mask_share": 0.2}, **gpt))
    assert task.options.temperature == 3.0
    assert job.values["objective"] == {"teacher": "", "temperature": 3.0, "near": 0.0}
    assert resolve(_recipe("autoencoder"))[0].batch == 64


@pytest.mark.usefixtures("registered")
def test_what_a_task_does_not_count_or_cannot_load_is_named():
    with pytest.raises(BadRecipe, match=r"train\.batch_tokens"):
        resolve(_recipe("pretrain", model={"family": "gpt2"}, train={"steps": 1, "batch": 8}))
    with pytest.raises(BadRecipe, match="counts pictures"):
        resolve(_recipe("autoencoder", train={"tokens": 8}))
    with pytest.raises(BadRecipe, match="broken of another package cannot be loaded"):
        _recipe("pretrain", model={"family": "gpt2"}, objective={"name": "broken"})

"""What is trained here is what is served elsewhere: a run's checkpoint, exported, in the readers of both formats."""

import importlib.util
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kun
from kun.hub.checkpoint import Checkpoint
from kun.hub.export import fidelity
from kun.hub.export.exporting import Export
from kun.hub.export.fidelity import export_model, prove
from kun.hub.opening import open_checkpoint
from kun.settings import settings
from kun.text.learn import learn_tokenizer

WORDS = "the fish of the northern sea 北冥有鱼 其名为鲲 turns into a bird; def area(r): return 3.14 🙂 café".split()

PYTHON = os.environ.get("KUN_READER_PYTHON")
"""Read before tests get an environment of their own."""


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The checkpoint of a short training with a tokenizer and a chat template that were made for it."""
    folder = tmp_path_factory.mktemp(request.param)
    chance = random.Random(0)
    lines = [" ".join(chance.choice(WORDS) for _ in range(chance.randint(3, 30))) for _ in range(200)]
    (folder / "text.jsonl").write_text(
        "".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8"
    )
    learned = learn_tokenizer(lines, "bpe", 400)
    (folder / "tokenizer").mkdir()
    learned.tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    said = folder / "tokenizer" / "tokenizer_config.json"
    said.write_text(json.dumps(learned.config), encoding="utf-8")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f"""
stage = "pretrain"
out = "{folder / "run"}"
[model]
family = "{request.param}"
n_layers = 2
n_heads = 2
d_model = 64
tokenizer = "{folder / "tokenizer"}"
[data]
train = "{folder / "text.jsonl"}"
eval = 0.1
[train]
steps = 8
context = 64
batch_tokens = 512
compile = false
[optimizer]
lr = 3e-3
warmup = 2
""",
        encoding="utf-8",
    )
    return open_checkpoint(kun.train(recipe).checkpoint)


@pytest.fixture
def llama_cpp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """llama.cpp as the only reader, where it is installed."""
    if PYTHON is None and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
    if PYTHON is not None:
        monkeypatch.setenv("KUN_READER_PYTHON", PYTHON)
    settings.cache_clear()
    monkeypatch.setattr(fidelity, "_readers", lambda export: ("llama.cpp",))
    yield
    settings.cache_clear()


@pytest.mark.parametrize("format", ["hf", "gguf"])
def test_transformers_reads_what_was_trained(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(fidelity, "_readers", lambda export: ("transformers",))
    found = export_model(trained, tmp_path / "out", format=format, verify=True).fidelity
    (reading,) = found.readings
    assert reading.ok, found.sentence
    assert reading.states.positions > 50
    assert format == "gguf" or reading.chats.total > 5


@pytest.mark.usefixtures("llama_cpp")
@pytest.mark.parametrize("dtype", ["F32", "Q8_0"])
def test_llama_cpp_reads_what_was_trained(trained: Checkpoint, tmp_path: Path, dtype: str) -> None:
    exported = export_model(trained, tmp_path, format="gguf", dtype=dtype, verify=True)
    assert exported.path.name == f"run-{dtype}.gguf"
    assert exported.fidelity.verdict == "same", exported.fidelity.sentence
    (reading,) = exported.fidelity.readings
    assert reading.chats.total > 5
    # far nearer than what is forgiven: the network that rounds alike is the right measure
    assert reading.states.typical < max(reading.states.tolerance.typical / 2, 1e-5)


@pytest.mark.usefixtures("llama_cpp")
def test_llama_cpp_finds_another_template(trained: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "broken")
    template = tmp_path / "broken" / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<|im_end|>'", "'"), encoding="utf-8")
    broken = open_checkpoint(tmp_path / "broken")
    path = Export.of(broken, "gguf", None).write(tmp_path / "out").path
    found = prove(Export.of(trained, "gguf", None), path)
    assert found.verdict == "differs"
    assert "renders" in found.sentence

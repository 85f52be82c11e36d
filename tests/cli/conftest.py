"""A home with tiny models under the names of the default ones, and the command line run in it."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from command_line import ENGLISH_ONLY, Kun, Process, Ran
from tiny_models import save_encoder, save_writer

from kun.cli.app import run
from kun.settings import DEFAULT_ENCODER, DEFAULT_MODEL, settings


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, made once."""
    folder = tmp_path_factory.mktemp("models")
    save_writer(folder / DEFAULT_MODEL)
    save_writer(folder / ENGLISH_ONLY)
    save_encoder(folder / DEFAULT_ENCODER)
    save_encoder(folder / "other-encoder", seed=1)
    return folder


@pytest.fixture
def home(tiny_home: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KUN_HOME of one test, where the models are."""
    (tiny_home / "models").mkdir()
    for model in models.iterdir():
        (tiny_home / "models" / model.name).symlink_to(model)
    monkeypatch.setenv("KUN_NATIVE", "0")  # nothing is compiled for a minute's work
    settings.cache_clear()
    return tiny_home


@pytest.fixture
def kun(home: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> Kun:
    """Run a command within this process."""

    def call(*line: object, stdin: str | bytes = b"") -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capfd.readouterr()
        code = run([str(part) for part in line])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of two documents, one of them Chinese."""
    folder = tmp_path / "docs"
    (folder / "zh").mkdir(parents=True)
    (folder / "fish.md").write_text("# Fish\n\nThe Kun is a fish of the northern sea.\n", encoding="utf-8")
    (folder / "zh" / "大 鹏.md").write_text("# 鹏\n\n鹏之背，不知其几千里也。\n", encoding="utf-8")
    return folder


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Process]]:
    """Start a command in a process of its own."""
    started: list[Process] = []

    def call(*line: object, **environment: str) -> Process:
        started.append(Process(*line, **environment))
        return started[-1]

    yield call
    for process in started:
        process.end()

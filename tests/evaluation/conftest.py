"""Tiny random models to be measured, each beside its reference, made once."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "generation"))
sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from task_files import Write
from tiny import language_model, reference
from tiny_masked import write as write_checkpoint

from kun.models.language_model import LanguageModel


@pytest.fixture(scope="session", params=["llama", "gpt2", "t5", "marian"])
def pair(request: Any) -> Iterator[tuple[LanguageModel, Any]]:
    """A language model and its reference."""
    with language_model(request.param) as lm:
        yield lm, reference(request.param)


@pytest.fixture(scope="session")
def llama() -> Iterator[LanguageModel]:
    with language_model("llama") as lm:
        yield lm


@pytest.fixture(scope="session")
def translator() -> Iterator[LanguageModel]:
    with language_model("marian") as lm:
        yield lm


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with the head of a classifier of three unnamed labels, as the reference saves it."""
    folder = tmp_path_factory.mktemp("classifier")
    return write_checkpoint(folder, "BertForSequenceClassification", num_labels=3)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, and give its path."""

    def call(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return call

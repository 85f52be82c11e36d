"""The public face: names that are fetched when they are used, and the default model."""

import subprocess
from pathlib import Path

import pytest

import kun
from kun import api
from kun.models.chosen import Choice
from kun.settings import DEFAULT_MODEL


def test_every_public_name_is_there() -> None:
    assert {name for name in kun.__all__ if getattr(kun, name, None) is None} == set()
    assert {name for name in api._HOMES if getattr(api, name, None) is None} == set()
    with pytest.raises(AttributeError):
        _ = api.Nothing


def test_importing_kun_imports_no_torch(python: str) -> None:
    code = "import sys, kun, kun.api; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([python, "-c", code], check=False).returncode == 0


def test_without_a_name_the_default_model_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_home: Path
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("kun.hub.pull.locate", lambda name, *_, **__: asked.append(name) or tmp_path)
    monkeypatch.setattr("kun.models.opening.open_model", lambda path, **given: (path, given["quantize"]))
    monkeypatch.setattr("kun.models.chosen.by_machine", lambda: Choice(DEFAULT_MODEL, "machine", ""))
    assert api.load(quantize="int4") == (tmp_path, "int4")
    assert asked == [DEFAULT_MODEL]


def test_a_knowledge_base_that_cannot_be_read_is_a_row_with_its_fault(tiny_home: Path) -> None:
    broken = tiny_home / "knowledge" / "broken"
    broken.mkdir(parents=True)
    (broken / "kb.json").write_text("{", encoding="utf-8")
    [row] = api.knowledge_base_rows()
    assert (row["name"], row["encoder"], row["documents"]) == ("broken", None, None)
    assert row["fault"]

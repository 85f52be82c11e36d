"""The default model: chosen by the machine once, kept, changed by name, and never fetched where one is here."""

import json
from pathlib import Path

import pytest

from kun import api
from kun.errors import BadInput, ModelNotFound
from kun.models import chosen as module
from kun.models.chosen import answer_seconds, by_machine, choose, chosen
from kun.settings import DEFAULT_ENCODER, DEFAULT_MODEL, LARGER_MODEL


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each measurement is noted; a fast machine with much memory."""
    taken: list[float] = []
    monkeypatch.setattr(module, "answer_seconds", lambda: taken.append(4.0) or 4.0)
    monkeypatch.setattr(module, "machine_memory", lambda: (16 * 2**30, 12 * 2**30))
    return taken


def _put(home: Path, *names: str) -> None:
    for name in names:
        folder = home / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "qwen2"}', encoding="utf-8")


def test_a_new_home_is_measured_once_and_the_choice_is_kept(tiny_home: Path, measured: list[float]) -> None:
    assert (chosen().name, chosen().by) == (LARGER_MODEL, "machine")
    assert len(measured) == 1
    assert json.loads((tiny_home / "default-model.json").read_text("utf-8"))["name"] == LARGER_MODEL


@pytest.mark.parametrize("name", [DEFAULT_MODEL, LARGER_MODEL])
def test_a_home_with_one_of_the_models_goes_on_with_it(
    tiny_home: Path, measured: list[float], name: str
) -> None:
    _put(tiny_home, name)
    assert (chosen().name, chosen().by, measured) == (name, "here", [])


def test_a_choice_of_the_machine_that_is_not_here_gives_way_to_the_one_that_is(
    tiny_home: Path, measured: list[float]
) -> None:
    assert chosen().name == LARGER_MODEL
    _put(tiny_home, DEFAULT_MODEL)
    assert chosen().name == DEFAULT_MODEL
    _put(tiny_home, LARGER_MODEL)
    assert chosen().name == LARGER_MODEL


def test_slow_machines_and_small_ones_take_the_smaller_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine_memory", lambda: (16 * 2**30, 12 * 2**30))
    assert by_machine(lambda: 30.0).name == DEFAULT_MODEL
    assert by_machine(lambda: 3.0).name == LARGER_MODEL
    monkeypatch.setattr(module, "machine_memory", lambda: (4 * 2**30, 3 * 2**30))
    assert by_machine(lambda: 3.0).name == DEFAULT_MODEL
    monkeypatch.setattr(module, "machine_memory", lambda: (16 * 2**30, 2**30))
    assert "free memory" in by_machine(lambda: 3.0).reason
    monkeypatch.setattr(module, "machine_memory", lambda: (None, None))
    assert by_machine(lambda: 3.0).name == LARGER_MODEL


@pytest.mark.parametrize("told", ["MemTotal: 8 kB\n", "MemAvailable:\n", "MemAvailable: much\n"])
def test_a_system_that_does_not_tell_its_free_memory_is_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr(module, "MEMORY", 0)
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: told if path.name == "meminfo" else "max")
    assert by_machine(lambda: 3.0).name == LARGER_MODEL


def test_a_person_chooses_what_is_here_or_can_be_had_and_the_machine_no_longer_asks(
    tiny_home: Path, measured: list[float], tmp_path: Path
) -> None:
    _put(tiny_home, DEFAULT_MODEL, LARGER_MODEL, "poet")
    assert choose("poet").by == "person"
    assert (chosen().name, measured) == ("poet", [])
    choose("smollm2-135m-instruct")  # of the catalog, to be pulled when it is asked for
    assert chosen().name == "smollm2-135m-instruct"
    (tmp_path / "run").mkdir()
    assert choose(str(tmp_path / "run")).name == str(tmp_path / "run")
    assert choose("auto").name == chosen().name == LARGER_MODEL


def test_no_model_and_none_that_writes_no_text_can_be_chosen(tiny_home: Path) -> None:
    with pytest.raises(ModelNotFound, match="qwen2"):
        choose("qwen2.5-coder-1.5b")
    with pytest.raises(BadInput, match="writes no text"):
        choose(DEFAULT_ENCODER)


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": 3}', b"\xff\xfe"])
def test_a_damaged_choice_is_made_anew(tiny_home: Path, measured: list[float], content: bytes) -> None:
    (tiny_home / "default-model.json").write_bytes(content)
    assert chosen().name == LARGER_MODEL
    assert json.loads((tiny_home / "default-model.json").read_text("utf-8"))["by"] == "machine"


def test_loading_without_a_name_opens_the_chosen_model(
    tiny_home: Path, measured: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("kun.hub.pull.locate", lambda name, *_, **__: asked.append(name) or tiny_home)
    monkeypatch.setattr("kun.models.opening.open_model", lambda path, **_: path)
    api.load()
    api.choose_model(DEFAULT_MODEL)
    api.load()
    assert asked == [LARGER_MODEL, DEFAULT_MODEL]


def test_the_measurement_takes_no_model_and_gives_seconds(
    tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROUNDS", 1)
    monkeypatch.setattr(module, "_ROWS", 2)
    assert 0 < answer_seconds() < 3600

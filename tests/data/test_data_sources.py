"""Files, folders, lists, the hub: rows in a fixed order, and what is not there named."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kun.data.rows import Conversation, Labelled, Text
from kun.data.sources import Rows
from kun.errors import BadInput, BadRow, NotFound, Unavailable, UnsupportedFormat
from kun.settings import settings


def test_a_folder_gives_the_files_of_known_kinds_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/a.txt", ".hidden/x.txt", "c.bin", ".d.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    assert [row.text for row in Rows(tmp_path) if isinstance(row, Text)] == ["b.txt", "a/a.txt", "a/z.md"]


def test_a_list_is_read_in_its_order_and_each_file_has_a_format_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"sentence": "good", "label": 1}\n')
    (tmp_path / "b.json").write_text('[{"instruction": "a", "output": "b"}]')
    kinds = [type(row) for row in Rows([tmp_path / "b.json", tmp_path / "a.jsonl"])]
    assert kinds == [Conversation, Labelled]


def test_rows_are_the_same_each_time_they_are_read_and_bad_ones_are_counted_anew(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text"\n{"text": 1}\n{"text": "b"}\n')
    rows = Rows(tmp_path / "a.jsonl", skip_bad=True)
    assert list(rows) == list(rows)
    assert rows.bad.count == 2
    with pytest.raises(BadRow, match=r"a\.jsonl:2"):
        list(Rows(tmp_path / "a.jsonl"))


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file or folder .*missing\.jsonl"):
        list(Rows(tmp_path / "missing.jsonl"))
    with pytest.raises(NotFound, match=r"no file or folder data/missing\.jsonl"):
        list(Rows("data/missing.jsonl"))  # not an id of the hub


def test_a_source_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(BadInput, match=r"a\.txt is named twice"):
        list(Rows([tmp_path, tmp_path / "a.txt"]))


def test_a_source_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n")
    (tmp_path / "b.jsonl").write_text("{\n")
    with pytest.raises(BadInput, match=r"a\.txt holds no data"):
        list(Rows(tmp_path / "a.txt"))
    with pytest.raises(BadInput, match="besides 1 bad rows"):
        list(Rows(tmp_path / "b.jsonl", skip_bad=True))
    with pytest.raises(BadInput, match="list of sources is empty"):
        list(Rows([]))


def test_a_folder_without_a_readable_file_says_which_kinds_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("x")
    with pytest.raises(UnsupportedFormat, match="no file of a kind that is read"):
        list(Rows(tmp_path))


def test_the_fingerprint_changes_with_a_file_and_with_how_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    before = Rows(path).fingerprint()
    assert before == Rows(path).fingerprint() != Rows(path, skip_bad=True).fingerprint()
    path.write_text("ab")
    assert Rows(path).fingerprint() != before
    assert Rows("installed-docs").fingerprint() == ""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A stand-in for the hub's library, which notes how it is called."""
    calls: list[Any] = []

    def load_dataset(
        name: str, config: str | None, *, split: str, streaming: bool
    ) -> Iterator[dict[str, str]]:
        calls.append((name, config, split, streaming))
        if name == "owner/missing":
            raise FileNotFoundError("no such data set")
        return iter([{"text": "a"}, {"text": "b"}])

    library: Any = ModuleType("datasets")
    library.load_dataset = load_dataset
    library.exceptions = SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.delenv("KUN_OFFLINE", raising=False)
    settings.cache_clear()
    yield calls
    monkeypatch.undo()
    settings.cache_clear()


def test_a_data_set_of_the_hub_is_streamed(hub: list[Any]) -> None:
    assert [row.where for row in Rows("owner/name:config@validation")] == [
        "owner/name:config@validation:1",
        "owner/name:config@validation:2",
    ]
    assert hub == [("owner/name", "config", "validation", True)]
    with pytest.raises(Unavailable, match="owner/missing cannot be read from the hub: no such data set"):
        list(Rows("owner/missing"))


def test_without_the_hubs_library_both_ways_to_mend_it_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(NotFound, match=r"no file or folder owner/name; .*pip install 'kun\[datasets\]'"):
        list(Rows("owner/name"))


def test_offline_the_hub_is_not_asked(hub: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUN_OFFLINE", "1")
    settings.cache_clear()
    with pytest.raises(Unavailable, match="KUN_OFFLINE"):
        list(Rows("owner/name"))
    assert not hub

"""What must not be lost, nor stored twice: processes killed, two at once, a full disk, Ctrl-C."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeEncoder

from kun.errors import NoSpace
from kun.knowledge import adding
from kun.knowledge.base import KnowledgeBase

SCRIPT = Path(__file__).with_name("adding_process.py")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of sixty documents of one to five passages."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        text = f"# Document {number}\n\n" + f"Sentence of document {number}. " * (20 + 60 * (number % 4))
        (folder / f"{number}.md").write_text(text)
    return folder


def start(base: Path, *folders: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(base), *map(str, folders)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def assert_sound(path: Path, folder: Path) -> int:
    """Every stored document is there whole and once; returns how many."""
    base = KnowledgeBase.open(path, encoder=FakeEncoder())
    version, table, stored = base._store.snapshot()
    documents = {text.source: text.text for text in stored}
    assert version == base.version
    assert len(set(table.ids)) == len(table)
    for source, text in documents.items():
        assert text == (folder / source).read_text()
    pieces = sorted(zip(table.sources, table.starts, table.ends, strict=True))
    assert len(set(pieces)) == len(pieces)
    shown: dict[str, str] = dict.fromkeys(documents, "")
    for source, begin, end in pieces:
        shown[source] += documents[source][begin:end]
    assert all("".join(shown[source].split()) == "".join(text.split()) for source, text in documents.items())
    return len(documents)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_process_killed_while_adding_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path, many: Path, seed: int
) -> None:
    """Killed several times over, at moments of its own; then it is added once more, to the end."""
    moments, path, stored = random.Random(seed), tmp_path / "kb", 0
    for _ in range(3):
        process = start(path, many)
        time.sleep(moments.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = assert_sound(path, many)
        assert now >= stored
        stored = now
    base = KnowledgeBase.open(path, encoder=FakeEncoder())
    report = base.add(many)
    assert len(report.added) + len(report.unchanged) == 60
    assert len(report.unchanged) == stored
    assert assert_sound(path, many) == 60
    assert sum(base._store.counts().values()) == len(base._store.passages())


@pytest.mark.slow
def test_two_processes_adding_at_once_both_finish_and_store_nothing_twice(tmp_path: Path, many: Path) -> None:
    processes = [start(tmp_path / "kb", many) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split()[2] == "0"
    assert assert_sound(tmp_path / "kb", many) == 60


def test_ctrl_c_between_commits_keeps_what_was_committed(
    base: KnowledgeBase, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "BATCH", 8)

    def interrupt(stage: str, done: int, total: int | None, detail: str = "") -> None:
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base.add(many, progress=interrupt)
    stored = assert_sound(base.path, many)
    assert 30 < stored < 60
    assert len(base.add(many).unchanged) == stored
    assert assert_sound(base.path, many) == 60


def test_a_full_disk_is_said_and_what_was_stored_stays(
    base: KnowledgeBase, docs: Path, tmp_path: Path
) -> None:
    base.add(docs)
    large = tmp_path / "large.md"
    large.write_text("".join(f"Sentence {number} of {os.urandom(8).hex()}. " for number in range(20_000)))
    resource = pytest.importorskip("resource")  # no file may grow beyond 64 kB, as if the disk were full
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
    try:
        with pytest.raises(NoSpace, match="disk is full"):
            base.add(large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [source.name for source in base.sources()] == ["a.md", "b.txt", "sub/鲲 鹏.md"]
    assert len(base._store.passages()) == 4
    assert base.add(large).added == ["large.md"]


@pytest.mark.parametrize("closed", ["", "sub"])
def test_a_folder_that_cannot_be_listed_loses_nothing_and_is_named(
    tmp_path: Path, docs: Path, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = KnowledgeBase.open(tmp_path / "base", encoder=FakeEncoder())
    names = sorted(base.add(docs).added)
    assert any(name.startswith("sub/") for name in names)
    listing = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == docs / closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = base.add(docs)
    assert report.removed == []
    assert "Permission denied" in report.failed[str(docs / closed)]
    assert sorted(source.name for source in base.sources()) == names

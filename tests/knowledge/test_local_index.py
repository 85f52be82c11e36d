"""The index is kept in files, follows what is stored, and is made anew where it is damaged or of another time."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from filelock import FileLock

from kun.atomic_files import sealed, unsealed
from kun.knowledge import adding, contents
from kun.knowledge.base import KnowledgeBase
from kun.knowledge.contents import INDEX
from kun.knowledge.local_index import LocalIndex
from kun.knowledge.manifest import Manifest
from kun.knowledge.segment import Segment


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of documents that each segment was built of, in order."""
    counts: list[int] = []
    build = Segment.build.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Segment], passages: object, documents: list[object]) -> Segment:
        counts.append(len(documents))
        segment: Segment = build(cls, passages, documents)
        return segment

    monkeypatch.setattr(Segment, "build", classmethod(counted))
    return counts


def test_only_what_changed_is_indexed_and_opening_again_indexes_nothing(
    base: KnowledgeBase, docs: Path, built: list[int]
) -> None:
    base.add(docs)
    assert built == [3]  # the first search finds all of it done
    assert base.search("Peng")[0].source == "a.md"
    (docs / "c.md").write_text("A whale is no fish.")
    base.add(docs)
    assert built == [3, 1]
    assert base.search("whale")[0].source == "c.md"
    base.remove("a.md")
    assert all(passage.source != "a.md" for passage in base.search("Peng", k=9))
    again = KnowledgeBase.open(base.path, encoder=FakeEncoder())
    assert [p.id for p in again.search("whale", k=9)] == [p.id for p in base.search("whale", k=9)]
    assert built == [3, 1]


def test_an_interrupted_add_leaves_what_was_indexed_and_the_next_search_indexes_the_rest(
    base: KnowledgeBase, docs: Path, monkeypatch: pytest.MonkeyPatch, built: list[int]
) -> None:
    for module in (adding, contents):
        monkeypatch.setattr(module, "INDEXED_AT_ONCE", 1)
    monkeypatch.setattr(adding, "BATCH", 1)
    told: list[tuple[str, int, int | None]] = []

    def stop_at_the_third(stage: str, done: int, total: int | None, detail: str = "") -> None:
        told.append((stage, done, total))
        if stage == "adding" and done == 2 and len(built) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base.add(docs, progress=stop_at_the_third)
    assert built == [1, 1]
    again = KnowledgeBase.open(base.path, encoder=FakeEncoder())
    assert len({passage.source for passage in again.search("fish", k=9)}) == 2
    assert built == [1, 1]
    again.add(docs, progress=lambda *step: told.append((step[0], step[1], step[2])))
    assert built == [1, 1, 1]
    assert len({passage.source for passage in again.search("fish", k=9)}) == 3
    assert any(stage == "indexing" and 0 < done == total for stage, done, total in told)


def test_while_another_process_indexes_a_search_sees_what_was_there(
    base: KnowledgeBase, docs: Path, monkeypatch: pytest.MonkeyPatch, built: list[int]
) -> None:
    base.add(docs)
    other = KnowledgeBase.open(base.path, encoder=FakeEncoder())
    monkeypatch.setattr(contents, "_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(contents, "_AGAIN_SECONDS", 0.0)
    (docs / "c.md").write_text("A whale is no fish.")
    with FileLock(base.path / INDEX / "index.lock"):
        base.add(docs)
        for one in (base, other):
            assert one.search("Peng")[0].source == "a.md"
            assert all(passage.source != "c.md" for passage in one.search("whale", k=9))
    assert base.search("whale")[0].source == "c.md"
    assert other.search("whale")[0].source == "c.md"
    assert built == [3, 1]  # what one process indexed the other reads


def test_a_thread_that_searches_while_another_indexes_does_not_wait(
    base: KnowledgeBase, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.add(docs)
    build = Segment.build.__func__  # type: ignore[attr-defined]
    begun, go_on = Event(), Event()

    def held_up(cls: type[Segment], *given: object) -> Segment:
        begun.set()
        assert go_on.wait(30)
        segment: Segment = build(cls, *given)
        return segment

    monkeypatch.setattr(Segment, "build", classmethod(held_up))
    (docs / "c.md").write_text("A whale is no fish.")
    with ThreadPoolExecutor(1) as pool:
        added = pool.submit(base.add, docs)
        assert begun.wait(30)
        assert base.search("Peng")[0].source == "a.md"
        go_on.set()
        assert added.result().added == ["c.md"]
    assert base.search("whale")[0].source == "c.md"


@pytest.mark.parametrize("fault", ["missing", "list", "part", "cut"])
def test_a_damaged_index_is_made_anew(base: KnowledgeBase, docs: Path, fault: str, built: list[int]) -> None:
    base.add(docs)
    found = [p.id for p in base.search("fish", k=9)]
    folder = base.path / INDEX
    (part,) = folder.glob("*.segment")
    if fault == "missing":
        shutil.rmtree(folder)
    elif fault == "list":
        (folder / "index.json").write_text("{")
    else:
        content = part.read_bytes()
        part.write_bytes(content[:-100] if fault == "cut" else content[:-9] + b"\1" + content[-8:])
    again = KnowledgeBase.open(base.path, encoder=FakeEncoder())
    assert [p.id for p in again.search("fish", k=9)] == found
    assert built == [3, 3]


def test_another_cutting_makes_the_index_anew(base: KnowledgeBase, docs: Path, built: list[int]) -> None:
    base.add(docs)
    base.search("fish")
    base.reindex()
    assert base.search("fish")[0].source == "a.md"
    assert built == [3, 3]


def test_a_base_that_was_cut_before_says_so_until_it_is_cut_anew(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    assert not base.is_cut_as_before
    file = Manifest.file(base.path)
    written = unsealed(file.read_bytes())
    assert isinstance(written, dict)
    file.write_bytes(
        sealed({name: value for name, value in written.items() if name not in ("cutting", "sealed")})
    )
    old = KnowledgeBase.open(base.path, encoder=FakeEncoder())
    assert old.is_cut_as_before
    assert old.search("Peng")[0].source == "a.md"
    old.reindex()
    assert not old.is_cut_as_before


def test_where_the_index_cannot_be_kept_searching_goes_on(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    shutil.rmtree(base.path / INDEX)
    (base.path / INDEX).write_text("a file where a folder should be")
    (docs / "new.txt").write_text("A raft is no ship.")
    base.add(docs)
    assert base.search("raft")[0].source == "new.txt"
    assert base.search("Peng")[0].source == "a.md"


def test_many_small_additions_are_put_together(base: KnowledgeBase, docs: Path) -> None:
    for number in range(12):
        (docs / f"{number}.txt").write_text(f"Ship number {number} is called {'abcdefghijkl'[number] * 5}.")
        base.add(docs)
        assert base.search("abcdefghijkl"[number] * 5)[0].source == f"{number}.txt"
    assert len(list((base.path / INDEX).glob("*.segment"))) <= 9
    assert len(base.search("ship", k=20)) >= 12


def test_a_segment_is_read_as_it_was_written(base: KnowledgeBase, docs: Path, tmp_path: Path) -> None:
    base.add(docs)
    _, passages, texts = base._store.snapshot()
    segment = Segment.build(passages, texts)
    segment.write(tmp_path / "a.segment")
    read = Segment.read(tmp_path / "a.segment")
    assert read.documents == segment.documents
    assert all(np.array_equal(read.arrays[name], array) for name, array in segment.arrays.items())
    for row in range(len(read)):
        document, place = read.passage_of(row)
        text, span = read.text_and_span(row)
        source = next(stored for stored in texts if stored.id == document)
        assert source.text[span.start : span.end] == text
        assert read.row_of(document, place) == row


def test_an_index_without_a_folder_lives_in_memory(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    index = LocalIndex()
    _, passages, texts = base._store.snapshot()
    index.add(passages, texts)
    index.persist()
    first, *others = sorted(index.documents)
    assert index.passage(first, 0) is not None
    assert index.passage(first, 99) is None
    index.remove([first])
    assert index.passage(first, 0) is None
    assert sorted(index.documents) == others

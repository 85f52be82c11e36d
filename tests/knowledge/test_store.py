import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from damages import damaged
from filelock import FileLock

from kun.atomic_files import unsealed
from kun.errors import Busy, DamagedFile, KnowledgeBaseNotFound, NoSpace
from kun.hub.layout import write_json
from kun.knowledge import store as store_module
from kun.knowledge.manifest import Manifest
from kun.knowledge.rows import NewDocument, Span
from kun.knowledge.store import Store

DIMENSIONS = 8


def document(
    name: str, text: str = "one two three", root: str = "/docs", fallback: str = "docs"
) -> NewDocument:
    words = text.split()
    spans = [Span(text.index(word), text.index(word) + len(word), "H", 2) for word in words]
    vectors = np.arange(len(words) * DIMENSIONS, dtype=np.float32).reshape(-1, DIMENSIONS)
    return NewDocument(
        source=name,
        fallback=fallback,
        path=f"{root}/{name}",
        digest=text,
        bytes=len(text),
        modified_ns=1,
        text=text,
        kind="text",
        pages=[0],
        spans=spans,
        vectors=vectors,
    )


def commit(store: Store, *documents: NewDocument) -> dict[str, str]:
    return store.commit(documents, lambda manifest: None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "kb", Manifest("kb", "fake", "identity", DIMENSIONS, 512))


def test_what_is_committed_is_read_back(store: Store) -> None:
    commit(store, document("b.md"), document("a.md", "北冥 有鱼"))
    table = store.passages()
    assert table.sources == ["a.md", "a.md", "b.md", "b.md", "b.md"]
    assert table.texts == ["北冥", "有鱼", "one", "two", "three"]
    assert table.headings == ["H"] * 5
    assert table.pages.tolist() == [2] * 5
    assert table.vectors.dtype == np.float32
    assert np.array_equal(table.vectors[2:], np.arange(24, dtype=np.float32).reshape(3, 8))
    assert len(set(table.ids)) == 5
    assert store.documents() == {"a.md": "北冥 有鱼", "b.md": "one two three"}
    stored = store.text_of("a.md")
    assert stored is not None
    assert stored.text == "北冥 有鱼"
    assert store.text_of("none") is None


def test_an_empty_store_has_an_empty_table(store: Store) -> None:
    assert len(store.passages()) == 0
    assert store.passages().vectors.shape == (0, DIMENSIONS)


def test_a_document_of_the_same_path_is_replaced_whole(store: Store) -> None:
    commit(store, document("a.md", "old words here"))
    commit(store, document("a.md", "new"))
    assert store.passages().texts == ["new"]
    assert store.documents() == {"a.md": "new"}


def test_every_commit_changes_the_version_for_every_reader(store: Store) -> None:
    other = Store(store.path)
    before = other.version
    assert before == store.version
    commit(store, document("a.md"))
    assert other.version == store.version != before
    assert other.passages().texts == ["one", "two", "three"]


def test_two_roots_with_the_same_name_both_stay(store: Store) -> None:
    first = commit(store, document("a.md", "first", "/one", "one"))
    second = commit(store, document("a.md", "second", "/two", "two"))
    third = commit(store, document("a.md", "third", "/x/two", "two"))
    assert [*first.values(), *second.values(), *third.values()] == ["a.md", "two/a.md", "two (2)/a.md"]
    assert set(store.documents().values()) == {"first", "second", "third"}
    commit(store, document("a.md", "second again", "/two", "two"))
    assert store.documents()["two/a.md"] == "second again"


def test_passages_that_no_document_names_are_not_seen_and_swept_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process dies between its two commits."""
    commit(store, document("a.md"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "document_rows", die)
        with pytest.raises(KeyboardInterrupt):
            commit(store, document("b.md"))
    assert store.passages().sources == ["a.md"] * 3
    assert sum(store.counts().values()) == 6
    commit(store, document("c.md"))
    assert sum(store.counts().values()) == 6
    assert set(store.passages().sources) == {"a.md", "c.md"}


def test_a_dead_reindexing_leaves_the_old_passages_in_force(store: Store) -> None:
    commit(store, document("a.md"))

    def die(texts: object) -> list:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.reindex(Manifest("kb", "other", "other", 4, 512), die)
    assert store.manifest.encoder == "fake"
    assert len(store.passages()) == 3
    commit(store, document("b.md"))
    assert [folder.stem for folder in (store.path / "tables").glob("passages*")] == ["passages-1"]


def test_reindexing_switches_table_encoder_and_version_at_once(store: Store) -> None:
    commit(store, document("a.md"), document("b.md"))
    reader, before = Store(store.path), store.version
    assert len(reader.passages()) == 6
    store.reindex(
        Manifest("kb", "other", "other", 4, 512),
        lambda texts: [(t.id, [Span(0, 3)], np.ones((1, 4), np.float32), [b"ab"]) for t in texts],
    )
    assert reader.passages().texts == ["one", "one"]
    assert reader.passages().vectors.shape == (2, 4)
    names = [(identity[:-2], 0) for identity in reader.passages().ids]
    assert reader.tokens()([*names, ("none", 0)]) == [b"ab", b"ab", b""]
    assert reader.version == store.version != before
    assert reader.manifest.encoder == "other"
    assert [folder.stem for folder in (store.path / "tables").glob("passages*")] == ["passages-2"]


def test_a_second_writer_waits_then_hears_that_the_store_is_busy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_SECONDS", 0.2)
    with FileLock(store.path / "write.lock"), pytest.raises(Busy, match="kb"):
        commit(store, document("a.md"))
    commit(store, document("a.md"))


def test_readers_do_not_wait_for_a_writer(store: Store) -> None:
    commit(store, document("a.md"))
    with FileLock(store.path / "write.lock"):
        assert len(Store(store.path).passages()) == 3


def test_many_threads_commit_and_read_at_once(store: Store) -> None:
    wrong: list[object] = []

    def write(thread: int) -> None:
        for number in range(5):
            commit(store, document(f"{thread}-{number}.md"))

    def read() -> None:
        for _ in range(20):
            _, table, documents = store.snapshot()
            if len(table) != 3 * len(documents):
                wrong.append((len(table), len(documents)))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(store.passages()) == 3 * 15


def test_a_full_disk_is_said_and_what_was_stored_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, document("a.md"))

    def full(*_: object) -> None:
        raise OSError("LanceError(IO): No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "document_rows", full)
        with pytest.raises(NoSpace, match="still there"):
            commit(store, document("b.md"))
    assert store.passages().sources == ["a.md"] * 3


def test_missing_passages_are_damage_and_the_error_names_the_mend(store: Store) -> None:
    commit(store, document("a.md"))
    store._table("passages-1").delete("place = 1")
    with pytest.raises(DamagedFile, match="kun kb reindex kb"):
        store.passages()


@pytest.mark.parametrize("table", ["documents", "passages-1"])
def test_damaged_table_files_are_named(store: Store, table: str) -> None:
    commit(store, document("a.md"))
    for file in (store.path / "tables" / f"{table}.lance" / "data").iterdir():
        file.write_bytes(b"garbage" * 10)
    with pytest.raises(DamagedFile, match="knowledge base kb"):
        Store(store.path).passages()


def test_a_vanished_table_is_damage(store: Store) -> None:
    shutil.rmtree(store.path / "tables" / "passages-1.lance")
    with pytest.raises(DamagedFile, match="reindex"):
        Store(store.path).passages()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1, "name": "x"}'])
def test_a_damaged_manifest_is_named(store: Store, content: str) -> None:
    Manifest.file(store.path).write_text(content)
    with pytest.raises(DamagedFile, match=r"kb\.json"):
        Store(store.path)


def test_a_folder_without_a_manifest_is_no_knowledge_base(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeBaseNotFound):
        Store(tmp_path)


def test_the_manifest_survives_its_own_round_trip(store: Store) -> None:
    written = json.loads(Manifest.file(store.path).read_text())
    assert written["encoder"] == {
        "name": "fake",
        "identity": "identity",
        "dimensions": DIMENSIONS,
        "max_tokens": 512,
    }
    assert Manifest.read(store.path) == store.manifest


def test_a_store_does_not_grow_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_KEPT_VERSIONS", store_module.timedelta(0))
    for number in range(30):
        commit(store, document("a.md", f"text {number}"))
    store.compact(always=True)
    files = [path for path in (store.path / "tables").rglob("*") if path.is_file()]
    assert len(files) < 24
    assert store.documents() == {"a.md": "text 29"}
    assert store.passages().texts == ["text", "29"]


def test_restamping_keeps_the_text_and_takes_the_new_path(store: Store) -> None:
    from dataclasses import replace

    commit(store, document("a.md"))
    (info,) = store.documents_info()
    store.restamp([replace(info, path="/it's/a.md", modified_ns=9)])
    (after,) = store.documents_info()
    assert (after.path, after.modified_ns, after.id) == ("/it's/a.md", 9, info.id)
    assert store.documents() == {"a.md": "one two three"}


def test_a_table_made_before_token_states_were_kept_is_read_and_added_to(store: Store) -> None:
    commit(store, document("a.md"))
    table = store._database.open_table("passages-1")
    table.drop_columns(["tokens"])
    reader = Store(store.path)
    names = [(identity[:-2], int(identity[-1])) for identity in reader.passages().ids]
    assert reader.tokens()([names[0], names[2]]) == [b"", b""]
    commit(Store(store.path), document("b.md"))
    names = [(identity[:-2], int(identity[-1])) for identity in reader.passages().ids]
    assert reader.tokens()([names[2], names[5]]) == [b"", b""]


def contents(path: Path) -> tuple[list[str], list[bytes], dict[str, str], dict[str, int]]:
    store = Store(path)
    table = store.passages()
    vectors = [vector.tobytes() for vector in table.vectors]
    return table.texts, vectors, store.documents(), store.counts()


@pytest.mark.usefixtures("tiny_home")
def test_of_40_damages_to_files_of_all_kinds_none_is_used(store: Store, tmp_path: Path) -> None:
    commit(store, document("a.md", "北冥 有鱼 其名 为鲲"), document("b.md"))
    commit(store, document("a.md", "new words"))
    sound = contents(store.path)
    files = [
        path for path in store.path.rglob("*") if path.suffix in (".lance", ".manifest", ".txn", ".json")
    ]
    kinds = {path.parent.name for path in files if path.is_file()}
    assert kinds >= {"data", "_versions", "_transactions", "tables"}
    files = sorted(path.relative_to(store.path) for path in files if path.is_file())
    for seed in range(40):
        copy = tmp_path / f"{seed}"
        shutil.copytree(store.path, copy)
        damaged(copy / files[seed % len(files)], seed)
        try:
            assert contents(copy) == sound
            assert files[seed % len(files)].name in ("digests.json", "latest_version_hint.json")
        except DamagedFile as error:
            assert str(copy) in str(error)  # noqa: PT017 (one of the two)
        shutil.rmtree(copy)


@pytest.mark.usefixtures("tiny_home")
def test_damaged_passages_are_made_anew_and_never_copied_into_new_files(store: Store) -> None:
    commit(store, document("a.md"))
    (data,) = (store.path / "tables" / "passages-1.lance" / "data").iterdir()
    damaged(data, 0)
    for change in (lambda: commit(store, document("b.md")), lambda: store.compact(always=True)):
        with pytest.raises(DamagedFile, match=data.name):
            change()
    span = Span(0, 3, "H", 2)
    manifest = Manifest("kb", "fake", "identity", DIMENSIONS, 512)
    again = np.ones((1, DIMENSIONS), np.float32)
    store.reindex(manifest, lambda texts: [(text.id, [span], again, [b""]) for text in texts])
    assert Store(store.path).passages().texts == ["one"]


@pytest.mark.usefixtures("tiny_home")
def test_a_store_of_before_its_digests_opens_as_it_is_and_gets_them_when_it_is_written(store: Store) -> None:
    commit(store, document("a.md"))
    record = store.path / "tables" / "digests.json"
    record.unlink()
    write_json(Manifest.file(store.path), unsealed(Manifest.file(store.path).read_bytes()))
    again = Store(store.path)
    assert again.passages().texts == ["one", "two", "three"]
    commit(again, document("b.md"))
    assert len(unsealed(record.read_bytes())) > 4  # type: ignore[arg-type]

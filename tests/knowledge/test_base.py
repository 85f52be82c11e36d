import os
import time
from pathlib import Path

import files
import pytest
from fake_encoder import FakeEncoder
from filelock import FileLock

from kun.errors import BadInput, Busy, EncoderMismatch, KnowledgeBaseNotFound, NotFound
from kun.knowledge import store
from kun.knowledge.base import KnowledgeBase, check_name, delete, knowledge_bases
from kun.knowledge.read import reading
from kun.knowledge.read.extracted import Extracted
from kun.settings import settings


def texts(base: KnowledgeBase) -> dict[str, str]:
    return {source.name: base.document(source.name) for source in base.sources()}


def age(folder: Path) -> None:
    """As if the files had been there for an hour, so that their times tell whether they changed."""
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - 3600,) * 2)


def test_a_folder_is_added_with_names_relative_to_it(base: KnowledgeBase, docs: Path) -> None:
    report = base.add(docs)
    assert sorted(report.added) == ["a.md", "b.txt", "sub/鲲 鹏.md"]
    assert not report.replaced + report.removed + report.unchanged
    assert report.failed == {}
    assert [source.name for source in base.sources()] == sorted(report.added)
    assert base.document("sub/鲲 鹏.md").startswith("# 逍遥游")
    assert all(source.passages >= 1 and source.bytes > 10 for source in base.sources())


def test_a_single_file_is_added_under_its_name(base: KnowledgeBase, docs: Path) -> None:
    assert base.add(docs / "sub" / "鲲 鹏.md").added == ["鲲 鹏.md"]
    assert base.add(docs / "sub").unchanged == ["鲲 鹏.md"]


@pytest.mark.parametrize("settled", [True, False])
def test_adding_again_embeds_nothing(
    base: KnowledgeBase, encoder: FakeEncoder, docs: Path, settled: bool
) -> None:
    if settled:
        age(docs)
    base.add(docs)
    before, version = len(encoder.embedded), base.version
    report = base.add(docs)
    assert len(report.unchanged) == 3
    assert not report.added
    assert len(encoder.embedded) == before
    assert base.version == version or not settled


def test_a_changed_file_is_replaced_and_only_that(
    base: KnowledgeBase, encoder: FakeEncoder, docs: Path
) -> None:
    base.add(docs)
    encoder.embedded.clear()
    (docs / "b.txt").write_text("Something new entirely.")
    report = base.add(docs)
    assert (report.replaced, len(report.unchanged)) == (["b.txt"], 2)
    assert encoder.embedded == ["Something new entirely."]
    assert base.document("b.txt") == "Something new entirely."


def test_a_change_of_the_same_size_right_after_adding_is_seen(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    status = (docs / "b.txt").stat()
    (docs / "b.txt").write_text((docs / "b.txt").read_text().swapcase())
    os.utime(docs / "b.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert base.add(docs).replaced == ["b.txt"]


def test_files_that_vanished_from_a_folder_are_removed_with_it(base: KnowledgeBase, docs: Path) -> None:
    other = docs.parent / "other.txt"
    other.write_text("stays")
    base.add(docs, other)
    (docs / "a.md").unlink()
    report = base.add(docs)
    assert report.removed == ["a.md"]
    assert set(texts(base)) == {"b.txt", "sub/鲲 鹏.md", "other.txt"}


def test_two_folders_with_the_same_names_keep_both(base: KnowledgeBase, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "README.md").write_text(f"This is {folder}.")
    base.add(tmp_path / "one")
    assert base.add(tmp_path / "two").added == ["two/README.md"]
    assert texts(base) == {"README.md": "This is one.", "two/README.md": "This is two."}


def test_a_folder_that_moved_is_recognised(base: KnowledgeBase, encoder: FakeEncoder, docs: Path) -> None:
    base.add(docs)
    encoder.embedded.clear()
    moved = docs.rename(docs.parent / "moved")
    report = base.add(moved)
    assert sorted(report.unchanged) == ["a.md", "b.txt", "sub/鲲 鹏.md"]
    assert encoder.embedded == []
    (moved / "a.md").unlink()
    assert base.add(moved).removed == ["a.md"]


def test_a_file_that_fails_is_named_and_the_others_are_added(base: KnowledgeBase, docs: Path) -> None:
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 truncated")
    (docs / "empty.txt").touch()
    report = base.add(docs)
    assert len(report.added) == 3
    assert "truncated" in report.failed["broken.pdf"]
    assert "empty" in report.failed["empty.txt"]


def test_a_replacement_that_fails_keeps_what_was_there_and_says_so(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    before = base.document("b.txt")
    (docs / "b.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    report = base.add(docs)
    assert "What it held before is still there" in report.failed["b.txt"]
    assert base.document("b.txt") == before


def test_progress_says_how_far_it_is_and_what_it_is_at(base: KnowledgeBase, docs: Path) -> None:
    told: list[tuple[str, int, int | None, str]] = []
    base.add(docs, progress=lambda *step: told.append(step))
    assert told[0][:3] == ("adding", 0, 3)
    assert told[-1][:3] == ("indexing", 4, 4)
    told = [step for step in told if step[0] == "adding"]
    assert told[-1][:3] == ("adding", 3, 3)
    assert [step[1] for step in told] == sorted(step[1] for step in told)
    assert any("passages/s" in step[3] for step in told)
    assert any("b.txt" in step[3] for step in told)


def test_passages_are_embedded_under_their_headings_across_files(
    base: KnowledgeBase, encoder: FakeEncoder, tmp_path: Path
) -> None:
    file = tmp_path / "long.md"
    file.write_text("# The title\n\n" + "A sentence of five words. " * 200)
    base.add(file)
    assert len(encoder.embedded) > 2
    assert all("The title" in text for text in encoder.embedded)


def test_documents_are_removed_by_name_and_by_pattern(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    assert base.remove("sub/*") == ["sub/鲲 鹏.md"]
    assert base.remove("a.md", "b.*") == ["a.md", "b.txt"]
    assert base.sources() == []
    with pytest.raises(NotFound, match="nothing"):
        base.remove("nothing")


def test_removing_an_unknown_document_names_the_nearest_and_removes_none(
    base: KnowledgeBase, docs: Path
) -> None:
    base.add(docs)
    with pytest.raises(NotFound, match=r"b\.txt"):
        base.remove("a.md", "bb.txt")
    assert len(base.sources()) == 3


def test_an_upload_is_deleted_with_its_document(base: KnowledgeBase) -> None:
    base.uploads.mkdir()
    (base.uploads / "a.txt").write_text("uploaded")
    assert base.add(base.uploads / "a.txt").added == ["a.txt"]
    base.remove("a.txt")
    assert not (base.uploads / "a.txt").exists()


def test_a_passage_is_found_by_its_identity(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    table = base._store.passages()
    passage = base.passage(table.ids[0])
    assert (passage.text, passage.source, passage.heading) == (table.texts[0], "a.md", "Fish")
    assert passage.page is None
    with pytest.raises(NotFound):
        base.passage("nonsense")


def test_another_encoder_is_refused_until_the_base_is_indexed_again(
    base: KnowledgeBase, encoder: FakeEncoder, docs: Path
) -> None:
    base.add(docs)
    other = FakeEncoder("other", 16)
    with pytest.raises(EncoderMismatch, match="reindex"):
        KnowledgeBase.open("notes", encoder=other)
    assert KnowledgeBase.open("notes", encoder=encoder).sources() == base.sources()
    before = texts(base)
    report = base.reindex(other)
    assert len(report.replaced) == 3
    again = KnowledgeBase.open("notes", encoder=other)
    assert texts(again) == before
    assert again._store.passages().vectors.shape[1] == 16
    assert again.add(docs).unchanged


def test_an_encoder_changed_by_another_process_is_refused_while_adding(
    base: KnowledgeBase, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FakeEncoder("other", 16)
    stale = KnowledgeBase.open("notes", encoder=base.encoder)
    encoder = stale.encoder
    base.reindex(other)
    monkeypatch.setattr(KnowledgeBase, "encoder", property(lambda self: encoder))
    with pytest.raises(EncoderMismatch):
        stale.add(docs)
    assert base.sources() == []


def test_indexing_again_needs_no_files_and_mends_damaged_passages(
    base: KnowledgeBase, encoder: FakeEncoder, docs: Path
) -> None:
    base.add(docs)
    before = base._store.passages().texts
    for file in base.path.glob("tables/passages-*/data/*"):
        file.write_bytes(b"garbage" * 10)
    for file in sorted(docs.rglob("*.*")):
        file.unlink()
    mended = KnowledgeBase.open("notes", encoder=encoder)
    mended.reindex(encoder)
    assert mended._store.passages().texts == before


def test_knowledge_bases_are_listed_and_deleted_by_name(tiny_home: Path, encoder: FakeEncoder) -> None:
    assert knowledge_bases() == []
    for name in ("笔记 本", "b", "a"):
        KnowledgeBase.open(name, encoder=encoder)
    assert knowledge_bases() == ["a", "b", "笔记 本"]
    delete("笔记 本")
    assert knowledge_bases() == ["a", "b"]
    with pytest.raises(KnowledgeBaseNotFound):
        delete("笔记 本")


def test_a_base_made_again_under_its_name_is_not_taken_for_the_old_one(
    base: KnowledgeBase, encoder: FakeEncoder, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.add(docs / "a.md")
    old = base.passage(base._store.passages().ids[0])
    delete("notes")
    with pytest.raises(KnowledgeBaseNotFound):
        base.sources()
    clock = time.time() + 2
    monkeypatch.setattr(time, "time", lambda: clock)
    KnowledgeBase.open("notes", encoder=encoder).add(docs / "b.txt")
    assert [source.name for source in base.sources()] == ["b.txt"]
    with pytest.raises(NotFound):
        base.passage(old.id)


def test_deleting_waits_for_a_writer_then_says_busy(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    with FileLock(base.path / "write.lock"), pytest.raises(Busy):
        delete("notes")
    assert knowledge_bases() == ["notes"]


def test_opening_without_making_names_the_nearest(base: KnowledgeBase) -> None:
    with pytest.raises(KnowledgeBaseNotFound, match="notes"):
        KnowledgeBase.open("note", create=False)


@pytest.mark.parametrize(
    "name",
    ["", " ", "..", ".", ".hidden", "a\nb", "a\0b", "a@b", "x" * 101, "鲲" * 90, "a:b", " a", "\u202eabc"],
)
def test_what_cannot_be_a_name_is_refused(tiny_home: Path, encoder: FakeEncoder, name: str) -> None:
    with pytest.raises(BadInput):
        KnowledgeBase.open(name, encoder=encoder)
    assert not settings().knowledge.exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "/etc"])
def test_a_name_holds_no_separator(name: str) -> None:
    with pytest.raises(BadInput):
        check_name(name)


def test_a_path_may_be_given_in_place_of_a_name(tmp_path: Path, encoder: FakeEncoder, docs: Path) -> None:
    base = KnowledgeBase.open(tmp_path / "deep" / "我的", encoder=encoder)
    base.add(docs)
    assert (base.name, base.path) == ("我的", tmp_path / "deep" / "我的")
    assert len(KnowledgeBase.open(str(base.path), create=False).sources()) == 3


def test_a_folder_that_holds_something_else_is_not_taken(encoder: FakeEncoder, docs: Path) -> None:
    with pytest.raises(BadInput, match="something else"):
        KnowledgeBase.open(docs, encoder=encoder)


def test_deleting_leaves_what_is_not_its_own(tmp_path: Path, encoder: FakeEncoder) -> None:
    base = KnowledgeBase.open(tmp_path / "kb", encoder=encoder)
    (base.path / "mine.txt").write_text("mine")
    delete(base.path)
    assert [path.name for path in base.path.iterdir()] == ["mine.txt"]


def test_hidden_files_version_control_and_binaries_are_skipped(base: KnowledgeBase, docs: Path) -> None:
    names = (
        ".hidden.md",
        ".git/config",
        "node_modules/x.js",
        "film.mp4",
        "sub/x.zip",
        "~$a.docx",
        "lib.lock",
    )
    for name in names:
        (docs / name).parent.mkdir(exist_ok=True)
        (docs / name).write_text("no document")
    report = base.add(docs)
    assert len(report.added) == 3
    assert not report.failed
    assert report.skipped == {
        ".hidden.md": "a hidden file",
        ".git/": "a hidden folder",
        "node_modules/": "installed packages",
        "film.mp4": "a film",
        "sub/x.zip": "an archive",
        "~$a.docx": "a hidden file",
        "lib.lock": "a file that a program generated",
    }


def test_symbolic_links_out_of_the_folder_are_not_followed(base: KnowledgeBase, docs: Path) -> None:
    secret = docs.parent / "secret.txt"
    secret.write_text("secret")
    (docs / "out.txt").symlink_to(secret)
    (docs / "up").symlink_to(docs.parent)
    (docs / "loop").symlink_to(docs)
    (docs / "dangling.txt").symlink_to(docs / "nowhere")
    os.mkfifo(docs / "pipe.txt")
    report = base.add(docs)
    assert len(report.added) == 3
    assert not report.failed
    assert set(report.skipped) == {"out.txt", "up/", "loop/", "dangling.txt", "pipe.txt"}


def test_one_bad_file_never_ends_an_add(base: KnowledgeBase, tmp_path: Path) -> None:
    """Each of these once ended the program with a fault of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.md").write_text("the first good lighthouse")
    (folder / "itself.txt").symlink_to(folder / "itself.txt")
    (folder / "surrogate.json").write_text('{"lonely": "\\ud800 end"}')
    for name in ("word.docx", "slides.pptx", "sheet.xlsx"):
        files.damaged_office(folder / name)
    (folder / "z.md").write_text("the last good lighthouse")
    report = base.add(folder)
    assert sorted(report.added) == ["a.md", "surrogate.json", "z.md"]
    assert base.document("surrogate.json") == "lonely: \ufffd end\n"
    assert set(report.failed) == {"itself.txt", "word.docx", "slides.pptx", "sheet.xlsx"}
    assert all(name in why and "\n" not in why for name, why in report.failed.items())


@pytest.mark.parametrize("fault", [ValueError("odd"), AssertionError(), RecursionError(), MemoryError()])
def test_whatever_a_reader_raises_becomes_the_files_sentence(
    base: KnowledgeBase, docs: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    honest = reading.read_text

    def read_text(file: Path, name: str) -> Extracted:
        if name == "a.md":
            raise fault
        return honest(file, name)

    monkeypatch.setattr(reading, "read_text", read_text)
    report = base.add(docs)
    assert len(report.added) == 2
    assert "a.md" in report.failed["a.md"]


def test_odd_names_of_files_are_right(base: KnowledgeBase, docs: Path) -> None:
    for name in ("new\nline.txt", "a..b.txt", "空 格.txt", "tab\t.txt", "[x]*.txt", "it's.txt"):
        (docs / name).write_text(f"text of {name!r}")
    os.close(os.open(os.fsencode(docs) + b"/broken\xff.txt", os.O_CREAT | os.O_WRONLY))
    (docs / os.fsdecode(b"broken\xff.txt")).write_text("latin name")
    report = base.add(docs)
    assert not report.failed
    assert {"new␊line.txt", "a..b.txt", "空 格.txt", "tab␉.txt", "[x]*.txt", "broken�.txt"} <= set(
        report.added
    )
    assert base.document("new␊line.txt") == "text of 'new\\nline.txt'"
    assert base.remove("[x]*.txt", "it's.txt") == ["[x]*.txt", "it's.txt"]
    assert len(base.add(docs).added) == 2


def test_a_path_that_is_not_there_is_named(base: KnowledgeBase, docs: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        base.add(docs, docs / "nowhere")
    assert base.sources() == []
    with pytest.raises(BadInput):
        base.add()


@pytest.mark.parametrize("query", ["", "  \n", "x" * 100_001])
def test_a_query_that_cannot_be_searched_is_refused(base: KnowledgeBase, query: str) -> None:
    with pytest.raises(BadInput):
        base.search(query)


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_k_has_bounds(base: KnowledgeBase, k: int) -> None:
    with pytest.raises(BadInput):
        base.search("fish", k=k)


def test_a_passage_says_where_it_stands_in_its_document(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    for _ in range(2):  # before a search has read everything, and after
        assert base.text_of("a.md").kind == "markdown"
        assert base.text_of("a.md").text == base.document("a.md")
        for passage in base.search("Peng", k=9):
            assert base.document(passage.source)[passage.start : passage.end] == passage.text
    with pytest.raises(NotFound):
        base.text_of("none.md")

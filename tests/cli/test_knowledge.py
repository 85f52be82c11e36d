"""`kun kb`: each command, what it prints, and what it does where something is wrong."""

import json
from pathlib import Path
from typing import Any

from command_line import ENGLISH_ONLY, Kun, Ran

from kun.settings import DEFAULT_ENCODER


def told(ran: Ran, code: int = 0) -> Any:
    """The one JSON document on standard output, nothing beside it."""
    assert (ran.code, ran.err) == (code, "")
    return json.loads(ran.out)


def test_a_knowledge_base_is_made_once(kun: Kun, home: Path) -> None:
    made = told(kun("kb", "create", "notes", "--json"))
    assert made == {
        "name": "notes",
        "path": str(home / "knowledge" / "notes"),
        "encoder": DEFAULT_ENCODER,
        "documents": 0,
    }
    assert told(kun("kb", "create", "notes", "--json")) == made
    ran = kun("kb", "create", "notes", "--encoder", "other-encoder")
    assert ran.code == 1
    assert "kun kb reindex notes --encoder other-encoder" in ran.err
    assert kun("kb", "create", "no/../so@good").code == 2


def test_documents_are_added_listed_found_and_removed(kun: Kun, docs: Path) -> None:
    names = ["fish.md", "zh/大 鹏.md"]
    nothing: dict[str, Any] = {"added": [], "replaced": [], "removed": [], "unchanged": []}
    nothing |= {"failed": {}, "skipped": {}}
    assert told(kun("kb", "add", "notes", docs, "--json")) == nothing | {"added": names}
    assert told(kun("kb", "add", "notes", docs, "--json")) == nothing | {"unchanged": names}
    [row] = told(kun("kb", "list", "--json"))
    assert (row["name"], row["documents"], row["encoder"], row["fault"]) == (
        "notes",
        2,
        DEFAULT_ENCODER,
        None,
    )
    listed = told(kun("kb", "list", "notes", "--json"))
    assert [source["name"] for source in listed] == names
    assert all(source["passages"] == 1 and source["bytes"] > 0 for source in listed)
    found = told(kun("kb", "search", "notes", "不知其几千里", "-k", 1, "--json"))
    assert [(one["source"], one["heading"]) for one in found] == [("zh/大 鹏.md", "鹏")]
    assert found[0]["reasons"]["exact"] is True
    within = told(kun("kb", "search", "notes", "orther", "-k", 1, "--json"))[0]["reasons"]
    assert within["within"] is True
    assert within["exact"] is False
    assert (
        told(kun("kb", "search", "notes", "Kun", "--source", "zh/*", "--json"))[0]["source"] == "zh/大 鹏.md"
    )
    assert told(kun("kb", "remove", "notes", "zh/*", "--json")) == {"removed": ["zh/大 鹏.md"]}
    assert told(kun("kb", "add", "notes", docs, "--json"))["added"] == ["zh/大 鹏.md"]


def test_what_people_read_says_the_same(kun: Kun, docs: Path) -> None:
    ran = kun("kb", "add", "notes", docs)
    assert ran.out == "notes: 2 added, 0 replaced, 0 removed, 0 unchanged.\n"
    assert ran.err.startswith("adding: ")
    assert "fish.md · Fish" in kun("kb", "search", "notes", "northern sea").out
    assert "大 鹏.md" in kun("kb", "list", "notes").out
    assert "notes" in kun("kb", "list").out


def test_an_answer_carries_its_passages_and_the_prompt(kun: Kun, docs: Path) -> None:
    assert kun("kb", "add", "notes", docs).code == 0
    question = "鹏之背有多长？"
    answer = told(kun("kb", "ask", "notes", question, "-m", ENGLISH_ONLY, "--json"))
    assert "鹏之背，不知其几千里也。 [1]" in answer["text"]
    assert answer["passages"][0]["source"] == "zh/大 鹏.md"
    assert "不知其几千里" in answer["prompt"][-1]["content"]
    assert (answer["question"], answer["declined"], answer["quoted"]) == (question, False, True)
    ran = kun("kb", "ask", "notes", question, "-m", ENGLISH_ONLY, "--prompt")
    assert ran.code == 0
    assert "<|im_start|>user" in ran.out
    assert ran.out.splitlines()[-2].startswith("[1] zh/大 鹏.md")
    assert kun("kb", "ask", "notes", "  ").code == 2


def test_a_question_that_the_documents_do_not_answer_comes_with_ways_on(kun: Kun, docs: Path) -> None:
    kun("kb", "create", "empty")
    kun("kb", "add", "notes", docs)
    ran = kun("kb", "ask", "empty", "Who is Kun's friend?", "-m", ENGLISH_ONLY)
    asked = "'Who is Kun'\"'\"'s friend?'"
    assert ran.out.startswith("The documents do not")
    assert f"kun generate {ENGLISH_ONLY} --chat -p {asked}" in ran.out
    assert f"kun kb ask notes {asked}" in ran.out
    assert told(kun("kb", "ask", "empty", "Who?", "-m", ENGLISH_ONLY, "--json"))["declined"] is True


def test_a_file_that_fails_does_not_stop_the_others(kun: Kun, docs: Path) -> None:
    (docs / "empty.md").touch()
    (docs / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    report = told(kun("kb", "add", "notes", docs, "--json"), code=1)
    assert report["added"] == ["fish.md", "zh/大 鹏.md"]
    assert report["failed"].keys() == {"empty.md", "picture.txt"}
    ran = kun("kb", "add", "notes", docs)
    assert ran.code == 1
    assert "failed: empty.md is empty.\n" in ran.err


def test_what_a_folder_holds_beyond_documents_is_counted_and_named(kun: Kun, docs: Path) -> None:
    for name in ("a.zip", "b.zip", ".hidden", "film.mp4"):
        (docs / name).write_bytes(b"no document")
    ran = kun("kb", "add", "notes", docs)
    assert ran.code == 0
    assert "left out: an archive (2): a.zip, b.zip\n" in ran.out
    assert "left out: a film (1): film.mp4\n" in ran.out
    assert "left out: a hidden file (1): .hidden\n" in ran.out


def test_a_path_that_does_not_exist_makes_no_knowledge_base(kun: Kun, tmp_path: Path) -> None:
    ran = kun("kb", "add", "notes", tmp_path / "nowhere")
    assert ran.code == 1
    assert "nowhere does not exist" in ran.err
    assert told(kun("kb", "list", "--json")) == []


def test_a_wrong_name_is_said_with_the_nearest(kun: Kun) -> None:
    assert kun("kb", "create", "notes").code == 0
    for command in (("search", "note", "x"), ("ask", "note", "x"), ("list", "note"), ("remove", "note", "x")):
        ran = kun("kb", *command)
        assert ran.code == 1
        assert "did you mean notes?" in ran.err


def test_a_knowledge_base_is_deleted_only_where_that_is_said(kun: Kun) -> None:
    assert kun("kb", "create", "notes").code == 0
    ran = kun("kb", "remove", "notes", stdin="n\n")
    assert (ran.code, "Nothing was deleted." in ran.err) == (1, True)
    ran = kun("kb", "remove", "notes")
    assert (ran.code, "add --yes" in ran.err) == (2, True)
    assert len(told(kun("kb", "list", "--json"))) == 1
    assert kun("kb", "remove", "notes", stdin="y\n").code == 0
    assert kun("kb", "create", "notes").code == 0
    assert told(kun("kb", "remove", "notes", "--yes", "--json")) == {"removed": ["notes"]}
    assert told(kun("kb", "list", "--json")) == []


def test_a_damaged_one_is_listed_with_its_fault_and_can_be_deleted(kun: Kun, home: Path) -> None:
    assert kun("kb", "create", "notes").code == 0
    assert kun("kb", "create", "other").code == 0
    (home / "knowledge" / "notes" / "kb.json").write_text("{", encoding="utf-8")
    rows = {row["name"]: row for row in told(kun("kb", "list", "--json"))}
    assert rows["other"]["fault"] is None
    assert "kb.json cannot be read" in rows["notes"]["fault"]
    assert kun("kb", "list").code == 0
    assert kun("kb", "remove", "notes", "--yes").code == 0


def test_another_encoder_is_taken_by_indexing_again(kun: Kun, docs: Path) -> None:
    assert kun("kb", "add", "notes", docs).code == 0
    report = told(kun("kb", "reindex", "notes", "--encoder", "other-encoder", "--json"))
    assert report["replaced"] == ["fish.md", "zh/大 鹏.md"]
    assert told(kun("kb", "list", "--json"))[0]["encoder"] == "other-encoder"
    assert told(kun("kb", "search", "notes", "northern sea", "--json"))[0]["source"] == "fish.md"


def test_a_path_names_a_knowledge_base_too(kun: Kun, docs: Path, tmp_path: Path) -> None:
    place = tmp_path / "else where" / "notes"
    assert kun("kb", "add", place, docs / "fish.md").code == 0
    assert told(kun("kb", "search", place, "fish", "--json"))[0]["source"] == "fish.md"
    assert told(kun("kb", "list", "--json")) == []


def test_topics_are_listed_and_drawn(kun: Kun, tmp_path: Path) -> None:
    folder = tmp_path / "about"
    folder.mkdir()
    for n in range(3):
        (folder / f"soup{n}.txt").write_text(f"An onion soup with butter, number {n}.")
        (folder / f"drum{n}.txt").write_text(f"The drum and the violin play, number {n}.")
    assert kun("kb", "add", "notes", folder).code == 0
    listed = told(kun("kb", "topics", "notes", "--json"))
    assert listed["passages"] == sum(group["passages"] for group in listed["groups"]) == 6
    assert all(group["name"] and group["examples"][0]["source"] for group in listed["groups"])
    assert listed["picture"] is None
    picture = tmp_path / "topics.svg"
    ran = kun("kb", "topics", "notes", "--groups", 2, "--picture", picture)
    assert "6 passages in 2 groups." in ran.out
    assert b"<svg" in picture.read_bytes()
    assert kun("kb", "topics", "notes", "--picture", tmp_path / "topics.gif").code == 2
    assert "ask for 2 to 6" in kun("kb", "topics", "notes", "--groups", 7).err

"""Conversations are kept whole, apart by owner, and found again."""

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.errors import BadInput, DamagedFile, NotFound
from kun.server.conversations import MAX_MESSAGE, Conversations, title_of


@pytest.fixture
def kept(tmp_path: Path) -> Conversations:
    return Conversations(tmp_path / "kun.db")


def test_an_exchange_is_there_after_opening_the_file_again(kept: Conversations, tmp_path: Path) -> None:
    conversation = kept.create("", "鲲有多大？", "m", "handbook")
    _, answer = kept.exchange("", conversation.id, "鲲有多大？")
    kept.write(answer.id, "几千里。[1]", "done", {"passages": [{"text": "不知其几千里也"}]})
    again = Conversations(tmp_path / "kun.db")
    assert again.get("", conversation.id).title == "鲲有多大？"
    asked, answered = again.messages("", conversation.id)
    assert (asked.role, asked.text) == ("user", "鲲有多大？")
    assert answered.text == "几千里。[1]"
    assert answered.details["passages"][0]["text"] == "不知其几千里也"


def test_the_database_is_in_wal_mode(kept: Conversations, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "kun.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_another_owners_conversation_is_not_there(kept: Conversations) -> None:
    conversation = kept.create("ada", "secret")
    kept.exchange("ada", conversation.id, "secret")
    assert kept.list("bob") == []
    assert kept.list("bob", "secret") == []
    for forbidden in (
        lambda: kept.get("bob", conversation.id),
        lambda: kept.messages("bob", conversation.id),
        lambda: kept.delete("bob", conversation.id),
        lambda: kept.change("bob", conversation.id, title="mine"),
        lambda: kept.exchange("bob", conversation.id, "hello"),
    ):
        with pytest.raises(NotFound):
            forbidden()


def test_search_finds_titles_and_messages_and_takes_wildcards_as_they_are(kept: Conversations) -> None:
    first = kept.create("", "100% sure")
    second = kept.create("", "whales")
    kept.exchange("", second.id, "The Great_Fish 北冥有鱼")
    assert [c.id for c in kept.list("", "100%")] == [first.id]
    assert [c.id for c in kept.list("", "great_f")] == [second.id]
    assert [c.id for c in kept.list("", "北冥")] == [second.id]
    assert kept.list("", "1__%") == []


def test_deleting_a_conversation_deletes_its_messages(kept: Conversations, tmp_path: Path) -> None:
    conversation = kept.create("", "hello")
    kept.exchange("", conversation.id, "hello")
    kept.delete("", conversation.id)
    with sqlite3.connect(tmp_path / "kun.db") as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)


def test_editing_takes_back_the_message_and_all_after_it(kept: Conversations) -> None:
    conversation = kept.create("", "one")
    kept.exchange("", conversation.id, "one")
    asked, _ = kept.exchange("", conversation.id, "two")
    kept.exchange("", conversation.id, "three")
    kept.take_back("", conversation.id, asked.id)
    assert [m.text for m in kept.messages("", conversation.id) if m.role == "user"] == ["one"]
    with pytest.raises(NotFound):
        kept.take_back("", conversation.id, asked.id)


def test_answering_again_keeps_the_question(kept: Conversations) -> None:
    conversation = kept.create("", "one")
    asked, answer = kept.exchange("", conversation.id, "one")
    anew = kept.answer_again("", conversation.id, answer.id)
    assert [m.id for m in kept.messages("", conversation.id)] == [asked.id, anew.id]


def test_a_late_write_to_an_answer_that_was_taken_back_changes_nothing(kept: Conversations) -> None:
    conversation = kept.create("", "one")
    _, answer = kept.exchange("", conversation.id, "one")
    kept.answer_again("", conversation.id, answer.id)
    kept.write(answer.id, "too late", "done", {})
    assert all(m.text != "too late" for m in kept.messages("", conversation.id))


def test_what_was_running_when_the_process_died_is_marked_stopped(
    kept: Conversations, tmp_path: Path
) -> None:
    conversation = kept.create("", "one")
    _, answer = kept.exchange("", conversation.id, "one")
    kept.write(answer.id, "half an ans", "running", {})
    again = Conversations(tmp_path / "kun.db")
    assert again.stop_running() == 1
    assert again.messages("", conversation.id)[1].status == "stopped"
    assert again.messages("", conversation.id)[1].text == "half an ans"


def test_empty_and_huge_messages_are_refused(kept: Conversations) -> None:
    conversation = kept.create("", "")
    for text in ("", " \n", "x" * (MAX_MESSAGE + 1)):
        with pytest.raises(BadInput):
            kept.exchange("", conversation.id, text)
    assert kept.messages("", conversation.id) == []


def test_a_file_that_is_no_database_is_named_in_the_error(tmp_path: Path) -> None:
    file = tmp_path / "kun.db"
    file.write_bytes(b"this is no database, but a letter to a friend" * 100)
    with pytest.raises(DamagedFile, match=r"kun\.db"):
        Conversations(file)


def test_threads_write_at_once_and_nothing_is_lost(kept: Conversations) -> None:
    conversation = kept.create("", "busy")

    def write(thread: int) -> None:
        for number in range(10):
            kept.exchange("", conversation.id, f"{thread}-{number}")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [m.text for m in kept.messages("", conversation.id) if m.role == "user"]
    assert sorted(texts) == sorted(f"{t}-{n}" for t in range(6) for n in range(10))


def _write_from_a_process(database: str, conversation: str, process: int) -> None:
    kept = Conversations(Path(database))
    for number in range(10):
        kept.exchange("", conversation, f"{process}-{number}")


def test_processes_write_at_once_and_nothing_is_lost(kept: Conversations, tmp_path: Path) -> None:
    conversation = kept.create("", "busy")
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_write_from_a_process, args=(str(tmp_path / "kun.db"), conversation.id, n))
        for n in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(kept.messages("", conversation.id)) == 60


@given(st.text(max_size=300))
def test_a_title_is_one_short_line(text: str) -> None:
    title = title_of(text)
    assert len(title) <= 49
    assert "\n" not in title
    assert bool(title) == bool(text.strip())

"""What people have on the screen is theirs: what they undo stays with them, what they write is asked of nobody else."""

import json
from datetime import timedelta

import pytest
from feedback_people import fill, user

from kun.alignment.feedback.exchange import import_file, rankings
from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import Vote


@pytest.fixture
def store(tmp_path):
    return FeedbackStore(tmp_path / "kun.db")


def said_of(item, number):
    """A vote with a note, a flag and an answer of one's own."""
    flags = {number % 3: ("harmful", "untrue")}
    return Vote(item.id, "ada", "ranked", (2, 0, 1), item.shown, flags, f"note {number}", f"own {number}")


def test_undo_leaves_the_rankings_that_were_imported_under_the_same_name(store, tmp_path):
    rows = [{"prompt": f"q{n}", "chosen": "good", "rejected": "bad"} for n in range(3)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    import_file(store, tmp_path / "r.jsonl", rater="ada")
    assert store.undo("ada") is None
    fill(store, 1)
    vote = said_of(store.next("ada"), 0)
    store.save(vote)
    import_file(store, tmp_path / "r.jsonl", rater="ada")
    assert store.undo("ada") == vote
    assert store.undo("ada") is None
    assert len(list(store.votes())) == 3


def test_what_was_said_of_answers_that_were_undone_comes_back_with_each_of_them(store, tmp_path):
    fill(store, 3)
    given = []
    for number in range(3):
        given.append(said_of(store.next("ada"), number))
        store.save(given[-1])
    assert [store.undo("ada") for _ in given] == given[::-1]
    assert list(rankings(store)) == []
    again = FeedbackStore(tmp_path / "kun.db")  # as a page that is loaded again
    for vote in given:
        item = again.next("ada")
        assert again.draft(item.id, "ada") == vote
        assert again.draft(item.id, "bob") is None
        again.save(vote)
        assert again.draft(item.id, "ada") is None
    assert [vote for _, vote in again.votes()] == given


def test_a_vote_that_is_undone_twice_comes_back_as_it_was_said_last(store):
    fill(store, 1)
    for number in range(2):
        vote = said_of(store.next("ada"), number)
        store.save(vote)
        store.undo("ada")
    assert store.draft(vote.item, "ada") == vote


def test_a_prompt_is_asked_of_one_writer_at_a_time_and_of_another_when_it_is_skipped_or_left(
    store, monkeypatch
):
    first, second = (store.add_prompt(user(text)) for text in ("one", "two"))
    assert [store.next_to_write(name).id for name in ("ada", "ada", "bob")] == [first, first, second]
    assert store.next_to_write("eve") is None
    assert store.next_to_write("ada", {first}) is None
    assert store.next_to_write("eve").id == first
    monkeypatch.setattr("kun.alignment.feedback.store._CLAIM", timedelta(0))
    assert store.next_to_write("ada").id == first

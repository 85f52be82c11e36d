"""Feedback is kept at once and whole, each person has a queue of their own, and nothing is rated twice."""

import os
import sqlite3
import statistics
import threading
from collections import Counter

import pytest
from feedback_people import fill, said, saved_until_killed, timed_saves, user
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import FLAGS, Item, Thumb, Vote, ranked
from kun.errors import BadInput, Busy, DamagedFile, NotFound, UnsupportedFormat


@pytest.fixture
def store(tmp_path):
    return FeedbackStore(tmp_path / "kun.db")


def everything(store):
    return [vote for _, vote in store.votes()]


# Votes


def test_a_vote_is_read_back_as_it_was_saved(store, tmp_path):
    fill(store, 1)
    item = store.next("ada")
    vote = Vote(item.id, "ada", "ranked", (1, 0, 1), item.shown, {2: ("harmful", "untrue")}, "note", "mine")
    store.save(vote)
    assert everything(FeedbackStore(tmp_path / "kun.db")) == [vote]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and killed")
def test_no_vote_that_was_reported_as_saved_is_lost_to_kill_9(store, tmp_path):
    ids = fill(store, 60)
    reported = set()
    for number in range(12):
        rater = f"rater {number}"
        told = saved_until_killed(tmp_path / "kun.db", ids, rater, 0.003 * (number + 1), least=number)
        reported |= {(id, rater) for id in told}
    assert reported
    kept = {(vote.item, vote.rater) for vote in everything(FeedbackStore(tmp_path / "kun.db"))}
    assert reported <= kept
    assert sqlite3.connect(tmp_path / "kun.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_vote_is_saved_in_a_moment(store):
    ids = fill(store, 40)
    assert statistics.median(timed_saves(store, ids, "ada")) < 0.2  # the figure is 20 ms on a quiet machine


def test_only_a_prompt_that_waits_for_answers_can_be_removed(store):
    waiting = store.add_prompt([{"role": "user", "content": "Never mind?"}])
    store.add_item([{"role": "user", "content": "Which?"}], [said("one"), said("two")])
    assert store.remove_prompt(waiting)
    assert not store.remove_prompt(waiting)
    assert not store.waits(waiting)
    for prompt in store.prompts():
        assert not store.remove_prompt(prompt.id)
    assert len(store.prompts()) == 1


def test_a_second_vote_of_one_person_on_an_item_takes_the_place_of_the_first(store):
    (id,) = fill(store, 1)
    for ranks in ((0, 1, 2), (2, 1, 0)):
        store.save(Vote(id, "ada", ranks=ranks))
    assert [vote.ranks for vote in everything(store)] == [(2, 1, 0)]


@pytest.mark.parametrize(
    ("vote", "fault"),
    [
        (Vote("", "ada", ranks=(0, 2, 2)), "leaves out place 1"),
        (Vote("", "ada", ranks=(1, 2, 3)), "leaves out place 0"),
        (Vote("", "ada", ranks=(0, 1)), "2 of 3 answers"),
        (Vote("", "ada", "bad", (0, 1, 2)), "has no ranks"),
        (Vote("", "ada", "best"), "one of ranked, bad, skipped"),
        (Vote("", "ada", ranks=(0, 1, 2), shown=(0, 0, 1)), "each of 3 answers once"),
        (Vote("", "ada", ranks=(0, 1, 2), flags={0: ("rude",)}), "'rude'"),
        (Vote("", "ada", ranks=(0, 1, 2), flags={3: ("untrue",)}), "answer 3"),
        (Vote("", "ada", ranks=(0, 1, 2), note="x" * 300_000), "shorten"),
        (Vote("", "", ranks=(0, 1, 2)), "choose one"),
    ],
)
def test_a_vote_that_makes_no_sense_is_refused_with_the_reason_and_changes_nothing(store, vote, fault):
    (id,) = fill(store, 1)
    with pytest.raises(BadInput, match=fault):
        store.save(Vote(**{**vars(vote), "item": id}))
    assert everything(store) == []


def test_a_vote_on_an_item_that_is_not_there_says_so(store):
    with pytest.raises(NotFound, match="no longer"):
        store.save(Vote("nothing", "ada", ranks=(0, 1)))


RANKS = st.lists(st.integers(0, 2), min_size=3, max_size=3).map(
    lambda found: tuple(sorted(set(found)).index(rank) for rank in found)
)
ACTS = st.lists(
    st.one_of(
        RANKS.map(lambda ranks: ("ranked", ranks)),
        st.just(("bad", ())),
        st.just(("skipped", ())),
        st.just("undo"),
    ),
    max_size=12,
)


@hypothesis_settings(max_examples=12, deadline=None)
@given(ACTS)
def test_undo_takes_back_the_last_vote_and_brings_its_item_again(tmp_path_factory, acts):
    store = FeedbackStore(tmp_path_factory.mktemp("undo") / "kun.db")
    fill(store, 15)
    kept = []
    for act in acts:
        if act == "undo":
            assert store.undo("ada") == (kept.pop() if kept else None)
        else:
            item = store.next("ada")
            assert item.id not in {vote.item for vote in kept}
            kept.append(Vote(item.id, "ada", act[0], act[1], item.shown))
            store.save(kept[-1])
        assert everything(store) == kept
    if kept:
        assert store.undo("ada") == kept[-1]
        assert store.next("ada").id == kept[-1].item
    store.close()


# Queues


def test_the_sides_are_shuffled_for_each_person_and_stay_as_they_are(store):
    ids = fill(store, 40, answers=2)
    orders = Counter(store.item(id, "ada").shown for id in ids)
    assert 8 < orders[(0, 1)] < 32
    assert [store.item(id, "ada").shown for id in ids] == [store.item(id, "ada").shown for id in ids]
    assert [store.item(id, "ada").shown for id in ids] != [store.item(id, "bob").shown for id in ids]


def test_an_item_stays_on_the_screen_when_the_page_is_loaded_again(store):
    fill(store, 3)
    assert store.next("ada").id == store.next("ada").id


def test_two_people_are_not_given_the_same_item_unless_two_are_wanted(store):
    fill(store, 2)
    ada, bob = store.next("ada"), store.next("bob")
    assert ada.id != bob.id
    assert store.next("eve") is None
    store.want(2)
    assert store.next("eve") is not None


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_as_many_people_rate_each_item_as_are_wanted_and_nobody_twice(store, wanted):
    fill(store, 8, wanted=wanted)
    people = ["ada", "bob", "eve"]
    while True:
        shown = [(rater, item) for rater in people if (item := store.next(rater)) is not None]
        if not shown:
            break
        for rater, item in shown:
            store.save(Vote(item.id, rater, ranks=(0, 1, 2)))
    votes = everything(store)
    assert set(Counter(vote.item for vote in votes).values()) == {wanted}
    assert len({(vote.item, vote.rater) for vote in votes}) == len(votes) == 8 * wanted
    assert [store.left(rater) for rater in people] == [0, 0, 0]


def test_what_one_person_skips_is_left_for_another_and_not_shown_again(store):
    (id,) = fill(store, 1)
    store.save(Vote(store.next("ada").id, "ada", "skipped"))
    assert store.next("ada") is None
    assert store.next("bob").id == id


def test_people_who_save_at_once_all_keep_their_votes(store, tmp_path):
    ids = fill(store, 10, wanted=4)
    faults = []

    def rate(rater):
        own = FeedbackStore(tmp_path / "kun.db")
        try:
            while (item := own.next(rater)) is not None:
                own.save(Vote(item.id, rater, ranks=(0, 1, 2)))
        except Exception as error:  # told by the test, not by the thread
            faults.append(error)
        own.close()

    threads = [threading.Thread(target=rate, args=(f"rater {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert Counter(vote.item for vote in everything(store)) == Counter(dict.fromkeys(ids, 4))


# Items


@pytest.mark.parametrize("answers", [[], ["one"], ["one", "one", "one"]])
def test_fewer_than_two_different_answers_cannot_be_ranked(store, answers):
    with pytest.raises(BadInput, match="at least 2 different"):
        store.add_item(user("hi"), [said(text) for text in answers])
    assert store.prompts() == []


def test_more_than_nine_answers_are_too_many_at_a_time(store):
    with pytest.raises(BadInput, match="more than 9"):
        store.add_item(user("hi"), [said(str(number)) for number in range(10)])


def test_the_same_answers_to_the_same_prompt_are_one_item_whatever_their_order(store):
    first = store.add_item(user("hi"), [said("a"), said("b")])
    assert store.add_item(user("hi"), [said("b"), said("a")], wanted=3) == first
    assert store.next("ada").id == first


def test_the_stored_order_of_answers_tells_nothing_of_who_wrote_them(store):
    for number in range(30):
        store.add_item(user(f"q{number}"), [said(f"a{number}"), said(f"b{number}")], ["good", "bad"])
    first = Counter(store.item(prompt_item.id).models[0] for prompt_item in _items(store))
    assert 5 < first["good"] < 25


def _items(store):
    items = []
    while (item := store.next("ada")) is not None:
        items.append(item)
        store.save(Vote(item.id, "ada", "skipped"))
    return items


def test_a_ranking_of_a_file_is_added_once_and_its_reverse_is_another(store):
    groups = ((said("a"), said("b")), (said("c"),))
    assert store.add_ranked(user("hi"), groups)
    assert not store.add_ranked(user("hi"), tuple(tuple(reversed(group)) for group in groups))
    assert store.add_ranked(user("hi"), groups[::-1])
    assert store.next("ada") is None  # nobody is to rate it again
    rows = [ranked(item, vote) for item, vote in store.votes()]
    assert [sorted(map(len, row.groups)) for row in rows] == [[1, 2], [1, 2]]


# What a vote means as data


def test_a_corrected_answer_is_better_than_all_and_a_tie_or_a_skip_prefers_nothing(store):
    (id,) = fill(store, 1, answers=2)
    item = store.item(id)
    own = said("better")
    row = ranked(item, Vote(id, "ada", ranks=(1, 0), correction="better"))
    assert row.groups == ((own,), (item.answers[1],), (item.answers[0],))
    assert ranked(item, Vote(id, "ada", "bad", correction="better")).groups == ((own,), item.answers)
    for vote in (
        Vote(id, "ada", ranks=(0, 0)),
        Vote(id, "ada", "bad"),
        Vote(id, "ada", "skipped", correction="better"),
    ):
        assert ranked(item, vote) is None


@given(RANKS, st.sampled_from(FLAGS))
def test_the_groups_of_a_ranking_are_the_ranks_of_its_vote(ranks, flag):
    item = Item("x", user("q"), (said("a"), said("b"), said("c")), ("", "", ""), (0, 1, 2))
    row = ranked(item, Vote("x", "ada", ranks=ranks, flags={0: (flag,)}))
    if max(ranks) == 0:
        assert row is None
    else:
        found = [(answer[0]["content"], rank) for answer, rank in zip(row.answers, row.ranks, strict=True)]
        assert sorted(found) == list(zip("abc", ranks, strict=True))


# Demonstrations and thumbs


def test_a_demonstration_is_kept_once_and_the_next_prompt_is_one_without(store):
    first, second = (store.add_prompt(user(text)) for text in ("one", "two"))
    assert store.next_to_write("ada").id == first
    assert store.next_to_write("ada", {first}).id == second
    assert store.demonstrate(user("one"), "My answer", "ada")
    assert not store.demonstrate(user("one"), "My answer", "bob")
    assert store.next_to_write("ada").id == second
    assert [(one.answer, one.writer) for one in store.demonstrations()] == [("My answer", "ada")]
    with pytest.raises(BadInput, match="empty"):
        store.demonstrate(user("two"), "  ")


def test_a_thumb_on_a_message_that_was_deleted_is_kept_with_what_it_is_about(store):
    up = Thumb("a message that is nowhere", "ada", 1, user("hi"), "hello", "m")
    store.thumb(up)
    assert store.thumbs("ada") == [up]
    assert store.thumbs("bob") == []
    down = Thumb(up.message, "ada", -1, up.prompt, up.answer, "m")
    store.thumb(down)
    assert store.thumbs() == [down]
    store.thumb(Thumb(up.message, "ada", 0, up.prompt, up.answer, "m"))
    assert store.thumbs() == []
    with pytest.raises(BadInput, match="1, -1, or 0"):
        store.thumb(Thumb(up.message, "ada", 5, up.prompt, up.answer, "m"))


def test_half_a_character_is_kept_as_a_mark_and_loses_no_vote(store):
    half = "whale \ud83d"
    id = store.add_item(user(half), [said(half), said("b")])
    store.save(Vote(id, "ada", ranks=(0, 1), note=half, correction=half))
    store.demonstrate(user(half), half)
    store.thumb(Thumb("m", "ada", 1, user(half), half, "m"))
    (vote,) = everything(store)
    for text in (vote.note, vote.correction, store.demonstrations()[0].answer, store.thumbs()[0].answer):
        assert text.startswith("whale ")
        text.encode()


def test_an_empty_prompt_is_refused(store):
    for messages in ((), user("  ")):
        with pytest.raises(BadInput, match="empty"):
            store.add_prompt(messages)


# The database


def test_a_database_that_another_program_holds_is_told_as_busy(store, tmp_path, monkeypatch):
    (id,) = fill(store, 1)
    store.close()
    monkeypatch.setattr("kun.database.BUSY_MS", 50)
    store = FeedbackStore(tmp_path / "kun.db")
    other = sqlite3.connect(tmp_path / "kun.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match=r"kun\.db"):
        store.save(Vote(id, "ada", ranks=(0, 1, 2)))
    assert store.item(id).id == id  # readers do not wait
    other.execute("ROLLBACK")
    store.save(Vote(id, "ada", ranks=(0, 1, 2)))
    assert len(everything(store)) == 1


def test_a_database_of_another_version_is_refused_with_the_way_out(store, tmp_path):
    store.close()
    for version, age in ((0, "older"), (99, "newer")):
        with sqlite3.connect(tmp_path / "kun.db") as connection:
            connection.execute("UPDATE kun_versions SET version = ? WHERE room = 'feedback'", (version,))
        with pytest.raises(UnsupportedFormat, match=age):
            FeedbackStore(tmp_path / "kun.db")


def test_a_database_from_before_there_was_feedback_gets_its_tables(tmp_path):
    with sqlite3.connect(tmp_path / "kun.db") as connection:
        connection.execute("CREATE TABLE conversations (id VARCHAR PRIMARY KEY)")
    store = FeedbackStore(tmp_path / "kun.db")
    fill(store, 1)
    assert store.next("ada") is not None


def test_a_database_that_is_gone_is_told_and_no_vote_is_lost_in_silence(store, tmp_path):
    (id,) = fill(store, 1)
    (tmp_path / "kun.db").rename(tmp_path / "away.db")
    with pytest.raises(NotFound, match="gone"):
        store.save(Vote(id, "ada", ranks=(0, 1, 2)))
    (tmp_path / "away.db").rename(tmp_path / "kun.db")
    store.save(Vote(id, "ada", ranks=(0, 1, 2)))
    assert len(everything(FeedbackStore(tmp_path / "kun.db"))) == 1


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "kun.db").write_bytes(b"a letter to a friend" * 400)
    with pytest.raises(DamagedFile, match=r"kun\.db"):
        FeedbackStore(tmp_path / "kun.db")


def test_several_writes_together_are_all_kept_or_none(store):
    def fail():
        with store.together():
            store.add_prompt(user("one"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.prompts() == []
    with store.together():
        store.add_prompt(user("one"))
        with pytest.raises(BadInput):
            store.add_item(user("two"), [said("a")])
        store.add_prompt(user("three"))
    assert [prompt.messages for prompt in store.prompts()] == [user("one"), user("three")]

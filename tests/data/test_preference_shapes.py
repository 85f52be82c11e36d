"""Preferences as records: each shape reads back as it was written, and what it has no place for is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.data.formats import detect
from kun.data.preference_shapes import SHAPES, pairs, records
from kun.data.preferences import to_ranking
from kun.data.records import Record
from kun.data.rows import Ranking
from kun.errors import BadRow

W = "votes:1"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "assistant", "content": text},)


def pair(*prompt: dict[str, str], margin: float = 0.0) -> Ranking:
    return Ranking(prompt, ((said("Hello there"),), (said("No"),)), W, margin)


TURNS = (user("Hi"), said("Yes?")[0], user("How are you?"))
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "ranking",
    [
        pair(user("Hi")),
        pair(*TURNS),
        pair(*TURNS, margin=0.5),
        Ranking((user("Hi"),), ((said("Hello"),), (said(""),)), W),
    ],
)
def test_a_pair_reads_back_from_every_shape_as_it_was_written(shape, ranking) -> None:
    (record,) = records(ranking, shape)
    assert detect(Record(W, record)) == "preference"
    assert to_ranking(Record(W, record)) == ranking


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ("hh", "standard")])
def test_a_system_message_reads_back_where_the_shape_has_a_place_for_it(shape) -> None:
    (record,) = records(pair(SYSTEM, user("Hi")), shape)
    assert to_ranking(Record(W, record)) == pair(SYSTEM, user("Hi"))


@pytest.mark.parametrize("shape", ["hh", "standard"])
def test_a_system_message_in_a_transcript_is_refused(shape) -> None:
    with pytest.raises(BadRow, match="system"):
        list(records(pair(SYSTEM, user("Hi")), shape))


@pytest.mark.parametrize("shape", ["hh", "standard"])
def test_white_space_that_a_transcript_would_lose_is_refused(shape) -> None:
    with pytest.raises(BadRow, match="would not read back"):
        list(records(pair(user("Hi"), said("  Yes?\n")[0], user("How?")), shape))


words = st.text(st.sampled_from("ab 鲲\n:HumanAssist"), min_size=1, max_size=12).filter(
    lambda text: text.strip()
)


@given(
    st.lists(words, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1),
    words,
    words,
    st.sampled_from(SHAPES),
)
def test_whatever_is_written_reads_back_as_it_was_or_is_refused(asked, better, worse, shape) -> None:
    roles = ("user", "assistant")
    prompt = tuple({"role": roles[n % 2], "content": text} for n, text in enumerate(asked))
    ranking = Ranking(prompt, ((said(better),), (said(worse),)), W)
    try:
        (record,) = records(ranking, shape)
    except BadRow:
        assert shape in ("hh", "standard")
        return
    if better != worse:
        assert to_ranking(Record(W, record)) == ranking


def test_a_ranking_is_a_pair_for_each_two_of_unlike_places_and_whole_in_its_own_shape() -> None:
    ranking = Ranking((user("Hi"),), ((said("a"), said("b")), (said("c"),), (said("d"),)), W)
    assert [(x[0]["content"], y[0]["content"]) for x, y in pairs(ranking)] == [
        ("a", "c"), ("b", "c"), ("a", "d"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    assert len(list(records(ranking))) == 5
    (whole,) = records(ranking, "ranking")
    assert to_ranking(Record(W, whole)) == ranking


def test_tools_and_calls_stand_where_there_is_a_place_for_them() -> None:
    tools = ({"type": "function", "function": {"name": "sum"}},)
    call = ({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "sum"}}]},)
    ranking = Ranking((user("1 + 1?"),), ((call,), (said("3"),)), W, tools=tools)
    for shape in ("conversational", "openai", "openai-preferences", "ranking"):
        (record,) = records(ranking, shape)
        assert to_ranking(Record(W, record)) == ranking
    for shape in ("standard", "hh", "alpaca", "sharegpt"):
        with pytest.raises(BadRow, match="conversational"):
            list(records(ranking, shape))


def test_turns_that_do_not_go_to_and_fro_are_no_alpaca() -> None:
    with pytest.raises(BadRow, match="to and fro"):
        list(records(pair(user("Hi"), user("Hello?")), "alpaca"))


def test_standard_columns_of_several_turns_are_right_one_behind_the_other() -> None:
    ranking = pair(user("Hi"), {"role": "assistant", "content": "Hello."}, user("How?"))
    (record,) = records(ranking, "standard")
    whole = f"{record['prompt']}{record['chosen']}"
    assert whole.startswith("\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How?\n\nAssistant: ")
    assert to_ranking(Record(W, record)) == ranking

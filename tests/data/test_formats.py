"""What records mean: each format detected and read, and what is missing named."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.data.formats import FORMATS, check_format, detect, to_row
from kun.data.records import Record
from kun.data.rows import (
    Choice,
    Conversation,
    Labelled,
    Pair,
    Question,
    Ranking,
    Row,
    Text,
    Unpaired,
    digests,
    fields,
    from_fields,
)
from kun.errors import BadRow, UnsupportedFormat


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


W = "data.jsonl:3"
KNOWN: list[tuple[str, Any, Row]] = [
    ("text", "some text", Text("some text", W)),
    ("text", {"text": "some text", "id": 7}, Text("some text", W)),
    (
        "alpaca",
        {"instruction": "Add.", "input": "1 1", "output": "2"},
        Conversation((user("Add.\n\n1 1"), assistant("2")), W),
    ),
    (
        "alpaca",
        {"instruction": "B", "input": "", "output": "b", "system": "S", "history": [["A", "a"]]},
        Conversation(
            ({"role": "system", "content": "S"}, user("A"), assistant("a"), user("B"), assistant("b")), W
        ),
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        Conversation((user("Hi"), assistant("Hello")), W),
    ),
    (
        "messages",
        {"messages": [user("Hi"), assistant("Hello")]},
        Conversation((user("Hi"), assistant("Hello")), W),
    ),
    (
        "messages",
        {"conversations": [user("Hi"), assistant("Hello")]},
        Conversation((user("Hi"), assistant("Hello")), W),
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, assistant("Hello")]},
        Conversation((user("Hi"), assistant("Hello")), W),
    ),
    ("pairs", {"source": "a", "target": "b"}, Pair("a", "b", W)),
    ("pairs", {"en": "dog", "zh": "狗"}, Pair("dog", "狗", W)),
    ("pairs", {"question": "1+1?", "answer": "2"}, Pair("1+1?", "2", W)),
    ("pairs", ["dog", "狗", "CC-BY"], Pair("dog", "狗", W)),
    ("labelled", {"sentence": "good", "label": 1}, Labelled(("good",), "1", W)),
    ("labelled", {"review": "好", "label": "pos"}, Labelled(("好",), "pos", W)),
    ("labelled", {"sentence1": "a", "sentence2": "b", "score": 3.5}, Labelled(("a", "b"), 3.5, W)),
    ("labelled", ["0", "bad"], Labelled(("bad",), "0", W)),
    ("labelled", ["bad", "0"], Labelled(("bad",), "0", W)),
    (
        "choices",
        {"story": "a b", "question": "c?", "options": ["a", "b"], "answer": "B"},
        Choice("a b", "c?", ("a", "b"), 1, W),
    ),
    (
        "squad",
        {
            "context": "Ada lives in Oslo.",
            "question": "Where?",
            "answers": {"text": ["Oslo"], "answer_start": [13]},
        },
        Question("Ada lives in Oslo.", "Where?", "Oslo", 13, W),
    ),
    (
        "preference",
        {"prompt": "Hi", "chosen": "Hello", "rejected": "No"},
        Ranking((user("Hi"),), (((assistant("Hello"),),), ((assistant("No"),),)), W),
    ),
    (
        "unpaired",
        {"prompt": "Hi", "completion": "Hello", "label": True},
        Unpaired((user("Hi"),), (assistant("Hello"),), True, W),
    ),
    (
        "unpaired",
        {"prompt": [user("Hi")], "completion": [assistant("No")], "label": False},
        Unpaired((user("Hi"),), (assistant("No"),), False, W),
    ),
    (
        "unpaired",
        {"prompt": "Hi", "completion": "No", "label": "False"},  # as a table without types has it
        Unpaired((user("Hi"),), (assistant("No"),), False, W),
    ),
]


@pytest.mark.parametrize(("format", "value", "row"), KNOWN)
def test_each_format_is_detected_and_read(format: str, value: Any, row: Row) -> None:
    record = Record(W, value)
    assert detect(record) == format
    assert to_row(record, check_format(format)) == row


def test_fields_that_no_format_has_are_listed() -> None:
    with pytest.raises(UnsupportedFormat, match=r"data\.jsonl:3 has the fields 'x', 'y'"):
        detect(Record(W, {"x": 1, "y": 2}))


def test_a_format_that_there_is_not_is_named_with_those_there_are() -> None:
    with pytest.raises(UnsupportedFormat, match="no data format 'chatml': use one of text, alpaca"):
        check_format("chatml")


WRONG: list[tuple[str, Any, str]] = [
    ("text", {"text": 3}, "'text' holds int"),
    ("text", {"x": "a"}, "needs a field 'text'"),
    ("alpaca", {"instruction": "a", "output": " "}, "'output' is empty"),
    ("alpaca", {"instruction": "a", "output": "b", "history": ["x"]}, "'history' is no list"),
    ("alpaca", "text", "has no named fields"),
    ("sharegpt", {"conversations": [{"from": "me", "value": "x"}]}, "turn 1 is from 'me'"),
    ("sharegpt", {"conversations": [{"from": "gpt", "value": "x"}]}, "begins with the assistant"),
    ("messages", {"messages": [assistant("x"), user("y")]}, "begins with the assistant"),
    ("messages", {"messages": [{"role": "bot", "content": "x"}]}, "message 1 has the role 'bot'"),
    ("messages", {"messages": [user("x")]}, "without an answer"),
    ("messages", {"messages": [{"role": "system", "content": "x"}]}, "nobody speaks"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "other than text"),
    ("pairs", {"source": "a", "target": None}, "'target' holds NoneType"),
    ("pairs", ["only"], "needs two columns"),
    ("labelled", {"text": "a", "label": None}, "'label' holds no label"),
    ("labelled", {"text": "a"}, "'label'"),
    ("squad", {"context": "a", "question": "b"}, "'answers'"),
    ("choices", {"question": "a", "choices": ["b", "c"]}, "'answer'"),
    ("preference", {"prompt": "a", "chosen": "b"}, "needs 'chosen' and 'rejected'"),
    ("unpaired", {"prompt": "a", "completion": "b", "label": "fine"}, "'label', which is true or false"),
    (
        "unpaired",
        {"prompt": "a", "completion": 5, "label": True},
        "'completion' is neither a text nor a list",
    ),
]


@pytest.mark.parametrize(("format", "value", "told"), WRONG)
def test_what_is_wrong_with_a_row_is_told_with_its_place(format: str, value: Any, told: str) -> None:
    with pytest.raises(BadRow, match=told) as caught:
        to_row(Record(W, value), check_format(format))
    assert W in str(caught.value)


def test_text_of_white_space_alone_is_no_row() -> None:
    assert to_row(Record(W, {"text": " \n"}), "text") is None


def test_half_a_character_in_json_becomes_one_that_can_be_encoded() -> None:
    row = to_row(Record(W, {"text": "a\ud83d"}), "text")
    assert isinstance(row, Text)
    row.text.encode()


ROWS = st.one_of(
    st.builds(Text, st.text()),
    st.builds(Pair, st.text(), st.text()),
    st.builds(Labelled, st.tuples(st.text()), st.text() | st.floats(allow_nan=False)),
    st.builds(lambda a, b: Conversation((user(a), assistant(b))), st.text(), st.text()),
    st.builds(
        lambda a, b, c: Ranking((user(a),), (((assistant(b),), (assistant(c),)),)),
        st.text(),
        st.text(),
        st.text(),
    ),
    st.builds(
        lambda a, b, good: Unpaired((user(a),), (assistant(b),), good), st.text(), st.text(), st.booleans()
    ),
)


@given(ROWS)
def test_a_row_taken_apart_and_put_together_is_the_same(row: Row) -> None:
    assert from_fields(fields(row)) == row


@given(ROWS, ROWS)
def test_rows_have_equal_digests_where_their_contents_are_equal(a: Row, b: Row) -> None:
    assert (digests(a)[0] == digests(b)[0]) == (fields(a) == fields(b))


def test_a_digest_does_not_depend_on_where_the_row_stood() -> None:
    assert digests(Text("a", "x:1")) == digests(Text("a", "y:2"))


def test_one_source_with_two_translations_stays_on_one_side_of_a_split() -> None:
    assert digests(Pair("dog", "狗"))[1] == digests(Pair("dog", "犬"))[1]
    assert digests(Labelled(("a",), "0"))[1] == digests(Labelled(("a",), "1"))[1]


def test_every_format_is_tested_here() -> None:
    assert {format for format, _, _ in KNOWN} == {format for format, _, _ in WRONG} == set(FORMATS)


def test_what_json_has_no_word_for_becomes_text() -> None:
    said = {
        **user("Hi"),
        "at": datetime(2026, 1, 2, 3, 4),
        "by": {"day": date(2026, 1, 2), "cost": Decimal("1.5")},
    }
    value = {"messages": [said, assistant("Hello")], "tools": [{"since": date(2025, 1, 1)}]}
    row = to_row(Record(W, value), "messages")
    assert isinstance(row, Conversation)
    assert row.messages[0] == {
        **user("Hi"),
        "at": "2026-01-02 03:04:00",
        "by": {"day": "2026-01-02", "cost": "1.5"},
    }
    assert from_fields(fields(row), W) == row
    assert len(digests(row)[0]) == 16

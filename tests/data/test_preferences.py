"""What people preferred, in every shape in which it is published."""

from typing import Any

import pytest

from kun.data.formats import detect, to_row
from kun.data.preferences import MOST_ANSWERS, to_ranking
from kun.data.records import Record
from kun.data.rows import Ranking, digests
from kun.errors import BadRow

W = "votes.jsonl:3"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def pair(*prompt: dict[str, str], margin: float = 0.0) -> Ranking:
    return Ranking(prompt, (((said("Hello"),),), ((said("No"),),)), W, margin)


def turn(speaker: str, text: str) -> dict[str, str]:
    return {"from": speaker, "value": text}


SYSTEM = {"role": "system", "content": "S"}
SHAPES: list[tuple[str, Any, Ranking]] = [
    ("prompt, chosen, rejected", {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, pair(user("Hi"))),
    (
        "lists of messages",
        {"prompt": [SYSTEM, user("Hi")], "chosen": [said("Hello")], "rejected": [said("No")]},
        pair(SYSTEM, user("Hi")),
    ),
    (
        "a margin",
        {"prompt": "Hi", "chosen": "Hello", "rejected": "No", "margin": 2},
        pair(user("Hi"), margin=2.0),
    ),
    (
        "the prompt in both lists",
        {"chosen": [user("Hi"), said("Hello")], "rejected": [user("Hi"), said("No")]},
        pair(user("Hi")),
    ),
    (
        "the prompt in both texts",
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        Ranking((user("The sky is"),), (((said("blue."),),), ((said("green."),),)), W),
    ),
    (
        "HH",
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
        pair(user("Hi")),
    ),
    (
        "HH with more turns, and an answer that says nothing",
        {
            "chosen": "\n\nHuman: A\n\nAssistant: a\n\nHuman: B\n\nAssistant: b",
            "rejected": "\n\nHuman: A\n\nAssistant: a\n\nHuman: B\n\nAssistant:",
        },
        Ranking((user("A"), said("a"), user("B")), (((said("b"),),), ((said(""),),)), W),
    ),
    (
        "HH that parts before the last answer",
        {
            "chosen": "\n\nHuman: A\n\nAssistant: x\n\nHuman: B\n\nAssistant: b",
            "rejected": "\n\nHuman: A\n\nAssistant: y",
        },
        Ranking((user("A"),), (((said("x"), user("B"), said("b")),), ((said("y"),),)), W),
    ),
    (
        "Alpaca",
        {"instruction": "Hi", "input": "you", "chosen": "Hello", "rejected": "No"},
        pair(user("Hi\n\nyou")),
    ),
    ("Alpaca's older form", {"instruction": "Hi", "output": ["Hello", "No"]}, pair(user("Hi"))),
    (
        "ShareGPT",
        {
            "system": "S",
            "conversations": [turn("human", "Hi")],
            "chosen": turn("gpt", "Hello"),
            "rejected": turn("gpt", "No"),
        },
        pair(SYSTEM, user("Hi")),
    ),
    (
        "messages",
        {"messages": [user("Hi")], "chosen": said("Hello"), "rejected": said("No")},
        pair(user("Hi")),
    ),
    (
        "OpenAI's preferences",
        {
            "input": {"messages": [user("Hi")]},
            "preferred_output": [said("Hello")],
            "non_preferred_output": [said("No")],
        },
        pair(user("Hi")),
    ),
    (
        "a ranking with a tie",
        {"prompt": "Hi", "ranking": ["a", ["b", "c"], [said("d")]]},
        Ranking(
            (user("Hi"),),
            (((said("a"),),), ((said("b"),), (said("c"),)), ((said("d"),),)),
            W,
        ),
    ),
]


@pytest.mark.parametrize(("shape", "value", "row"), SHAPES, ids=[shape for shape, _, _ in SHAPES])
def test_each_shape_is_detected_and_read(shape: str, value: Any, row: Ranking) -> None:
    record = Record(W, value)
    assert detect(record) == "preference"
    assert to_row(record, "preference") == row


def test_ranks_number_the_groups_from_the_best() -> None:
    row = to_ranking(Record(W, {"prompt": "Hi", "ranking": ["a", ["b", "c"], "d"]}))
    assert row.ranks == (0, 1, 1, 2)
    assert [answer[0]["content"] for answer in row.answers] == ["a", "b", "c", "d"]


def test_rankings_of_one_prompt_fall_on_one_side_of_a_split() -> None:
    a, b = (to_ranking(Record(W, {"prompt": "Hi", "ranking": some})) for some in (["x", "y"], ["y", "z"]))
    assert digests(a)[1] == digests(b)[1]
    assert digests(a)[0] != digests(b)[0]


WRONG: list[tuple[Any, str]] = [
    ({"prompt": "Hi", "chosen": 3, "rejected": "No"}, "'chosen' is neither a text nor a list"),
    ({"prompt": "Hi", "chosen": [], "rejected": "No"}, "'chosen' is neither a text nor a list"),
    ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": -1}, "'margin' is -1"),
    ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": float("nan")}, "'margin' is nan"),
    ({"chosen": "Yes", "rejected": "No"}, "share no beginning"),
    ({"chosen": "\n\nHuman: A\n\nAssistant: a", "rejected": "No"}, "one answer is a transcript"),
    ({"chosen": [user("A"), said("a")], "rejected": [user("B"), said("b")]}, "share no prompt"),
    ({"prompt": "Hi", "ranking": ["a"]}, "'ranking' holds 1 answers; 2 to"),
    ({"prompt": "Hi", "ranking": ["a", []]}, "place 2 of 'ranking' is empty"),
    ({"prompt": "Hi", "ranking": ["a"] * (MOST_ANSWERS + 1)}, "2 to 64 can be ranked"),
    ({"prompt": "", "ranking": ["a", "b"]}, "needs 'prompt' and a list 'ranking'"),
    ({"prompt": "Hi", "chosen": [{"role": "bot", "content": "x"}], "rejected": "b"}, "has the role 'bot'"),
]


@pytest.mark.parametrize(("value", "told"), WRONG)
def test_the_fault_of_a_preference_is_named_with_its_line(value: Any, told: str) -> None:
    with pytest.raises(BadRow, match=told) as caught:
        to_ranking(Record(W, value))
    assert W in str(caught.value)


@pytest.mark.parametrize("end", ["\n\nAssistant:", "\n\nAssistant: "])
def test_a_prompt_that_ends_with_the_name_of_who_answers_is_answered_once(end):
    """TRL's standard columns of HH: read as turns they once gave an empty answer before each answer."""
    fields = {"prompt": f"\n\nHuman: How?{end}", "chosen": " So.", "rejected": " No."}
    ranking = to_ranking(Record("f:1", fields))
    assert ranking.prompt == ({"role": "user", "content": "How?"},)
    assert [answer[0]["content"] for answer in ranking.answers] == ["So.", "No."]

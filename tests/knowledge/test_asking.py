"""The form of a question, and what follows from it."""

import pytest

from kun.knowledge.answering.asking import asking, further_searches
from tests.knowledge.scripted import answer


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("May dogs come in?", "yes_no"),
        ("The pool is open on Sundays, isn't it?", "yes_no"),
        ("狗可以进来吗？", "yes_no"),
        ("只要关灯就可以了吧？", "yes_no"),
        ("When does it open and how much is it?", "parts"),
        ("几点开门，票价多少？", "parts"),
        ("How do ferns and mosses differ?", "comparison"),
        ("蕨类和苔藓有什么不同？", "comparison"),
        ("Why is the sky blue?", "how"),
        ("茶是怎么做的？", "how"),
        ("Who wrote it?", "plain"),
        ("票价多少？", "plain"),
    ],
)
def test_the_form_of_a_question_is_read_from_its_words(question: str, form: str) -> None:
    assert asking(question).form == form


@pytest.mark.parametrize(
    ("question", "sides"),
    [
        ("How do KX-1, KX-2 and KX-3 differ?", ("KX-1", "KX-2", "KX-3")),
        ("What is the difference between a fern and a moss?", ("fern", "moss")),
        ("问“怎么做茶”，老李和小王的回答有什么不同？", ("老李", "小王")),
        ("红茶跟绿茶有什么不一样？", ("红茶", "绿茶")),
    ],
)
def test_each_side_of_a_comparison_is_searched_for(question: str, sides: tuple[str, ...]) -> None:
    assert asking(question).sides == sides
    for side, query in zip(sides, further_searches(question), strict=True):
        assert side in query
        assert not any(other in query for other in sides if other not in side)


def test_a_name_that_floods_the_search_is_left_out_of_a_second_one() -> None:
    assert further_searches("Lark 2S 什么时候涨价，涨多少？") == ["什么时候涨价，涨多少？"]
    assert further_searches("What is E-120?") == []


def test_the_model_is_asked_for_all_parts() -> None:
    given = answer("The Kun is a fish. The Peng is a bird.", question="How do the Kun and the Peng differ?")
    assert "each of them (Kun, Peng)" in given.prompt[-1]["content"]

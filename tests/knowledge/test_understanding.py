"""Messages that are talk, questions that lean on the conversation, and the identifiers that they ask about."""

import time
from typing import Any

import pytest

from kun.knowledge.answering.antecedents import with_antecedent
from kun.knowledge.answering.identifiers import identifiers, nearest, spellings
from kun.knowledge.answering.phrases import CHINESE, ENGLISH
from kun.knowledge.answering.policy import POLICY
from kun.knowledge.answering.understanding import completed, kind_of
from tests.knowledge.scripted import Model


def complete(question: str, before: str, reply: str = "", rewritten: str = "") -> str:
    history = [{"role": "user", "content": before}, {"role": "assistant", "content": reply}]
    model: Any = Model("", rewritten=rewritten)
    return completed(question, history, model, CHINESE if question > "z" else ENGLISH, POLICY)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("你好！", "greeting"),
        ("Good morning", "greeting"),
        ("谢谢你", "thanks"),
        ("OK, thanks!", "thanks"),
        ("Translate that into English.", "about_last"),
        ("把上面的回答翻译成英文", "about_last"),
        ("简短一点", "about_last"),
        ("Shorter please", "about_last"),
        ("How do I translate a manual?", "question"),
        ("你好世界程序怎么写？", "question"),
        ("谢谢卡多少钱？", "question"),
    ],
)
def test_talk_is_told_from_questions(message: str, kind: str) -> None:
    assert kind_of(message) == kind


def test_a_question_that_is_whole_is_searched_as_it_is() -> None:
    asked = "Which sea has the most fish?"
    assert complete(asked, "How large is the Peng?", rewritten="something else") == asked
    assert complete("试用期多长？", "年假有几天？", rewritten="别的问题") == "试用期多长？"


@pytest.mark.parametrize(
    ("question", "before", "whole"),
    [
        ("那淡季呢？", "员工旺季到深圳出差，住宿最多报多少？", "员工淡季到深圳出差，住宿最多报多少？"),
        ("31480 呢？", "13148 是什么报警？", "31480 是什么报警？"),
        ("And E-7?", "What does alarm E-5 mean?", "What does alarm E-7 mean?"),
        ("And in 2020?", "How many members had the club in 2019?", "How many members had the club in 2020?"),
    ],
)
def test_and_x_takes_the_place_of_its_like(question: str, before: str, whole: str) -> None:
    assert complete(question, before) == whole


def test_a_pronoun_is_rewritten_by_the_model_and_its_rewriting_checked() -> None:
    before, reply = "怎样能省水？", "关掉龙头，并且用桶接水。"
    assert complete("它有用吗？", before, reply, "用桶接水有用吗？") == "用桶接水有用吗？"
    assert complete("它有用吗？", before, reply, "它是一种办法。") == f"{before} 它有用吗？"


@pytest.mark.parametrize(
    ("question", "before", "reply", "whole"),
    [
        ("它有多重？", "哪款窑能到 1300 度？", "Tern 110 能到 1,300 °C。", "Tern 110 有多重？"),
        ("多重？", "哪款窑能到 1300 度？", "Tern 110 能到 1,300 °C。", "Tern 110 多重？"),
        ("它们怕晒吗？", "仙人掌放在哪里？", "仙人掌要放在南窗。", "仙人掌怕晒吗？"),
        ("How heavy is it?", "Which kiln holds 75 litres?", "The Tern 75 does.", "How heavy is Tern 75?"),
        ("What is its price?", "How hot does the Tern 40 get?", "1,230 °C.", "What is Tern 40's price?"),
        ("Where does she live?", "Who leads the club?", "Ms. Adeyemi does.", "Where does Ms. Adeyemi live?"),
        (
            "Can they be renewed?",
            "On how many devices may e-books be read?",
            "E-books may be read on up to three devices [1].",
            "Can E-books be renewed?",
        ),
        ("Who made it?", "What is PaLM?", "PaLM is a model by Google.", "Who made PaLM?"),
    ],
)
def test_a_pronoun_stands_for_what_the_answer_before_was_about(
    question: str, before: str, reply: str, whole: str
) -> None:
    assert complete(question, before, reply) == whole


def test_an_it_that_stands_for_nothing_is_left_to_the_model() -> None:
    assert with_antecedent("Is it allowed to smoke?", "Where is the Tern 40?", "In the cellar.") == ""
    assert with_antecedent("The Tern 40 is heavy, is it not?", "Where is it?", "In the cellar.") == ""


@pytest.mark.parametrize("question", ["怎么办理？", "它的原因是什么？", "Why?", "How much is it?"])
def test_a_question_without_a_subject_leans_on_the_one_before(question: str) -> None:
    assert complete(question, "产假可以休多少天？") == f"产假可以休多少天？ {question}"


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What is the remedy for E-120?", ["E-120"]),
        ("Who closed ticket 4713?", ["4713"]),
        ("报警 3148 是什么意思？", ["3148"]),
        ("When was LarkOS 6.8 released?", ["LarkOS 6.8"]),
        ("Lark 3 的功率是多少瓦？", ["Lark 3"]),
        ("What is shipping for an order of 150 yuan?", []),
        ("What happened in May 2028?", []),
        ("超过 5000 元的有几个？", []),
    ],
)
def test_identifiers_are_told_from_amounts_and_dates(question: str, found: list[str]) -> None:
    assert identifiers(question) == found


def test_the_nearest_identifiers_are_those_spelled_most_alike() -> None:
    assert nearest("GSK-816-07", ["GSK-618-07 costs 12.60, HTR-909 costs 3."]) == ["GSK-618-07"]
    assert nearest("Lark 3", ["Lark 1 and Lark 2 are sold."]) == ["Lark 1", "Lark 2"]
    assert "GPT-3" in spellings("GPT3")


@pytest.mark.parametrize(
    "odd",
    [
        "那" * 4000 + "x" * 80,
        "那么" * 2000 + "x" * 80,
        "and what about " * 300 + "x" * 80,
        "and x" + " " * 5000 + "y",
        "why" + " " * 5000 + "y" * 80,
        "呢" * 4000 + "y",
    ],
    ids=["那", "那么", "and what about", "and x", "why", "呢"],
)
def test_a_long_odd_follow_up_is_understood_within_seconds(odd: str) -> None:
    begun = time.perf_counter()
    complete(odd, "What does alarm E-5 mean?", rewritten="nothing")
    assert time.perf_counter() - begun < 5

"""Yes and no, corrections and whole cells."""

import pytest

from kun.knowledge.answering.agreeing import agreeing, correction, whole_cell, whole_statement
from kun.knowledge.answering.evidence import Evidence
from kun.knowledge.answering.units import units_of
from tests.knowledge.scripted import answer, passage

RULES = "Dogs may rest in the hall, but not sleep, during the day. The hall is heated to 18 degrees."


@pytest.mark.parametrize(
    ("sentence", "question", "said"),
    [
        ("Yes, dogs may not come in.", "May dogs come in?", "No, dogs may not come in."),
        ("No, dogs may come in.", "May dogs come in?", "Yes, dogs may come in."),
        ("No, only cats may come in.", "May dogs come in?", "No, only cats may come in."),
        ("是的，狗不可以进来。", "狗可以进来吗？", "不，狗不可以进来。"),
        ("Yes, it is not allowed.", "Is it forbidden to smoke?", "Yes, it is not allowed."),
    ],
)
def test_yes_and_no_fit_what_is_said_after_them(sentence: str, question: str, said: str) -> None:
    assert agreeing(sentence, question) == said


def test_a_wrong_assumption_that_the_model_repeats_is_corrected_from_the_documents() -> None:
    given = answer(
        "Yes, dogs may sleep in the hall as long as it is warm.",
        question="May dogs sleep in the hall as long as it is warm?",
        passages=[passage(RULES)],
    )
    assert given.text == "No: Dogs may rest in the hall, but not sleep, during the day [1]."
    assert given.quoted


def test_nothing_is_corrected_by_a_sentence_about_something_else() -> None:
    units = units_of([passage("Cats may not come in.")])
    evidence = [Evidence(units[0], 0.1, 0.2)]
    assert correction("May dogs come in?", evidence, 0.3) is None


def test_a_denial_is_given_with_what_is_right_instead() -> None:
    unit = units_of([passage("树自己不会走，是风把种子带到远处，在那里长出新的树。")])[0]
    assert whole_statement("不是的。树自己不会走。", unit) == f"不是的。{unit.text}"
    assert whole_statement("不是的。鱼不会飞。", unit) == "不是的。鱼不会飞。"


def test_all_values_of_a_cell_are_given_unless_one_is_asked_for() -> None:
    unit = units_of([passage("Model: Oak; Parameters: 12M small, 40M large")])[0]
    said = "Oak has 12M parameters."
    assert whole_cell(said, unit, "How large is Oak?") == "Oak has 12M small, 40M large parameters."
    assert whole_cell(said, unit, "How large is the small Oak?") == said


@pytest.mark.parametrize(
    ("question", "said", "text"),
    [
        ("How much does the Oak 75 cost?", "The Oak 75 costs 75 litres.", "The Oak 75 holds 75 litres."),
        ("How many members has the club?", "The club meets at 5.", "The club meets at 5."),
        ("校车一号线几点发车？", "校车一号线 7 点发车。", "校车二号线 7 点发车。"),
        ("Who loses the right to vote?", "Children under 12 pay nothing.", "Children under 12 pay nothing."),
    ],
)
def test_the_answer_to_another_question_is_none(question: str, said: str, text: str) -> None:
    texts = [passage(text, score=0.5), passage("Who loses the right to vote is told.", "b.md", score=0.4)]
    given = answer(said, question=question, passages=texts)
    assert given.quoted or given.declined


def test_a_question_that_the_documents_hardly_answer_needs_a_sentence_that_stands_there() -> None:
    far = [passage("Larix (Holm, 2022): larches that were grown from seed.", words=0.0)]
    given = answer("Larix was founded by Holm in 2022.", question="Who founded Larix and when?", passages=far)
    assert given.declined or given.quoted

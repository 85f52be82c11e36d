"""Checking that a unit of the documents carries a sentence."""

import numpy as np
import pytest

from kun.knowledge.answering.checking import Checker
from kun.knowledge.answering.identifiers import identifiers
from kun.knowledge.answering.numbers import numbers
from kun.knowledge.answering.policy import POLICY
from kun.knowledge.answering.units import as_records, units_of
from tests.knowledge.scripted import passage

TRAVEL = """| City | Season | Manager | Staff |
|---|---|---|---|
| Xi'an | high | 450 | 355 |
| Xi'an | low | 415 | 320 |
"""
RULES = """# Rules

Staff may work from home on four days a month after half a year.

Coffee may be ground, but not roasted, in the shop.

The boiler weighs 66 kg. The grinder weighs 12 kg.
"""


def holds(sentence: str, question: str, text: str) -> bool:
    checker = Checker(question, units_of([passage(text)]), POLICY, asked=identifiers(question))
    return checker.check(sentence).holds


@pytest.mark.parametrize(
    ("sentence", "question", "is_carried"),
    [
        ("The boiler weighs 66 kg.", "How heavy is the boiler?", True),
        ("The boiler weighs 67 kg.", "How heavy is the boiler?", False),
        ("The boiler weighs 66 g.", "How heavy is the boiler?", False),
        ("Coffee may not be roasted in the shop.", "May we roast coffee in the shop?", True),
        ("Yes, coffee may be roasted in the shop.", "May we roast coffee in the shop?", False),
        ("Ms. Smith weighs the boiler.", "How heavy is the boiler?", False),
        ("Staff may work from home four days a month.", "How often may staff work from home?", True),
    ],
)
def test_numbers_units_names_and_negation_must_be_there(
    sentence: str, question: str, is_carried: bool
) -> None:
    assert holds(sentence, question, RULES) is is_carried


def test_a_value_of_another_column_or_row_is_refused() -> None:
    asked = "What may a manager spend in Xi'an in the high season?"
    assert holds("A manager may spend 450 in Xi'an in the high season.", asked, TRAVEL)
    assert not holds("A manager may spend 415 in Xi'an in the high season.", asked, TRAVEL)
    assert not holds("A manager may spend 355 in Xi'an in the high season.", asked, TRAVEL)


def test_a_misconception_carries_nothing() -> None:
    text = '- The moon is made of rock. Often said, and wrong: "The moon is made of green cheese."'
    assert holds("The moon is made of rock.", "What is the moon made of?", text)
    assert not holds("The moon is made of green cheese.", "What is the moon made of?", text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("每四个月或者每 6,000 杯", ["4", "6000"]),
        ("twice, by two years each", ["2", "2"]),
        ("百分之八十", ["80"]),
        ("一千五百元", ["1500"]),
        ("1. Open it\n2. Close 3 lids", ["3"]),
        ("1.6T", ["1.6"]),
    ],
)
def test_numbers_are_read_however_they_are_written(text: str, values: list[str]) -> None:
    assert [one.value for one in numbers(text)] == values


def test_scaled_numbers_are_equal_across_languages() -> None:
    assert numbers("175 billion")[0].scaled == numbers("1,750 亿")[0].scaled


def test_a_table_is_read_as_records_and_a_picture_not_at_all() -> None:
    text = f"![a drawing](x.svg)\n\n{TRAVEL}"
    assert as_records(text).strip().splitlines() == [
        "- City: Xi'an; Season: high; Manager: 450; Staff: 355",
        "- City: Xi'an; Season: low; Manager: 415; Staff: 320",
    ]
    assert [unit.cells[0] for unit in units_of([passage(text)])] == [("City", "Xi'an")] * 2


def test_a_person_whom_no_document_names_is_nobody() -> None:
    """A sentence in Chinese, documents in English: nearness in meaning cannot tell one name from another."""
    checker = Checker(
        "谁是公司的负责人？",
        units_of([passage("The company is led by 王芳 since 2021.")]),
        POLICY,
        lambda sentence: np.ones(1, np.float32),
    )
    assert checker.check("公司的负责人是王芳。").holds
    assert not checker.check("公司的负责人是刘涛。").holds


@pytest.mark.parametrize(
    ("sentence", "question", "text", "is_carried"),
    [
        (
            "Larix grows better than spruce in 80 % of the plots.",
            "How well does Larix grow?",
            "Larix reached 80 % of spruce's height and grew better than birch in 80 % of the plots.",
            False,
        ),
        (
            "Larix grew better than birch in 80 % of the plots.",
            "How well does Larix grow?",
            "Larix reached 80 % of spruce's height and grew better than birch in 80 % of the plots.",
            True,
        ),
        ("新炉比旧炉省电。", "新炉怎么样？", "新炉比旧炉省电三成。", True),
        ("新炉的寿命优于铸铁炉。", "新炉怎么样？", "新炉的寿命优于旧炉。", False),
        (
            "The mill has 5400 workers.",
            "How many workers has the mill?",
            "The mill makes 5,400 million cards.",
            False,
        ),
        ("The mill made 5.4 billion cards.", "How many?", "The mill made 5,400 million cards.", True),
        ("The fee is 5 percent.", "How high is the fee?", "The fee is paid within 5 days.", False),
        (
            "The team in Lyon made 168 visits.",
            "How many visits did the team in Lyon make?",
            "Team: Nice; Visits: 168",
            False,
        ),
        ("成都店有 168 人。", "成都店有多少人？", "昆明店有 168 人。", False),
    ],
)
def test_comparisons_magnitudes_and_names_must_be_there(
    sentence: str, question: str, text: str, is_carried: bool
) -> None:
    assert holds(sentence, question, text) is is_carried


def test_a_name_and_its_version_may_stand_in_two_headings() -> None:
    text = "# Bark changes\n\n### 7.1\n\n* Old ones start faster.\n\n### 7.0\n\n* Small ones stay at 6.9.\n"
    asked = "Which ones cannot be updated to Bark 7.0?"
    checker = Checker(asked, units_of([passage(text, "bark-log.md")]), POLICY, asked=identifiers(asked))
    assert checker.check("Small ones stay at 6.9.").holds
    assert not checker.check("Old ones start faster.").holds


def test_a_value_that_other_rows_have_as_part_of_theirs_is_no_sign_of_another_row() -> None:
    text = "Part: P-1; Name: pump 50 W; Shelf: D-13\nPart: P-2; Name: pump; Shelf: B-02\n"
    assert holds("The pump P-1 lies on shelf D-13.", "On which shelf is the pump P-1?", text)


TEAMS = """| Team | Calls | Hours |
|---|---|---|
| Elm | 31 | 2.5 |
| Oak | 47 | 3.5 |
| Total | 78 | 6 |
"""


@pytest.mark.parametrize(
    ("question", "sentence", "carried"),
    [
        ("How many calls did the team in Oak take?", "It took 47 calls.", True),
        ("How many calls did the team in Oak take?", "It took 31 calls.", False),
        ("How many calls did the team in Oak take?", "It took 78 calls.", False),
        ("How many calls did the team in Ash take?", "The team in Ash took 78 calls.", False),
        ("How many calls did the teams take in total?", "They took 78 calls.", True),
    ],
)
def test_a_sentence_about_a_table_is_carried_by_the_row_that_the_question_names_alone(
    question: str, sentence: str, carried: bool
) -> None:
    assert holds(sentence, question, TEAMS) is carried

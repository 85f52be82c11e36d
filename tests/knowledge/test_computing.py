"""Questions that need a calculation, over small documents of every kind of table."""

import time
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder

from kun.knowledge.base import KnowledgeBase
from kun.knowledge.computing import Computed, compute

BAKERY = """# Bakery sales, spring 2031

| Day | Bread | Customer | Loaves | Price (EUR) | State |
| --- | --- | --- | --- | --- | --- |
| 2031-03-02 | rye | Harbour Inn | 12 | 4.50 | paid |
| 2031-03-09 | spelt | Old Mill | 8 | 5.20 | cancelled |
| 2031-03-16 | rye | Old Mill | 20 | 4.50 | paid |
| 2031-04-06 | wheat | Harbour Inn | 30 | 3.10 | open |
| 2031-04-13 | rye | School | 10 | 4.50 | paid |
| Total |  |  | 80 |  |  |
"""
METER = """# 松树路 8 号抄表记录

| 日期 | 电表（度） | 备注 |
| --- | --- | --- |
| 2030-01-01 | 1000 |  |
| 2030-02-01 | 1210 |  |
| 2030-03-01 | 1500 |  |
| 2030-04-01 | 1630 |  |

电价 0.50 元/度。
"""
SHIFTS = """# 值班表

| 日期 | 姓名 | 开始 | 结束 | 休息（分钟） |
| --- | --- | --- | --- | --- |
| 2030-06-01 | 白露 | 9:00 | 18:00 | 60 |
| 2030-06-01 | 谷雨 | 9:00 | 12:30 | 0 |
| 2030-06-02 | 白露 | 10:00 | 18:30 | 不详 |
| 2030-06-03 | 白露 | 8:00 | 12:00 | 0 |
"""
CONTRACT = """Boat rental contract

The rent for the boat is 310 euros a month. In addition the tenant pays 45 euros each month for the mooring.
The tenant returns the keys within 10 days after the end of the season.
The boat is lent for 18 weeks.
"""
WEEK = """# Class 4b, timetable

| Hour | Monday | Tuesday | Wednesday |
| --- | --- | --- | --- |
| 1 | Music | Maths | Music |
| 2 | Maths | Music | Maths |
| 3 | Sports | Maths | Sports |

Every lesson lasts 45 minutes.
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("documents")
    for name, text in {
        "bakery.md": BAKERY, "松树路抄表.md": METER, "值班表.md": SHIFTS, "boat.txt": CONTRACT, "timetable.md": WEEK,
    }.items():  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
    base = KnowledgeBase.open(tmp_path_factory.mktemp("bases") / "base", encoder=FakeEncoder())
    base.add(folder)
    return base


def asked(base: KnowledgeBase, question: str) -> Computed:
    computed = compute(question, base, base.search(question))
    assert computed is not None
    return computed


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many loaves did the bakery sell in March 2031 altogether, without the cancelled ones?", "32"),
        ("What are the bakery's sales of rye worth together?", "189"),
        ("Which customer bought the most loaves from the bakery?", "Harbour Inn (42)"),
        ("What percentage of the bakery's sales was cancelled?", "20%"),
        (
            "How many loaves went to each customer on average at the bakery in April 2031: mean of loaves?",
            "20",
        ),
        ("Did the bakery sell more loaves in March or in April 2031, and by how many?", "equal"),
        ("松树路 8 号 2030 年哪个月用电最多？", "2030 年 2 月（290 度）"),
        ("松树路 8 号 2030 年一季度的电费一共多少钱？", "315"),
        ("值班表里白露净工作了多少小时？", "12 小时"),
        ("What do six months of the boat come to, rent and mooring together?", "2,130"),
        (
            "If the boat's season ends on 25 September 2031, what is the last day for returning the keys?",
            "5 October 2031",
        ),
        ("The boat is lent for how long: how many days in days?", "126"),
        ("How many minutes of maths are in the timetable of class 4b?", "180"),
    ],
)
def test_the_number_is_calculated_over_the_rows_that_the_question_means(
    answers: KnowledgeBase, question: str, expected: str
) -> None:
    computed = asked(answers, question)
    assert expected in computed.text
    assert not computed.declined
    assert computed.passages
    assert computed.calculation


@pytest.mark.parametrize("odd", ["1,", "1,,", "9", "5 years ", "3 km, ", "7 euros a "])
def test_a_document_with_a_long_odd_line_is_calculated_over_within_seconds(odd: str, tmp_path: Path) -> None:
    text = f"The boat key deposit is due on arrival {odd * (40_000 // len(odd))} for the boat key deposit.\n"
    base = KnowledgeBase.open(tmp_path / "base", encoder=FakeEncoder())
    (tmp_path / "odd.txt").write_text(text, encoding="utf-8")
    base.add(tmp_path / "odd.txt")
    for question in (
        "The boat key deposit arrived on 3 May: when is it due?",
        "How many hours is the boat key deposit due?",
        "How many euros does the boat key deposit cost for 12 months?",
    ):
        found = base.search(question)
        begun = time.perf_counter()
        compute(question, base, found)
        assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(
    "question",
    [
        "How many loaves did the bakery sell after 31 December 9999?",
        "How many loaves did the bakery sell before 1 January 0001?",
        "How many loaves did the bakery sell from March to 0001-02-01?",
        "What percentage of the loaves did the bakery sell, to ² decimals or ① decimals?",
        "面包房在 0001-01-01 之前一共卖了多少？",
        "The keys of the boat came on 3 May 9999: when does the tenant return them?",
    ],
)
def test_a_day_where_the_calendar_ends_and_an_odd_digit_are_no_fault(
    answers: KnowledgeBase, question: str
) -> None:
    compute(question, answers, answers.search(question))


def test_a_term_that_leaves_the_calendar_is_left_alone(tmp_path: Path) -> None:
    base = KnowledgeBase.open(tmp_path / "base", encoder=FakeEncoder())
    text = "The kayak invoice must be paid within 500000 days of receipt.\n"
    (tmp_path / "odd.txt").write_text(text, encoding="utf-8")
    base.add(tmp_path / "odd.txt")
    question = "The kayak invoice arrived on 3 May: when must it be paid?"
    assert compute(question, base, base.search(question)) is None


def test_a_row_of_totals_is_not_added_to_the_rows_above_it(answers: KnowledgeBase) -> None:
    assert "80" in asked(answers, "How many loaves did the bakery sell altogether?").text


def test_cells_that_are_no_numbers_are_named_and_not_guessed(answers: KnowledgeBase) -> None:
    assert "不详" in asked(answers, "值班表里白露净工作了多少小时？").calculation


@pytest.mark.parametrize(
    "question",
    [
        "How many loaves did the bakery sell in August 2031 altogether?",
        "What is the average weight of the rye that the bakery sold?",
    ],
)
def test_no_such_month_or_column_is_a_decline_that_names_the_table(
    answers: KnowledgeBase, question: str
) -> None:
    computed = asked(answers, question)
    assert computed.declined
    assert "Bakery sales" in computed.text
    assert not computed.passages


@pytest.mark.parametrize(
    "question",
    [
        "Who bought the spelt bread?",
        "How much is the rent for the boat?",
        "Within how many days are the keys returned?",
        "你好",
        "电价是多少？",
    ],
)
def test_a_plain_look_up_is_left_alone(answers: KnowledgeBase, question: str) -> None:
    assert compute(question, answers, answers.search(question)) is None

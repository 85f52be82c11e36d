"""Rows of examples/recipes/data/grounded: their prompts are Kun's own, their answers pass Kun's own checks."""

import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from fake_encoder import FakeEncoder
from scripted import Model

from kun.data.formats import detect, to_row
from kun.data.records import Record
from kun.knowledge.answering.phrases import CHINESE, ENGLISH
from kun.text.language import language_of
from kun.training.recipe import read_recipe

EXAMPLES = Path(__file__).parents[2] / "examples" / "recipes"
sys.path.insert(0, str(EXAMPLES / "data" / "grounded"))
import rows  # noqa: E402
import worlds  # noqa: E402
from worlds import Asked, Document  # noqa: E402

HOUSE = Document(
    "House.md",
    "# House\n\nThe key to the old mill is kept by Marta Quill.\nThe boathouse has 24 seats.\n",
    [],
    "house",
)
SEATS = Asked(
    "cell",
    "en",
    ("How many seats has the boathouse?", "The boathouse has 24 seats."),
    ("船库有多少个座位？", "船库有 24 个座位。"),
)
ANSWER = SEATS.english[1]


def tokens(text: str) -> int:
    return len(text) // 4 + 1


def made(count: int, seed: int) -> tuple[list[dict], Counter]:
    left_out: Counter = Counter()
    return list(rows.rows(count, seed, tokens, FakeEncoder(dimensions=256), left_out)), left_out


@pytest.fixture(scope="module")
def some() -> list[dict]:
    return made(48, seed=1)[0]


@pytest.fixture
def base(tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A base whose questions are all read: an encoder that is none cannot tell what the documents answer."""
    for name in ("likelihood", "surer"):
        monkeypatch.setattr(f"kun.knowledge.answering.answerer.{name}", lambda *given: 1.0)
    return rows.added([HOUSE], tmp_path, FakeEncoder(dimensions=256))


def test_a_prompt_is_the_one_that_asking_gives(base):
    (row,), reason = rows.rows_of(SEATS, base, tokens, again=False)
    model = Model(ANSWER)
    model.count = tokens
    prompt = base.ask(SEATS.whole, model).prompt
    assert reason == ""
    assert row["messages"] == [*prompt, {"role": "assistant", "content": ANSWER}]
    assert row["messages"][:2] == model.prompts[0]


def test_a_second_try_has_the_prompt_of_the_second_try(base):
    (row,), _ = rows.rows_of(SEATS, base, tokens, again=True)
    model = Model("", ANSWER)
    model.count = tokens
    base.ask(SEATS.whole, model)
    assert row["messages"][:-1] == model.prompts[1]
    assert row["messages"][-1]["content"] == ANSWER


def test_an_answer_that_the_documents_do_not_carry_gives_no_row(base):
    for answer in ("The boathouse has 42 seats.", "The boathouse has seats of blue wood from the south."):
        wrong = replace(SEATS, english=(SEATS.whole, answer))
        assert rows.rows_of(wrong, base, tokens, again=False) == ([], "the checks refuse the answer")


def test_a_question_without_an_answer_is_taught_to_be_declined(base):
    silent = Asked("silent", "en", ("What did the boathouse cost?", ""), ("船库花了多少钱？", ""))
    (row,), _ = rows.rows_of(silent, base, tokens, again=True)
    assert row["messages"][-1]["content"] == ENGLISH.nothing


def test_a_follow_up_gives_the_row_of_its_completion_too(base):
    leaning = Asked(
        "follow-up",
        "en",
        ("Who has the key to the old mill?", "The key to the old mill is kept by Marta Quill."),
        ("老磨坊的钥匙由谁保管？", "老磨坊的钥匙由 Marta Quill 保管。"),
        "And the old mill?",
        ("Who has the key to the boathouse?", "Ines Falk has it."),
    )
    (answered, completed), _ = rows.rows_of(leaning, base, tokens, again=False)
    assert f"Question: {leaning.whole}" in answered["messages"][-2]["content"]
    assert leaning.leaning in completed["messages"][0]["content"]
    assert completed["messages"][-1]["content"] == leaning.whole


def test_a_question_across_languages_gives_the_rows_of_both_translations(base, tmp_path):
    chinese = Document("船库.md", "# 船库\n\n船库有 24 个座位。\n", [], "house")
    (tmp_path / "other").mkdir()
    across = rows.added([chinese], tmp_path / "other", FakeEncoder(dimensions=256))
    (answered, asked, told), _ = rows.rows_of(SEATS, across, tokens, again=False)
    assert answered["messages"][0]["content"] == CHINESE.system
    assert answered["messages"][-1]["content"] == SEATS.chinese[1]
    assert SEATS.whole in asked["messages"][0]["content"]
    assert asked["messages"][-1]["content"] == SEATS.chinese[0]
    assert SEATS.chinese[1] in told["messages"][0]["content"]
    assert told["messages"][-1]["content"] == ANSWER


def test_the_same_seed_gives_the_same_rows_and_another_one_others(tiny_home: Path):
    first, left_out = made(6, seed=5)
    again, left_out_again = made(6, seed=5)
    other, _ = made(6, seed=6)
    assert first == again
    assert left_out == left_out_again
    assert first != other


def test_rows_are_read_as_conversations_in_both_languages_and_of_many_kinds(some):
    for number, row in enumerate(some):
        record = Record(f"rows:{number}", row)
        assert detect(record) == "messages"
        assert to_row(record, "messages") is not None
    answered = [row for row in some if row["kind"] != "rewriting"]
    assert len(answered) >= len(some) / 2
    assert max(Counter(row["kind"] for row in answered).values()) <= len(some) / 3
    answers = [row["messages"][-1]["content"] for row in answered]
    assert {"en", "zh"} <= {language_of(answer) for answer in answers}
    assert answers.count(ENGLISH.nothing) + answers.count(CHINESE.nothing) <= len(some) / 4
    assert max(Counter(answers).values()) <= len(some) / 6


def test_an_answer_is_in_the_language_of_its_question(some):
    for row in some:
        if row["kind"] != "rewriting":
            told = CHINESE if "问题：" in row["messages"][-2]["content"] else ENGLISH
            assert row["messages"][0]["content"] == told.system
            is_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in row["messages"][-1]["content"])
            assert is_chinese or told is ENGLISH


def test_no_slot_and_no_choice_is_left_open():
    rng = Random(3)
    for document in islice((one for _ in range(60) for one in worlds.world(rng)), 200):
        for asked in document.asked:
            for text in (*asked.english, *asked.chinese, asked.leaning, *(asked.before or ())):
                assert not set("{}[]|") & set(text), text
        assert not set("{}[]") & set(document.text), document.text


def test_the_documents_of_a_world_do_not_contradict_one_another():
    rng = Random(4)
    for _ in range(60):
        patterns = [document.pattern for document in worlds.world(rng)]
        assert len(patterns) == len(set(patterns))


def test_the_recipe_trains_an_adapter_on_these_rows():
    recipe = read_recipe(EXAMPLES / "grounded.toml")
    assert recipe.lora is not None
    assert recipe.data.train == "runs/grounded.jsonl"
    assert recipe.train.minutes == 9

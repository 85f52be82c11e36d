"""Tasks of rules, asked of a model: what is asked, what is counted, what pages and pictures show."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from task_files import Write

from kun.errors import BadInput
from kun.evaluation.asking import asked_of, shown_turns
from kun.evaluation.page import page, side_by_side
from kun.evaluation.picture import bars
from kun.evaluation.result import share
from kun.evaluation.run import evaluate
from kun.models.language_model import LanguageModel

ROWS = [
    {"sort": "long", "ask": "What swims?", "rules": {"words": [1, None]}},
    {
        "sort": "long",
        "ask": ["I am Ada.", "Hello, Ada.", "Who am I?"],
        "rules": {"matches": "Ada, of course."},
    },
    {"sort": "quiet", "ask": "What flies?"},
    {"sort": "quiet", "ask": "北冥有鱼，其名为何？"},
]
TASK: dict[str, Any] = {
    "kind": "rules",
    "prompt": "ask",
    "group": "sort",
    "groups": {
        "long": {"measure": "follows"},
        "quiet": {"measure": "over-refusal", "goal": "lower", "rules": {"says": ["no"]}},
        "absent": {"measure": "never"},
    },
    "max_tokens": 6,
}


@pytest.fixture
def task(write: Write) -> dict[str, Any]:
    data = write("rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    return TASK | {"data": data, "patterns": write("patterns.toml", '[no]\nfind = ["sorry"]\n')}


def test_answers_are_the_likeliest_and_counted_by_group(llama: LanguageModel, task: dict[str, Any]) -> None:
    found = evaluate(llama, task)
    assert list(found.measures) == ["follows", "over-refusal"]
    asked = [{"role": "user", "content": "What swims?"}]
    assert found.samples[0].said == llama.generate(asked, max_tokens=6, temperature=0.0).strip()
    talk = asked_of(llama, ("I am Ada.", "Hello, Ada.", "Who am I?")).prompt
    assert found.samples[1].said == llama.generate(talk, max_tokens=6, temperature=0.0).strip()
    assert (found.samples[1].right, found.samples[1].broken) == (False, ("matches",))
    assert found.measures["over-refusal"] == share(0, 2, "lower")  # nothing that it says is a refusal
    assert all(sample.right for sample in found.samples[2:])
    assert found.notes == {"asked": "through the chat template"}


def test_a_system_message_comes_before_each_question(llama: LanguageModel, task: dict[str, Any]) -> None:
    found = evaluate(llama, task | {"system": "Be kind."}, limit=1)
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What swims?"}]
    assert found.samples[0].said == llama.generate(asked, max_tokens=6, temperature=0.0).strip()


def test_a_model_without_a_chat_template_goes_on_with_a_dialogue() -> None:
    pretrained = cast(LanguageModel, SimpleNamespace(template=None))
    asked = asked_of(pretrained, ("Hi.", "Hello.", "Who?"), "Be kind.", ("Q", "A"))
    assert asked.prompt == "Be kind.\nQ: Hi.\nA: Hello.\nQ: Who?\nA:"
    assert asked.stop == ("\nQ:",)


def test_shots_are_refused(llama: LanguageModel, task: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="A task of rules shows no examples"):
        evaluate(llama, task, shots=1)


def test_the_page_says_which_rules_are_broken_and_the_picture_has_all_shares(
    llama: LanguageModel, task: dict[str, Any]
) -> None:
    found = evaluate(llama, task | {"name": "quiet"})
    shown = page([[found, found]])
    assert "✗ matches" in shown
    assert "0.0% [0.0%, " in shown
    drawn = bars([[found, found]], "svg").decode()
    assert "over-refusal" in drawn
    assert "follows" in drawn


def test_turns_of_the_assistant_are_indented_for_people() -> None:
    assert shown_turns(("Hi.", "Hello.", "Who?")) == "Hi.\n    Hello.\nWho?"


def test_answers_side_by_side_hold_no_markup() -> None:
    shown = side_by_side(["<b>?"], {"base": [["<script>"]], "tuned": [["No.", "Yes."]]})
    assert "<script>" not in shown
    assert shown.index("base</th>") < shown.index("tuned</th>") < shown.index("&lt;script&gt;")
    assert "<pre>No.</pre><pre>Yes.</pre>" in shown


def test_figures_of_the_sets_are_asked_in_their_language() -> None:
    tasks = Path(__file__).parents[2] / "examples" / "tasks"
    for name in ("faults", "safety"):
        assert 'speakers = ["用户", "助手"]' in (tasks / f"{name}-zh.toml").read_text(encoding="utf-8")

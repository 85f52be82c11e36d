"""Tool calls where the marks around a call are tokens of their own, as in Qwen's vocabulary."""

import json
from typing import Any

import pytest
from tiny import language_model, tokenizer
from tokenizers import AddedToken

from kun.generation.options import SamplingOptions
from kun.generation.prompt import answered, results_first
from kun.generation.tools import call_key
from kun.models.language_model import LanguageModel

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"at": {"enum": ["fish", "bird"]}},
            "required": ["at"],
            "additionalProperties": False,
        },
    },
}
ASKED: Any = [
    {"role": "user", "content": "look"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": '{"at": "fish"}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "blue"},
]


@pytest.mark.parametrize("choice", ["auto", {"type": "function", "function": {"name": "look"}}])
def test_a_call_between_marks_that_are_tokens_is_held_to_its_schema(choice: Any) -> None:
    marked = tokenizer()
    marked.add_tokens([AddedToken(text, normalized=False) for text in ("<tool_call>", "</tool_call>")])
    mark = marked.token_to_id("<tool_call>")
    plain = language_model(positions=1024)
    given: Any = {"template": plain.template, "generation_config": plain.generation_config}
    with LanguageModel(plain.net, marked, plain.config, **given) as lm:
        options = SamplingOptions(max_tokens=120, temperature=0, logit_bias={mark: 1000.0})
        messages = [{"role": "user", "content": "look"}]
        answer = lm.submit(messages, options, tools=[TOOL], tool_choice=choice).result()[0]
    assert mark in answer.token_ids
    assert answer.tool_calls
    for call in answer.tool_calls:
        assert call["function"]["name"] == "look"
        assert json.loads(call["function"]["arguments"])["at"] in ("fish", "bird")


def test_whoever_only_repeats_a_call_is_asked_again_with_its_result_alone() -> None:
    marked = tokenizer()
    marked.add_tokens([AddedToken(text, normalized=False) for text in ("<tool_call>", "</tool_call>")])
    mark = marked.token_to_id("<tool_call>")
    plain = language_model(positions=1024)
    given: Any = {"template": plain.template, "generation_config": plain.generation_config}
    properties = {"at": {"enum": ["fish"]}}
    only = {"type": "function", "function": {"name": "look", "parameters": {"properties": properties}}}
    only["function"]["parameters"] |= {"type": "object", "required": ["at"]}  # type: ignore[index]
    options = SamplingOptions(max_tokens=120, temperature=0, logit_bias={mark: 1000.0}, n=2)
    with LanguageModel(plain.net, marked, plain.config, **given) as lm:
        first = lm.submit(ASKED[:1], options, tools=[only]).result()
        again = lm.submit(ASKED, options, tools=[only]).result()
        alone = lm.submit(results_first(ASKED), options).result()
        forced = lm.submit(ASKED, options, tools=[only], tool_choice="required").result()
    assert all(one.tool_calls for one in [*first, *forced])
    assert [(one.text, one.tool_calls) for one in again] == [(one.text, []) for one in alone]
    assert {one.finish_reason for one in again} == {"length"}


def test_results_stand_before_the_question_that_they_were_for() -> None:
    talk = [
        {"role": "system", "content": "Be kind."},
        *ASKED,
        {**ASKED[2], "content": "wet"},
        {"role": "assistant", "content": "Blue and wet."},
        {"role": "user", "content": "Thanks"},
    ]
    told = results_first(talk)
    assert [(one["role"], one["content"]) for one in told] == [
        ("system", "Be kind."),
        ("user", "<tool_response>\nblue\n</tool_response>\n<tool_response>\nwet\n</tool_response>\nlook"),
        ("assistant", "Blue and wet."),
        ("user", "Thanks"),
    ]
    assert answered(talk) == frozenset()
    assert answered(talk[:4]) == {call_key("look", {"at": "fish"})}
    assert answered(talk[:2]) == frozenset()

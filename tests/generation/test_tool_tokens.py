"""Tool calls where the marks around a call are tokens of their own, as in Qwen's vocabulary."""

import json
from typing import Any

import pytest
from tiny import language_model, tokenizer
from tokenizers import AddedToken

from kun.generation import LanguageModel, SamplingOptions

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

"""Pieces of text: joined they are the whole, and no stop string is ever among them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import language_model

from kun.errors import BadInput
from kun.generation.options import SamplingOptions
from kun.generation.stopping import StopStrings
from kun.generation.tools import call_text
from kun.models.language_model import LanguageModel

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"where": {"enum": ["up", "down"]}},
            "required": ["where"],
            "additionalProperties": False,
        },
    },
}
ASK = [{"role": "user", "content": "Look!"}]


@pytest.fixture(scope="module")
def wide() -> Iterator[LanguageModel]:
    """A context in which the description of a tool has room."""
    with language_model(positions=2048) as model:
        yield model


def first_stop(text: str, stops: list[str]) -> str:
    """What comes before the stop string that ends first."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(
    st.lists(st.text("abc", max_size=4)),
    st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_text_ends_before_the_first_stop_string_however_it_is_cut(
    pieces: list[str], stops: list[str]
) -> None:
    strings, said, stopped = StopStrings(stops), "", False
    for piece in pieces:
        text, stopped = strings.push(piece)
        said += text
        assert not any(stop in said for stop in stops)
        if stopped:
            break
    assert said + ("" if stopped else strings.finish()) == first_stop("".join(pieces), stops)


@given(st.integers(0, 10**6), st.lists(st.sampled_from(["a", "é", "e", "\n", "ab"]), max_size=3))
def test_a_stream_joined_is_the_whole_answer(lm: LanguageModel, seed: int, stop: list[str]) -> None:
    options = SamplingOptions(max_tokens=30, seed=seed, stop=tuple(stop))
    whole = lm.submit("begin", options).result()[0]
    assert "".join(lm.stream("begin", options)) == whole.text
    assert not any(one in whole.text for one in stop)
    if not stop:
        assert whole.text == lm.tokenizer.decode(whole.token_ids)


def test_pieces_carry_all_tokens_and_their_log_probabilities(lm: LanguageModel) -> None:
    running = lm.submit("begin", SamplingOptions(max_tokens=20, seed=2, logprobs=2, ignore_eos=True))
    pieces = list(running)
    done = running.result()[0]
    assert [token for piece in pieces for token in piece.token_ids] == done.token_ids
    assert [one.token_id for one in done.logprobs or ()] == done.token_ids
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish_reason == "length"


def test_shapes_of_what_generate_gives(lm: LanguageModel) -> None:
    assert isinstance(lm.generate("a", max_tokens=2), str)
    assert isinstance(lm.generate(ASK, max_tokens=2), str)
    assert isinstance(lm.generate([65, 66], max_tokens=2), str)
    both = lm.generate(["a", "b"], n=2, max_tokens=2)
    assert [len(each) for each in both] == [2, 2]
    assert [type(each) for each in lm.generate([ASK, ASK], max_tokens=2)] == [str, str]
    assert lm.generate([], max_tokens=2) == []


NO_PROMPTS = [5, None, b"a", [1.5], [-1], [999], [{"content": "no role"}]]
PICTURE = [{"role": "user", "content": [{"type": "image_url"}]}]


@pytest.mark.parametrize("prompt", [*NO_PROMPTS, PICTURE])
def test_a_prompt_of_the_wrong_kind_is_refused(lm: LanguageModel, prompt: Any) -> None:
    with pytest.raises(BadInput):
        lm.submit(prompt)


def test_a_json_schema_holds_the_text_to_it(lm: LanguageModel) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    for seed in range(4):
        value = json.loads(lm.generate("json", json_schema=schema, seed=seed, max_tokens=100))
        assert set(value) == {"a", "b"}
        assert isinstance(value["a"], bool)
        assert value["b"] in "xy"


def test_an_expression_and_a_grammar_hold_the_text_to_them(lm: LanguageModel) -> None:
    assert re.fullmatch(r"[0-9]{3}-[a-c]+!", lm.generate("n", regex=r"[0-9]{3}-[a-c]{1,5}!", seed=1))
    assert lm.generate("g", grammar='start: "yes" | "no"', seed=1) in ("yes", "no")
    both = lm.generate(["g", "h"], n=3, grammar='start: "yes" | "no"')
    assert {text for each in both for text in each} <= {"yes", "no"}


@pytest.mark.parametrize(
    "given",
    [{"json_schema": {"type": "nonsense"}}, {"json_schema": "{"}, {"regex": "("}, {"grammar": "start: missing"},
     {"json_schema": "[1]"}],
)  # fmt: skip
def test_an_unsound_constraint_is_named(lm: LanguageModel, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(given))):
        lm.generate("a", **given)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
def test_a_required_call_is_made_in_openai_s_form(wide: LanguageModel, choice: Any) -> None:
    options = SamplingOptions(max_tokens=1200, seed=3)
    completion = wide.submit(ASK, options, tools=[TOOL], tool_choice=choice).result()[0]
    call = completion.tool_calls[0]
    assert (completion.finish_reason, completion.text) == ("tool_calls", "")
    assert call["type"] == "function"
    assert json.loads(call["function"]["arguments"])["where"] in ("up", "down")


def test_a_model_may_also_just_talk_when_tools_are_at_hand(wide: LanguageModel) -> None:
    done = wide.submit(ASK, SamplingOptions(max_tokens=12, seed=3), tools=[TOOL]).result()[0]
    assert done.tool_calls == []
    assert done.finish_reason in ("length", "stop")


def test_a_template_without_tools_is_told_of_them_in_the_system_message(lm: LanguageModel) -> None:
    call = {"id": "1", "function": {"name": "look", "arguments": '{"where": "up"}'}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    talk = [*ASK, asked, {"role": "tool", "tool_call_id": "1", "content": "sky"}]
    text = lm.render(talk, tools=[TOOL])
    assert '"name": "look"' in text.split("<|user|>")[0]
    assert call_text("look", {"where": "up"}) in text
    assert "<tool_response>\nsky" in text


@pytest.mark.parametrize(
    ("tools", "choice"),
    [([{}], None), ([TOOL], "sometimes"), ([TOOL], {"function": {"name": "other"}}), ([TOOL] * 65, None),
     (None, "required"),
     ([{"type": "function", "function": {"name": "a b"}}], None)],
)  # fmt: skip
def test_unsound_tools_are_refused(lm: LanguageModel, tools: Any, choice: Any) -> None:
    with pytest.raises(BadInput, match="tool"):
        lm.submit(ASK, tools=tools, tool_choice=choice)

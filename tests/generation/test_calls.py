"""Tool calls are read however a model writes them and however its text is cut; all else is text."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import language_model

from kun.generation.calls import ToolCalls
from kun.generation.options import SamplingOptions
from kun.generation.tools import call_key, call_text, tool_use

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"at": {"enum": ["fish", "bird"]}},
            "required": ["at"],
        },
    },
}


def read(text: str, cut: int = 1, parallel: bool = True) -> tuple[str, list[Any]]:
    """The text, and the arguments of the calls, of an answer that arrives `cut` characters at a time."""
    use = tool_use([TOOL], "auto", parallel)
    assert use is not None
    reader, seen = ToolCalls(use), ""
    for start in range(0, len(text), cut):
        seen += reader.push(text[start : start + cut])
        if reader.ended:
            break
    rest, calls = reader.finish()
    assert all(call["function"]["name"] == "look" for call in calls)
    return seen + rest, [json.loads(call["function"]["arguments"]) for call in calls]


@given(st.text("xy<tool_call>`", max_size=12), st.integers(1, 9), st.integers(0, 3))
def test_calls_between_marks_are_found_after_any_text(before: str, cut: int, count: int) -> None:
    before = before.replace("<tool_call>", "")
    calls = [{"at": "fish", "n": number} for number in range(count)]
    text = before + "\n".join(call_text("look", call) for call in calls)
    assert read(text, cut) == (before, calls)


ONE = '{"name": "look", "arguments": {"at": {"a": "}"}}}'
OTHER = '{\n  "name": "look",\n  "arguments": {"at": "bird"}\n}'


@pytest.mark.parametrize("cut", [1, 7, 1000])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{ONE}\n{OTHER}", ""),
        (f"```json\n{ONE}\n{OTHER}\n```", ""),
        (f"[{ONE}, {OTHER}]", ""),
        (f"Let me look.\n```json\n{ONE}\n```\n```json\n{OTHER}\n```", "Let me look.\n"),
        (f"<tool_call>\n{ONE}\n</tool_call>\n<tool_call>\n{OTHER}", ""),
    ],
    ids=["bare", "fenced", "list", "after words", "last mark missing"],
)
def test_calls_without_marks_are_calls_too(text: str, said: str, cut: int) -> None:
    assert read(text, cut) == (said, [{"at": {"a": "}"}}, {"at": "bird"}])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "someone else", "arguments": {}}',
        '{"name": "look"',
        '```json\n{"a": 1}\n``` and more',
        "```python\nprint(1)\n```",
        "`<b>` & <tool_ca",
        f"He wrote {ONE}",
        " \n ",
        "",
    ],
)
@given(cut=st.integers(1, 50))
def test_what_is_no_sound_call_is_text_to_the_letter(text: str, cut: int) -> None:
    assert read(text, cut) == (text, [])


def test_text_that_cannot_become_a_call_is_not_held_back() -> None:
    use = tool_use([TOOL], "auto")
    assert use is not None
    reader = ToolCalls(use)
    assert [reader.push(piece) for piece in ("Hel", "lo, `a` ", "```js", "\nx")] == [
        "Hel",
        "lo, `a` ",
        "",
        "```js\nx",
    ]


def test_a_call_that_is_repeated_ends_the_answer_and_counts_once() -> None:
    assert read(f"{ONE}\n{ONE}\n{OTHER}") == ("", [{"at": {"a": "}"}}])


def test_a_call_whose_result_is_known_is_none_and_ends_the_answer() -> None:
    use = tool_use([TOOL], "auto")
    assert use is not None
    use = replace(use, answered=frozenset([call_key("look", '{"at":  {"a": "}"}}')]))
    for before, only_repeats in (("", True), ("So: ", False), (f"{OTHER}\n", False)):
        reader = ToolCalls(use)
        said = "".join(map(reader.push, f"{before}{call_text('look', json.loads(ONE)['arguments'])}"))
        rest, calls = reader.finish()
        assert (reader.ended, reader.only_repeats) == (True, only_repeats)
        assert said + rest == ("So: " if before == "So: " else "")
        assert len(calls) == before.startswith("{")


def test_one_call_is_the_end_where_calls_may_not_be_parallel() -> None:
    assert read(f"{ONE}\n{OTHER}", parallel=False) == ("", [{"at": {"a": "}"}}])


@pytest.mark.parametrize("seed", range(4))
def test_required_calls_end_by_themselves_and_hold_no_argument_that_is_not_listed(seed: int) -> None:
    """A random model never wants to end: the calls run out, or repeat."""
    with language_model(positions=4096) as lm:
        options = SamplingOptions(max_tokens=2000, seed=seed)
        asked = [{"role": "user", "content": "Look!"}]
        done = lm.submit(asked, options, tools=[TOOL], tool_choice="required").result()[0]
    assert done.finish_reason == "tool_calls"
    wanted = [json.loads(call["function"]["arguments"]) for call in done.tool_calls]
    assert wanted in (
        [{"at": "fish"}],
        [{"at": "bird"}],
        [{"at": "fish"}, {"at": "bird"}],
        [{"at": "bird"}, {"at": "fish"}],
    )

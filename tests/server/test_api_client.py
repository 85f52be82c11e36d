"""The official `openai` client against a live server over a tiny random model."""

import base64
import json
import re
import time
from typing import Any, Literal

import httpx
import numpy as np
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall
from tiny_service import DIMENSIONS, Live

from kun.knowledge.computing import Computed

HELLO: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def client(live: Live) -> openai.OpenAI:
    return live.client()


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["tiny", "tiny-encoder", "tiny-judge", "notes@tiny"]
    assert [client.models.retrieve(name).id for name in names] == names
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


def test_a_conversation_is_answered(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, n=2, max_completion_tokens=5, seed=1, logprobs=True, top_logprobs=3
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert {choice.finish_reason for choice in answer.choices} <= {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 10
    scores = answer.choices[0].logprobs
    assert scores is not None
    assert scores.content is not None
    assert all(len(score.top_logprobs) == 3 for score in scores.content)


def test_a_seed_repeats_and_zero_temperature_is_greedy(client: openai.OpenAI) -> None:
    def say(**given: Any) -> str | None:
        answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, **given)
        return answer.choices[0].message.content

    assert say(seed=5) == say(seed=5)
    assert say(temperature=0, seed=1) == say(temperature=0, seed=2)


def test_a_stream_says_what_the_whole_says_and_ends_with_its_usage(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 20, "seed": 3, "n": 2}
    whole = client.chat.completions.create(**asked)
    said, ends, usages = ["", ""], [None, None], []
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usages.append(chunk.usage)
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert said == [choice.message.content for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]
    assert usages[:-1] == [None] * (len(usages) - 1)
    assert whole.usage is not None
    assert usages[-1].total_tokens == whole.usage.total_tokens


def test_a_tool_that_must_be_called_is_called_whole_and_streamed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}
    asked |= {"max_tokens": 400, "seed": 2, "temperature": 0}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls
    for call in choice.message.tool_calls:
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    calls = streamed.message.tool_calls or []
    assert [call.function.arguments for call in calls] == [
        call.function.arguments for call in choice.message.tool_calls
    ]


def test_results_of_tools_go_back_in(client: openai.OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
    }
    turns: Any = [
        {"role": "developer", "content": "Be brief."},
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
    ]
    answer = client.chat.completions.create(model="tiny", messages=turns, tools=[WEATHER], max_tokens=3)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 100


def test_an_answer_keeps_to_a_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["fish", "bird"]}},
        "required": ["kind"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, response_format=wanted, max_tokens=60, seed=1
    )
    assert json.loads(answer.choices[0].message.content or "")["kind"] in ("fish", "bird")


def test_parts_of_text_are_read_and_pictures_are_refused(client: openai.OpenAI) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    same = client.chat.completions.create(model="tiny", messages=parts, max_tokens=1)
    plain = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1)
    assert same.usage is not None
    assert plain.usage is not None
    assert same.usage.prompt_tokens == plain.usage.prompt_tokens
    picture: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    with pytest.raises(openai.BadRequestError, match="does not see"):
        client.chat.completions.create(model="tiny", messages=picture)


def test_an_echo_scores_every_token_of_the_prompt(client: openai.OpenAI, live: Live) -> None:
    prompt = "a 鲲"
    choice = client.completions.create(
        model="tiny", prompt=prompt, echo=True, logprobs=2, max_tokens=3, seed=1
    ).choices[0]
    ids = live.service.lm.encode(prompt)
    scores = choice.logprobs
    assert choice.text.startswith(prompt)
    assert scores is not None
    assert scores.token_logprobs is not None
    assert scores.tokens is not None
    assert scores.token_logprobs[0] is None
    expected = [score.logprob for score in live.service.lm.prompt_logprobs(ids)[1:] if score is not None]
    assert scores.token_logprobs[1 : len(ids)] == pytest.approx(expected, abs=1e-5)
    assert len(scores.tokens) == len(scores.text_offset or []) == len(scores.top_logprobs or [])
    assert "".join(scores.tokens[:2]) == "a "


def test_no_token_at_all_only_reads_the_prompt(client: openai.OpenAI, live: Live) -> None:
    answer = client.completions.create(
        model="tiny", prompt=["abc", "de"], echo=True, logprobs=1, max_tokens=0
    )
    assert [choice.text for choice in answer.choices] == ["abc", "de"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0
    assert answer.usage.prompt_tokens == 5
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.tokens or []) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_come_as_texts_or_token_ids_one_or_many(
    client: openai.OpenAI, live: Live, stream: bool
) -> None:
    def texts(prompt: Any, n: int = 1) -> dict[int, str]:
        made: Any = client.completions.create(
            model="tiny", prompt=prompt, max_tokens=6, temperature=0, n=n, stream=stream
        )
        said: dict[int, str] = {}
        for part in made if stream else [made]:
            for choice in part.choices:
                said[choice.index] = said.get(choice.index, "") + choice.text
        return said

    one, other = texts("abc")[0], texts("xyz")[0]
    ids = [live.service.lm.encode(text) for text in ("abc", "xyz")]
    assert texts(ids[0]) == {0: one}
    assert texts(ids) == {0: one, 1: other}
    assert texts(["abc", "xyz"]) == {0: one, 1: other}
    assert texts(["abc", "xyz"], n=2) == {0: one, 1: one, 2: other, 3: other}


def test_more_prompts_than_the_queue_holds_are_all_answered(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt=["a", "b"] * 150, max_tokens=1, temperature=0)
    texts = [choice.text for choice in answer.choices]
    assert texts == texts[:2] * 150


def test_the_best_of_several_is_the_likeliest(client: openai.OpenAI) -> None:
    def score(choice: Any) -> float:
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    given: Any = {"model": "tiny", "prompt": "abc", "max_tokens": 6, "seed": 4, "logprobs": 0}
    every = client.completions.create(**given, n=6).choices
    best = client.completions.create(**given, n=2, best_of=6).choices
    assert [choice.text for choice in best] == [choice.text for choice in sorted(every, key=score)[:-3:-1]]


def test_embeddings_are_unit_vectors_in_either_encoding(client: openai.OpenAI, live: Live) -> None:
    texts = ["a", "鲲"]
    packed = client.embeddings.create(model="tiny-encoder", input=texts)  # the client asks for base64
    plain = client.embeddings.create(model="tiny-encoder", input=texts, encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-5)
        assert len(one.embedding) == DIMENSIONS
    raw: Any = client.post(
        "/embeddings",
        cast_to=object,
        body={"input": live.service.encoder().tokenizer.encode("a").ids, "encoding_format": "base64"},
    )
    data = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), "<f4")
    assert data == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_the_kind_of_an_embedding_matters(client: openai.OpenAI) -> None:
    made = [
        client.embeddings.create(model="tiny-encoder", input="a", extra_body={"input_type": kind})
        for kind in (None, "query", "passage")
    ]
    assert len({tuple(one.data[0].embedding) for one in made}) == 3


def test_too_long_a_text_is_embedded_only_where_cutting_is_asked_for(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="tiny-encoder", input="x" * 65)
    assert raised.value.code == "context_length_exceeded"
    client.embeddings.create(model="tiny-encoder", input="x" * 65, extra_body={"truncate": True})


def test_a_knowledge_base_is_a_model_that_cites(client: openai.OpenAI, live: Live) -> None:
    turns: Any = [
        {"role": "user", "content": "What is Kun?"},
        {"role": "assistant", "content": "A fish."},
        {"role": "user", "content": [{"type": "text", "text": "And Peng?"}]},
    ]
    answer: Any = client.chat.completions.create(
        model="notes@tiny", messages=turns, max_tokens=9, extra_body={"return_prompt": True, "k": 2}
    )
    assert answer.choices[0].message.content == "A fish [1]. 一只鸟 [2]。"
    assert [(c["index"], c["source"], c["page"]) for c in answer.citations] == [
        (1, "fish.md", None),
        (2, "鹏.pdf", 3),
    ]
    assert answer.citations[1]["score"] == 0.5
    assert answer.prompt[0]["role"] == "user"
    assert answer.usage.completion_tokens > 0
    asked = live.service.notes.asked[-1]
    assert asked["question"] == "And Peng?"
    assert asked["history"] == turns[:2]
    assert (asked["max_tokens"], asked["k"]) == (9, 2)


def test_a_knowledge_base_streams_and_its_last_chunk_cites(client: openai.OpenAI) -> None:
    chunks: list[Any] = list(client.chat.completions.create(model="notes@tiny", messages=HELLO, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == "A fish [1]. 一只鸟 [2]。"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert [citation["source"] for citation in chunks[-1].citations] == ["fish.md", "鹏.pdf"]
    assert not hasattr(chunks[-1], "prompt")


def test_a_knowledge_base_says_what_its_answer_is(client: openai.OpenAI, live: Live) -> None:
    answer: Any = client.chat.completions.create(model="notes@tiny", messages=HELLO)
    assert (answer.declined, answer.quoted, answer.computed) == (False, False, None)
    live.service.notes.computed = Computed("4", "2 + 2 = 4", [], {"op": "sum"})
    try:
        chunks: list[Any] = list(
            client.chat.completions.create(model="notes@tiny", messages=HELLO, stream=True)
        )
    finally:
        live.service.notes.computed = None
    assert chunks[-1].computed == {"calculation": "2 + 2 = 4", "program": {"op": "sum"}}


@pytest.mark.parametrize(
    "given",
    [
        {"n": 2},
        {"tools": [WEATHER]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"messages": [*HELLO, {"role": "assistant", "content": "yes"}]},
    ],
)
def test_a_knowledge_base_says_what_it_does_not_do(client: openai.OpenAI, given: dict[str, Any]) -> None:
    asked: Any = {"model": "notes@tiny", "messages": HELLO} | given
    with pytest.raises(openai.BadRequestError, match="knowledge base"):
        client.chat.completions.create(**asked)


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        ({"model": "absent"}, openai.NotFoundError, "model_not_found"),
        ({"model": "absent@tiny"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": -1}, openai.BadRequestError, None),
        (
            {"messages": [{"role": "user", "content": "x" * 5000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        ({"tool_choice": "required"}, openai.BadRequestError, None),
        ({"logit_bias": {"100000": 1}}, openai.BadRequestError, None),
        ({"response_format": {"type": "json_schema"}}, openai.BadRequestError, None),
    ],
)
def test_errors_are_those_that_the_client_knows(
    client: openai.OpenAI, given: dict[str, Any], kind: type[openai.APIStatusError], code: str | None
) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO} | given
    with pytest.raises(kind) as raised:
        client.chat.completions.create(**asked)
    assert raised.value.code == code
    assert raised.value.request_id
    assert "Traceback" not in str(raised.value)


class Address(pydantic.BaseModel):
    street: str
    city: Literal["Oslo"]


class Order(pydantic.BaseModel):
    item: Literal["lamp"]
    to: Address


def test_a_tool_made_of_classes_within_classes_is_called(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Order)
    named: Any = {"type": "function", "function": {"name": "Order"}}
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, tools=[tool], tool_choice=named, max_tokens=600, seed=1, temperature=0.5
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert Order.model_validate_json(call.function.arguments).to.city == "Oslo"


def test_a_keyword_that_no_text_can_be_held_to_is_left_out_unless_the_schema_is_strict(
    client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}, "maxItems": 3}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, response_format=wanted, max_tokens=60, seed=1
    )
    assert set(json.loads(answer.choices[0].message.content or "")) <= {1, 2}
    assert "not held to uniqueItems in response_format" in caplog.text
    wanted["json_schema"]["strict"] = True
    with pytest.raises(openai.BadRequestError, match="uniqueItems"):
        client.chat.completions.create(model="tiny", messages=HELLO, response_format=wanted)


@pytest.mark.parametrize("asked", [True, False])
def test_who_waits_for_a_long_prompt_hears_how_far_it_is(
    live: Live, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = live.service.lm.engine.net

    def slow(ids: Any, **given: Any) -> Any:
        time.sleep(0.001 * ids.numel())
        return net(ids, **given)

    monkeypatch.setattr(live.service.lm.engine, "net", slow)
    prompt = f"{asked} " + "x" * 2500
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 2, "stream": True, "return_progress": asked}
    with httpx.stream("POST", f"{live.url}/v1/completions", json=body, timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line]
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    told = [chunk["prompt_progress"] for chunk in chunks if "prompt_progress" in chunk]
    comments = [line for line in lines if line.startswith(":")]
    if asked:
        assert [one["total"] for one in told] == [len(prompt)] * len(told)
        assert 0 < told[0]["processed"] <= told[-1]["processed"] < len(prompt)
        assert told[0]["ahead"] is None
        assert not comments
    else:
        assert not told
        assert re.fullmatch(rf": read \d+ of {len(prompt)} tokens", comments[0])
    assert lines[-1] == "data: [DONE]"

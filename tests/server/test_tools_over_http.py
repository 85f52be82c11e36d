"""Tools that the server runs for a request: each call is in the reply, whole or streamed."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tiny_service import listening

from kun.knowledge.passage import Passage
from kun.server import answering, toolboxes
from kun.server.app import create_app
from kun.server.bodies import ChatRequest
from kun.server.generated import ChatReply
from kun.server.metrics import Metrics
from kun.server.replies import Reply
from kun.server.service import ModelInfo
from kun.tools.tool import Toolbox


class Pieces(list[Any]):
    """A generation that is over."""

    def cancel(self) -> None: ...


class ScriptedModel:
    """Calls the calculator once, then says what it read."""

    name, context_length, end = "scripted", 512, "stop"

    def __init__(self) -> None:
        self.template = self.checkpoint = None

    def submit(self, messages: Sequence[dict[str, Any]], options: object = None, **given: object) -> Pieces:
        asked = messages[-1]["content"]
        if asked.startswith("search:"):
            call = {"id": "1", "function": {"name": "search", "arguments": {"query": asked[7:]}}}
            return Pieces([SimpleNamespace(text="Looking.", tool_calls=(call,), finish_reason="tool_calls")])
        if messages[-1]["role"] == "tool":
            text = f"It is: {messages[-1]['content']}"
            return Pieces([SimpleNamespace(text=text, tool_calls=(), finish_reason=self.end)])
        call = {"id": "1", "function": {"name": "calculate", "arguments": '{"expression": "6 * 7"}'}}
        return Pieces([SimpleNamespace(text="", tool_calls=(call,), finish_reason="tool_calls")])

    def count(self, text: str) -> int:
        return len(text)

    def stats(self) -> dict[str, float]:
        return {}

    def close(self) -> None: ...


class ScriptedService:
    default_encoder = "none"

    def __init__(self) -> None:
        self.lm = ScriptedModel()

    def models(self) -> list[ModelInfo]:
        return [ModelInfo("scripted", "decoder")]

    def encoders(self) -> list[ModelInfo]:
        return []

    def knowledge_bases(self) -> list[str]:
        return ["notes"]

    def knowledge_base(self, name: str) -> Any:
        passage = Passage("The Kun is a fish.", "fish.md", "Fish", None, 1.5, "1", None)
        return SimpleNamespace(search=lambda query, k: [passage])

    def loaded(self) -> list[Any]:
        return [self.lm]

    def names(self) -> list[str]:
        return ["scripted"]

    def language_model(self, name: str | None = None) -> Any:
        return self.lm

    def close(self) -> None: ...


@pytest.fixture
def client(tiny_home: object) -> Iterator[TestClient]:
    with TestClient(create_app(ScriptedService(), web=False)) as client:  # type: ignore[arg-type]
        yield client


def _body(**given: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "6 times 7?"}], "run_tools": ["calculate"], **given}


def test_the_server_runs_the_tool_and_shows_the_call(client: TestClient) -> None:
    reply = client.post("/v1/chat/completions", json=_body()).json()
    assert reply["choices"][0]["message"]["content"] == "It is: 6 * 7 = 42"
    (call,) = reply["calls"]
    assert call["name"] == "calculate"
    assert call["arguments"] == {"expression": "6 * 7"}
    assert not call["failed"]


def test_a_stream_ends_with_the_calls(client: TestClient) -> None:
    text = client.post("/v1/chat/completions", json=_body(stream=True)).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == "It is: 6 * 7 = 42"
    assert chunks[-1]["calls"][0]["result"] == "6 * 7 = 42"


def test_a_base_is_searched_and_each_call_streams_to_an_openai_client_as_it_is_made(
    tiny_home: object,
) -> None:
    service: Any = ScriptedService()
    with contextmanager(listening)(service) as live:
        stream = live.client().chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "search:the Kun"}],
            stream=True,
            extra_body={"run_tools": ["base:notes"]},
        )
        chunks = [chunk.model_dump() for chunk in stream]
    texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    place = next(n for n, chunk in enumerate(chunks) if "call" in chunk)
    assert chunks[place]["call"]["name"] == "search"
    assert chunks[place]["call"]["arguments"] == {"query": "the Kun"}
    assert "[1] fish.md › Fish\nThe Kun is a fish." in chunks[place]["call"]["result"]
    assert "".join(texts[:place]) == "Looking."
    assert "".join(texts[place:]).startswith("\n\nIt is: [1] fish.md")
    assert [call["name"] for call in chunks[-1]["calls"]] == ["search"]


def test_an_answer_that_was_cut_says_so(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    whole = client.post("/v1/chat/completions", json=_body()).json()
    assert whole["choices"][0]["finish_reason"] == "stop"
    monkeypatch.setattr(ScriptedModel, "end", "length")
    cut = client.post("/v1/chat/completions", json=_body()).json()
    assert cut["choices"][0]["finish_reason"] == "length"
    text = client.post("/v1/chat/completions", json=_body(stream=True)).text
    assert '"finish_reason":"length"' in text.replace(" ", "")


def test_tool_servers_that_hang_hold_up_no_chat_without_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    held, go = threading.Semaphore(0), threading.Event()

    def hang(*given: object) -> Toolbox:
        held.release()
        go.wait(60)
        return Toolbox([])

    monkeypatch.setattr(toolboxes, "chosen_tools", hang)

    async def ask() -> Reply:
        service: Any = ScriptedService()
        begun = answering.Answering(service, Metrics(service), toolboxes.Toolboxes(service))
        with_tools, without = (
            ChatRequest.model_validate(_body()),
            ChatRequest.model_validate(_body(run_tools=None)),
        )
        hanging = [asyncio.ensure_future(begun.chat(with_tools)) for _ in range(12)]
        await asyncio.to_thread(held.acquire)
        try:
            return await asyncio.wait_for(begun.chat(without), 30)
        finally:
            go.set()
            await asyncio.gather(*hanging)
            begun.close()

    assert isinstance(asyncio.run(ask()), ChatReply)


def test_a_name_that_is_no_tool_and_tools_of_two_kinds_are_refused(client: TestClient) -> None:
    unknown = client.post("/v1/chat/completions", json=_body(run_tools=["clock"]))
    assert unknown.status_code == 400
    assert "calculate" in unknown.json()["error"]["message"]
    tool = {"type": "function", "function": {"name": "f"}}
    assert client.post("/v1/chat/completions", json=_body(tools=[tool])).status_code == 400

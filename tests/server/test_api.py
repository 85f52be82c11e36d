"""The API, by the official client's shapes, over a tiny random model."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parents[1] / "generation"))

from tiny import language_model

from kun.errors import ModelNotFound
from kun.server.app import create_app
from kun.server.run import is_loopback
from kun.server.service import ModelInfo


class TinyService:
    default_encoder = "none"

    def __init__(self) -> None:
        self.lm = language_model(name="tiny")

    def models(self) -> list[ModelInfo]:
        return [ModelInfo("tiny", "decoder")]

    def encoders(self) -> list[ModelInfo]:
        return []

    def knowledge_bases(self) -> list[str]:
        return []

    def knowledge_base(self, name: str) -> Any:
        raise ModelNotFound(f"There is no knowledge base {name}.")

    def loaded(self) -> list[Any]:
        return [self.lm]

    def names(self) -> list[str]:
        return ["tiny"]

    def language_model(self, name: str | None = None) -> Any:
        if name not in (None, "tiny"):
            raise ModelNotFound(f"The model {name} is not served here.")
        return self.lm

    def close(self) -> None:
        self.lm.close()


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    service: Any = TinyService()
    with TestClient(create_app(service, web=False)) as made:
        yield made


HELLO = [{"role": "user", "content": "hi"}]


def ask(client: TestClient, **body: Any) -> Any:
    return client.post(
        "/v1/chat/completions", json={"model": "tiny", "messages": HELLO, "max_tokens": 4} | body
    )


def test_a_conversation_is_answered_with_its_usage(client: TestClient) -> None:
    body = ask(client, n=2, logprobs=True, top_logprobs=2).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert (
        body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    )
    assert len(body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2


def test_a_stream_says_what_the_whole_says(client: TestClient) -> None:
    import json

    whole = ask(client, seed=3).json()["choices"][0]["message"]["content"]
    lines = ask(client, seed=3, stream=True).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == whole
    assert "data: [DONE]" in lines


def test_an_echo_scores_the_prompt(client: TestClient) -> None:
    body = {"model": "tiny", "prompt": "abc", "echo": True, "logprobs": 1, "max_tokens": 1}
    choice = client.post("/v1/completions", json=body).json()["choices"][0]
    assert choice["text"].startswith("abc")
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert all(score < 0 for score in choice["logprobs"]["token_logprobs"][1:])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"temperature": -1}, 400),
        ({"messages": []}, 400),
        ({"model": "absent"}, 404),
        ({"messages": [{"role": "user", "content": "x" * 9999}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400),
        ({"unheard_of": 1}, 200),
    ],
)
def test_bad_requests_get_openai_s_error_body(
    client: TestClient, change: dict[str, Any], status: int
) -> None:
    answer = ask(client, **change)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"]["message"]


def test_a_prompt_beyond_the_context_has_openai_s_code(client: TestClient) -> None:
    answer = ask(client, messages=[{"role": "user", "content": "x" * 999}])
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_a_page_of_another_site_is_refused(client: TestClient) -> None:
    assert client.get("/v1/models", headers={"origin": "https://elsewhere.example"}).status_code == 403


def test_a_key_is_asked_for_where_keys_are_set() -> None:
    service: Any = TinyService()
    with TestClient(create_app(service, web=False, api_keys=("secret",))) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"authorization": "Bearer secret"}).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_metrics_count_what_was_asked(client: TestClient) -> None:
    ask(client)
    assert 'kun_requests_total{route="/v1/chat/completions",status="200"}' in client.get("/metrics").text


def test_only_loopback_is_loopback() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")

"""What clients do wrong, and what goes wrong: crowds, people who leave, broken bodies, wrong keys, foreign pages."""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from fastapi.testclient import TestClient
from tiny_service import Live, TinyService, listening

from kun.server import answering, guard
from kun.server.app import create_app
from kun.settings import settings

HELLO: Any = [{"role": "user", "content": "hi"}]
LONG: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 4000, "logit_bias": {"256": -1000}}


def made(service: TinyService, **given: Any) -> TestClient:
    anything: Any = service
    return TestClient(create_app(anything, web=False, **given), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with made(TinyService()) as one:
        yield one


# crowds, and people who leave


def test_five_hundred_at_once_are_answered_or_told_to_come_back(live: Live) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 8}

    async def crowd() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=120, trust_env=False) as client:
            url = f"{live.url}/v1/chat/completions"
            return await asyncio.gather(*(client.post(url, json=body) for _ in range(500)))

    answers = asyncio.run(crowd())
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert sum(statuses.values()) == 500
    assert statuses[200] >= settings().max_queue
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    live.wait("running", 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_engine(live: Live, stream: bool) -> None:
    body = json.dumps(LONG | {"stream": stream, "n": 2}).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    address = live.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as connection:
        connection.sendall(head.encode() + body)
        live.wait("running", 2)
    left = time.monotonic()
    live.wait("running", 0)
    assert time.monotonic() - left < 3
    assert live.service.lm.stats()["pages_used"] == 0


def test_a_client_that_stops_reading_a_stream_frees_the_engine(live: Live) -> None:
    stream = live.client().chat.completions.create(**LONG, stream=True)
    next(iter(stream))
    live.wait("running", 1)
    stream.close()
    live.wait("running", 0)


def test_a_client_that_leaves_a_knowledge_base_ends_its_answer(live: Live) -> None:
    notes = live.service.notes
    notes.gate.clear()
    notes.cancelled.clear()
    with pytest.raises(openai.APITimeoutError):
        live.client(timeout=0.3).chat.completions.create(model="notes@tiny", messages=HELLO)
    assert notes.cancelled.wait(5)
    notes.gate.set()


def test_a_server_that_stops_ends_what_runs_within_seconds() -> None:
    serving = listening(TinyService(positions=4096))
    live = next(serving)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            live.client().chat.completions.create(
                **LONG, n=16
            )  # more than the seconds of grace are enough for
        except BaseException as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    live.wait("running", 16)
    started = time.monotonic()
    with pytest.raises(StopIteration):
        next(serving)
    asking.join(5)
    assert time.monotonic() - started < 15
    assert isinstance(raised[0], openai.APIError)


# bodies


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[1, 2]", "application/json"),
        (b'"text"', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"messages": ' + b"9" * 5000 + b"}", "application/json"),
        (b'{"messages": [{"role": "user", "content": "hi"}]}', "text/plain"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}', "application/json"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}', "application/json"),
    ],
)
def test_a_body_that_cannot_be_read_is_400(client: TestClient, body: bytes, kind: str) -> None:
    answer = client.post("/v1/chat/completions", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"n": 0}, "n"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": ""}]}, "messages.0.role"),
        ({"seed": 2**70}, "seed"),
    ],
)
def test_a_field_that_does_not_fit_is_named(client: TestClient, given: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/chat/completions", json={"messages": HELLO} | given)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_fields_that_are_unknown_are_ignored_and_named_once(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        body = {"messages": HELLO, "max_tokens": 1, "reasoning_effort": "high", "x\ny": 1, "top_p": None}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    named = [record.getMessage() for record in caplog.records if record.name == "kun.server"]
    assert named == ["Ignored fields of a request: 'reasoning_effort', 'x\\ny'"]


def test_a_whole_number_may_be_written_with_a_point(client: TestClient) -> None:
    """JSON has one kind of numbers, and some clients write all of them so."""
    body = {"model": "tiny", "prompt": [[72.0, 105.0]], "max_tokens": 2.0, "seed": 1.0, "temperature": 1}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] == 2
    assert client.post("/v1/completions", json=body | {"max_tokens": 2.5}).status_code == 400


def test_half_a_character_is_read_as_a_question_mark(client: TestClient) -> None:
    body = b'{"messages": [{"role": "user", "content": "\\ud800"}], "max_tokens": 1}'
    headers = {"content-type": "application/json"}
    assert client.post("/v1/chat/completions", content=body, headers=headers).status_code == 200
    named = client.post("/v1/embeddings", content=b'{"model": "\\ud800", "input": "a"}', headers=headers)
    assert named.status_code == 400
    assert client.post("/v1/embeddings", content=b'{"input": "\\ud800"}', headers=headers).status_code == 200
    echoed = client.post(
        "/v1/completions", content=b'{"prompt": "\\ud800", "echo": true, "max_tokens": 0}', headers=headers
    )
    assert echoed.json()["choices"][0]["text"] == "?"


@pytest.mark.parametrize("said", [True, False])
def test_a_body_beyond_the_limit_is_413_whatever_it_says_of_its_length(
    tiny_home: Any, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    monkeypatch.setenv("KUN_MAX_REQUEST_BYTES", "1000")
    settings.cache_clear()
    read = 0

    def parts() -> Iterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b" " * 100

    for live in listening(TinyService()):
        content: Any = b" " * 2000 if said else parts()
        answer = httpx.post(f"{live.url}/v1/chat/completions", content=content, trust_env=False)
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_does_not_come_is_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_BODY_SECONDS", 0.2)
    address = live.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "a", "suffix": "b"}),
        ("/v1/completions", {"prompt": []}),
        ("/v1/completions", {"prompt": [[]]}),
        ("/v1/completions", {"prompt": [-1]}),
        ("/v1/completions", {"prompt": [99999]}),
        ("/v1/completions", {"prompt": "a", "n": 3, "best_of": 2}),
        ("/v1/completions", {"prompt": "a", "best_of": 2, "stream": True}),
        ("/v1/embeddings", {"input": [99999]}),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}),
        ("/v1/embeddings", {"input": ["a"] * 2049}),
        ("/v1/embeddings", {"input": "a", "input_type": "riddle"}),
        ("/v1/chat/completions", {"messages": HELLO, "top_logprobs": 2}),
    ],
)
def test_what_is_not_done_is_said(client: TestClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


# places and methods


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1/", "/v1/chat", "/nowhere", "/v1/models/nothing"])
def test_a_place_that_is_not_there_is_404_in_openai_s_form(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/embeddings", "POST"), ("DELETE", "/v1/models/tiny", "GET"), ("POST", "/healthz", "GET")],
)
def test_another_method_is_405_and_says_which(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.json()["error"]["message"]


# keys and pages


def test_any_of_the_keys_opens_and_no_other_does() -> None:
    with made(TinyService(), api_keys=("one", "zwei-ö")) as client:

        def status(key: str | bytes | None, path: str = "/v1/models") -> int:
            headers: Any = {} if key is None else {b"authorization": key}
            return client.get(path, headers=headers).status_code

        assert status(b"Bearer one") == status("Bearer zwei-ö".encode()) == status(b"bearer one") == 200
        for wrong in (None, b"Bearer", b"Bearer on", b"Bearer one ", b"Basic one", b"one", b"Bearer \xff"):
            assert status(wrong) == (200 if wrong == b"Bearer one " else 401)
        assert status(None, "/healthz") == 200
        assert status(None, "/metrics") == status(None, "/openapi.json") == 401
        refused = client.get("/v1/models").json()["error"]
        assert (refused["type"], refused["code"]) == ("authentication_error", "invalid_api_key")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8000"}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example."}, 403),
        ({"host": "127.0.0.1.evil.example:8000"}, 403),
        ({"host": "localhost", "origin": "http://localhost"}, 200),
        ({"host": "localhost", "origin": "https://evil.example"}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:9000"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_do_not_reach_a_server_on_loopback(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/v1/embeddings", json={"input": "a"}, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_answers_forbid_what_browsers_might_make_of_them(client: TestClient) -> None:
    for answer in (client.get("/v1/models"), client.get("/v1/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


def test_a_request_goes_by_the_id_that_its_client_gave_it(client: TestClient) -> None:
    assert client.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    ids = {client.get("/healthz", headers={"x-request-id": "a b"}).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


# inner faults


def test_a_fault_is_500_and_tells_nothing_of_the_inside(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("the secret path /etc/kun")

    monkeypatch.setattr(answering.Answering, "_embed", fail)
    answer = client.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "server_error"


def test_a_fault_within_a_stream_is_its_last_event(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr("kun.server.generated.chat_scores", fail)
    body = {"messages": HELLO, "stream": True, "logprobs": True, "max_tokens": 3}
    events = client.post("/v1/chat/completions", json=body).text.strip().split("\n\n")
    assert json.loads(events[-1].removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in "".join(events)


# figures


def test_figures_are_labelled_from_fixed_sets(client: TestClient) -> None:
    for place in range(30):
        client.get(f"/v1/models/{place}")
        client.get(f"/elsewhere/{place}")
    client.post("/v1/embeddings", json={"input": "abc"})
    text = client.get("/metrics").text
    assert 'kun_requests_total{route="/v1/models/{model}",status="404"} ' in text
    assert 'kun_requests_total{route="other",status="404"} ' in text
    assert "/elsewhere" not in text
    assert 'kun_queued{model="tiny"} 0.0' in text
    assert "kun_embedded_tokens_total" in text
    assert 'kun_generated_tokens_total{model="tiny"}' in text


def test_a_schema_that_is_too_large_is_refused_before_it_is_tried(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    monkeypatch.setattr("kun.generation.schemas.weakened", tried.append)
    schema = {"type": "object", "properties": {f"p{place}": {"not": {}} for place in range(5000)}}
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    body = {"model": "tiny", "messages": HELLO, "response_format": wanted}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "longer than" in answer.json()["error"]["message"]
    assert not tried

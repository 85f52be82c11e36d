"""Endpoints that are slow, limit their rate, return nonsense, or die half way: scripted on loopback."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kun.errors import BadInput, Busy, ModelNotFound, NotFound, NotPermitted, Unavailable
from kun.models.endpoint import Endpoint, is_endpoint
from kun.models.writers import Asked, Written
from kun.settings import settings

QUESTION = Asked(({"role": "user", "content": "Hi"},), 8, 0.5, 7, ("\n",))
Act = Callable[["Handler"], None]


def completion(text: Any, finish: str | None = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def says(body: Any, status: int = 200, **headers: str) -> Act:
    """Reply with a JSON body, or with bytes as they are."""

    def act(handler: "Handler") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return act


def dies(handler: "Handler") -> None:
    """Promise a long body, and hang up in the middle of it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def drips(handler: "Handler") -> None:
    """A byte now and then, so that no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def refuses(message: str, status: int = 400, **more: str) -> Act:
    return says({"error": {"message": message, **more}}, status)


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_POST(self) -> None:
        self._act(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_GET(self) -> None:
        self._act(None)

    def _act(self, body: Any) -> None:
        with self.server.lock:
            self.server.asked.append((self.path, body, self.headers.get("Authorization")))
            acts = self.server.acts
            act = acts.pop(0) if len(acts) > 1 else acts[0]
        with suppress(OSError):  # the client has left
            act(self)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Does one act after the other, the last of them for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.acts, self.asked = threading.Lock(), [says(completion("yes"))], []  # type: ignore[var-annotated]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield one
        one.shutdown()


def endpoint(server: Server, **options: Any) -> Endpoint:
    given: dict[str, Any] = {"first_wait": 0.01, "timeout": 5.0} | options
    return Endpoint(server.url, "some-model", **given)


def ask(server: Server, *acts: Act, **options: Any) -> Any:
    server.acts = list(acts)
    return dict(endpoint(server, **options).write([QUESTION]))[0]


def test_a_question_is_sent_as_the_protocol_has_it(server: Server) -> None:
    assert ask(server, says(completion(" yes", "length"))) == Written(" yes", 3, 2, ended=False)
    path, body, key = server.asked[0]
    assert (path, key) == ("/v1/chat/completions", None)
    assert body == {
        "model": "some-model", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0.5,
        "seed": 7, "stop": ["\n"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "failure",
    [
        says(b"<html>bad gateway</html>", 502),
        refuses("slow down", 429),
        says(b"no JSON at all"),
        says([1]),
        says({"choices": []}),
        says(completion(None, None)),
        says(completion(7)),
        dies,
    ],
)
def test_what_may_pass_is_tried_again(server: Server, failure: Act) -> None:
    assert ask(server, failure, failure, says(completion("yes"))).text == "yes"
    assert len(server.asked) == 3


def test_the_wait_that_the_server_asks_for_is_kept(server: Server) -> None:
    began = time.monotonic()
    assert ask(server, says(b"{}", 429, Retry_After="0.3"), says(completion("yes"))).text == "yes"
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("act", "kind", "times"),
    [(refuses("slow down", 429), Busy, 4), (dies, Unavailable, 2), (drips, Unavailable, 1)],
)
def test_limits_of_rate_are_waited_for_longer_than_what_is_broken_or_never_comes(
    server: Server, act: Act, kind: type[Exception], times: int
) -> None:
    with pytest.raises(kind, match=rf"no usable reply \(tries: {times};"):
        ask(server, act, tries=2, timeout=0.3)
    assert len(server.asked) == times


def test_an_endpoint_that_is_not_there_is_unavailable(server: Server) -> None:
    gone = Endpoint("http://127.0.0.1:9", "some-model", first_wait=0.01, tries=2)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        list(gone.write([QUESTION]))


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (refuses("wrong key", 401), NotPermitted),
        (refuses("pay first", 429, code="insufficient_quota"), NotPermitted),
        (refuses("no such model", 404), ModelNotFound),
        (says(b"", 307, Location="http://elsewhere/v1"), NotFound),
    ],
)
def test_what_will_not_pass_ends_the_work_at_once(server: Server, act: Act, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ask(server, act)
    assert len(server.asked) == 1


def test_what_is_wrong_with_one_question_is_that_ones_answer(server: Server) -> None:
    found = ask(server, refuses("context too long"))
    assert isinstance(found, BadInput)
    assert "context too long" in str(found)


def test_fields_that_an_endpoint_does_not_take_are_renamed_or_left_out(server: Server) -> None:
    acts = [
        refuses("use 'max_completion_tokens' instead", param="max_tokens", code="unsupported_parameter"),
        refuses("only the default is supported", param="temperature", code="unsupported_value"),
        says(completion("yes")),
    ]
    assert ask(server, *acts).text == "yes"
    body = server.asked[-1][1]
    assert body["max_completion_tokens"] == 8
    assert not {"max_tokens", "temperature"} & body.keys()


def test_answers_come_with_their_places_and_several_run_at_once(server: Server) -> None:
    running, most = [0], [0]

    def slow(handler: Handler) -> None:
        with server.lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.1)
        with server.lock:
            running[0] -= 1
        says(completion("yes"))(handler)

    server.acts = [slow]
    found = dict(endpoint(server, parallel=3).write([QUESTION] * 6))
    assert sorted(found) == list(range(6))
    assert most[0] == 3


def test_who_stops_reading_waits_for_nobody(server: Server) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(1.0)
        says(completion("late"))(handler)

    server.acts = [says(completion("yes")), slow]
    began = time.monotonic()
    answers = endpoint(server, parallel=2).write([QUESTION] * 8)
    assert next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 0.8
    assert len(server.asked) <= 3


def test_keys_go_to_their_host_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(keys: str) -> str:
        monkeypatch.setenv("KUN_ENDPOINT_KEYS", keys)
        settings.cache_clear()
        ask(server, says(completion("yes")))
        return str(server.asked[-1][2])

    port = server.server_address[1]
    assert sent("api.example.org=other") == "None"
    assert sent("api.example.org=other,127.0.0.1=mine") == "Bearer mine"
    assert sent(f"all,127.0.0.1:{port}=mine") == "Bearer mine"
    assert sent("all==") == "Bearer all=="
    monkeypatch.delenv("KUN_ENDPOINT_KEYS")
    settings.cache_clear()


def test_without_a_name_the_first_model_that_is_served_is_asked(server: Server) -> None:
    server.acts = [says({"data": [{"id": "served"}]}), says(completion("yes"))]
    assert Endpoint.named(server.url).name == "served"
    assert server.asked[0][0] == "/v1/models"
    server.acts = [says({"data": []})]
    with pytest.raises(ModelNotFound, match="lists no model"):
        Endpoint.named(server.url)


def test_names_of_endpoints_are_told_from_models_and_checked() -> None:
    assert is_endpoint("notes@qwen@http://localhost:8000/v1")
    assert is_endpoint("https://api.example.org/v1")
    assert not is_endpoint("smollm2-135m-instruct")
    assert not is_endpoint("runs/a@b/checkpoint")
    with pytest.raises(BadInput, match="no address"):
        Endpoint("http://user:secret@127.0.0.1/v1", "m")
    with pytest.raises(Unavailable, match="KUN_OFFLINE"):
        Endpoint("https://api.example.org/v1", "m")

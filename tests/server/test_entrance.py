"""One entrance for the API and the web app: what one of them refuses by its headers, the other refuses, too."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from kun.server.entrance import is_api, is_key, is_longer, refusal
from kun.server.guard import Guard
from kun.server.web.gate import Gate, Sessions

HOSTS = (
    st.text(st.characters(max_codepoint=255, exclude_categories=("Cc",)), max_size=40)
    | st.sampled_from(
        ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "[foo", "evil.example", "a@b.c", ""]
    )
    | st.text("[]:.@/\\%0aA-", max_size=12)
)
ORIGINS = st.none() | HOSTS | HOSTS.map("http://{}".format) | st.just("null")


class Watch:
    """Metrics that keep nothing."""

    def observe(self, path: str, status: int, seconds: float) -> None: ...


def status(app: ASGIApp, path: str, headers: dict[str, str]) -> int:
    """The status of one GET request with these headers, straight through the middleware."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": raw, "query_string": b""}
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


def api(keys: tuple[str, ...] = ()) -> ASGIApp:
    metrics: Any = Watch()
    return Guard(PlainTextResponse("api"), keys, metrics, everything=True)


def web(keys: tuple[str, ...] = ()) -> ASGIApp:
    return Gate(PlainTextResponse("web"), None, Sessions(keys, b"secret" * 8))


@given(HOSTS, ORIGINS)
def test_the_api_and_the_web_app_refuse_the_same_hosts_and_origins(host: str, origin: str | None) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    wanted = 403 if refusal(Headers(headers), ()) else 200
    assert (status(api(), "/v1/models", headers), status(web(), "/login/", headers)) == (wanted, wanted)


@given(HOSTS, ORIGINS)
def test_with_keys_every_host_is_served_but_only_its_own_pages(host: str, origin: str | None) -> None:
    headers = Headers({"host": host} | ({} if origin is None else {"origin": origin}))
    if origin is None:
        assert refusal(headers, ("key",)) is None
    elif refusal(headers, ("key",)) is None:
        assert origin.lower().endswith(host.lower().split("/")[0].split("?")[0].split("#")[0])


@pytest.mark.parametrize("host", ["[foo", "foo]", "[::1", "evil.example", "evil.example.", "[evil.example]"])
def test_a_host_that_is_no_host_or_a_public_name_is_refused_without_keys(host: str) -> None:
    assert refusal(Headers({"host": host}), ()) is not None


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "a.localhost", "10.0.0.7:8000", "[::1]:8000", "laptop"]
)
def test_this_machines_own_names_are_served_to_their_own_pages(host: str) -> None:
    assert refusal(Headers({"host": host, "origin": f"http://{host.lower()}"}), ()) is None


@pytest.mark.parametrize("origin", ["null", "http://[foo", "https://evil.example", "http://localhost:1", ""])
def test_pages_of_other_sites_are_refused_with_keys_too(origin: str) -> None:
    assert refusal(Headers({"host": "localhost", "origin": origin}), ("key",)) is not None


@given(st.text(st.characters(max_codepoint=255, exclude_categories=("Cc",)), max_size=30))
def test_any_announced_length_is_a_short_one_or_too_long(length: str) -> None:
    sound = length.isascii() and length.isdigit() and len(length) <= 18
    assert is_longer(Headers({"content-length": length}), 10) == (not sound or int(length) > 10)


def test_a_length_of_thousands_of_digits_is_too_long() -> None:
    headers = {"host": "localhost", "content-length": "9" * 5000}
    assert status(api(), "/v1/models", headers) == 413
    assert status(web(), "/", headers) == 413


@given(st.binary(max_size=20))
def test_a_key_is_known_by_its_bytes_alone(sent: bytes) -> None:
    keys = ("sesame", "öffne dich")
    assert is_key(sent, keys) == (sent in [key.encode() for key in keys])
    assert is_key(keys[1].encode(), keys)
    assert not is_key(b"", ())


def test_the_api_is_where_keys_are_asked_for() -> None:
    assert all(map(is_api, ["/v1", "/v1/models", "/healthz", "/metrics", "/openapi.json"]))
    assert not any(map(is_api, ["/", "/v10", "/healthzz", "/docs", "/login", ""]))
    headers = {"host": "localhost"}
    assert status(api(("key",)), "/v1/models", headers) == 401
    assert status(api(("key",)), "/v1/models", headers | {"authorization": "Bearer key"}) == 200

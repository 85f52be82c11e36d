"""What every request to the API passes: host, origin, key, size, time; and what every answer carries.

An ASGI middleware, since the body is counted while it arrives, and a client that leaves is seen at once.
"""

import asyncio
import hmac
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kun.errors import Busy, KunError, NotPermitted, TooLarge
from kun.server.failures import ClientLeft, Json, error_response, kun_error
from kun.server.metrics import Metrics
from kun.settings import settings

log = logging.getLogger("kun.server")
_API = ("/v1", "/healthz", "/metrics", "/openapi.json")
_BODY_SECONDS = 60.0
_BODIES_HELD = 4
"""How many bodies of the largest size may be in memory at once."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Before the API; with `everything`, before all paths. Paths of the web app pass: it has a gate of its own."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], metrics: Metrics, everything: bool) -> None:
        self._app, self._keys, self._metrics, self._everything = app, tuple(keys), metrics, everything
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (self._everything or is_api(scope["path"])):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, _request_id(headers))
        started = time.perf_counter()
        try:
            await self._pass(scope, headers, receive, answer)
        finally:
            self._metrics.observe(scope["path"], answer.status, time.perf_counter() - started)

    async def _pass(self, scope: Scope, headers: Headers, receive: Receive, answer: "_Answer") -> None:
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, answer.send)
            return
        try:
            body = await self._body(headers, receive)
        except ClientLeft:
            answer.status = 499
            return
        except KunError as error:
            await _last(kun_error(error))(scope, receive, answer.send)
            return
        except TimeoutError:
            late = error_response(408, f"The body did not arrive within {_BODY_SECONDS:.0f} seconds.")
            await _last(late)(scope, receive, answer.send)
            return
        try:
            await self._app(scope, _replayed(body, receive), answer.send)
        except Exception:
            log.exception("Request %s failed", answer.id)
            if answer.status:
                raise  # too late for another answer: the connection is cut
            message = f"The server failed on this request; its log says why, under {answer.id}."
            await error_response(500, message, "server_error")(scope, receive, answer.send)
        finally:
            self._held -= len(body)

    def _refusal(self, scope: Scope, headers: Headers) -> Json | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._keys and _is_public_name(host):
            message = "Without API keys this server answers only to localhost and to addresses."
            return error_response(403, message, "permission_error")
        if origin is not None and urlsplit(origin).netloc != host:
            return error_response(403, "Pages of other sites are not answered.", "permission_error")
        if self._keys and scope["path"] != "/healthz" and not self._has_key(headers):
            message = "The API key is missing or wrong: send it as 'Authorization: Bearer KEY'."
            return kun_error(NotPermitted(message))
        return None

    def _has_key(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        # headers are read as Latin-1 whatever they are; every key is compared, so that the time taken tells nothing
        sent = given.strip().encode("latin-1")
        matches = [hmac.compare_digest(sent, key.encode()) for key in self._keys]
        return kind.lower() == "bearer" and any(matches)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body. Raises `TooLarge` as soon as that is known, `Busy` when others' fill the memory."""
        most, size, chunks = settings().max_request_bytes, 0, []
        said = headers.get("content-length", "0")
        if said.isdecimal() and int(said) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    chunk = message.get("body", b"")
                    chunks.append(chunk)
                    size += len(chunk)
                    self._held += len(chunk)
                    if size > most:
                        raise _too_large(most)
                    if self._held > _BODIES_HELD * most:
                        raise Busy("Other requests fill the memory: try again in a while.")
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except BaseException:
            self._held -= size
            raise


class _Answer:
    """The way out: it adds headers and remembers the status, 0 until there is one."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self.id, self.status = send, request_id, 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def is_api(path: str) -> bool:
    return any(path == prefix or path.startswith(prefix + "/") for prefix in _API)


def _request_id(headers: Headers) -> str:
    """The client's own where it sent a sound one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, then whatever comes: the client's leaving."""
    read = False

    async def replayed() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _last(response: Json) -> Json:
    """For a client that has not sent all of its body: nothing more is read from this connection."""
    response.headers["Connection"] = "close"
    return response


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The request is larger than {most:,} bytes: send less at once.")


def _is_public_name(host: str) -> bool:
    """Whether someone else's DNS could point this name here (rebinding): one with a dot that is no address."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name and not name.endswith(".localhost")
    return False

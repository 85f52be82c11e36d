"""The way into the API: host, origin, key, size and time of every request, and the headers of every answer.

An ASGI middleware, since the body is counted while it arrives, and a client that leaves is seen at once.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kun.errors import Busy, KunError, NotPermitted, TooLarge
from kun.server.entrance import COMMON_HEADERS, is_api, is_key, is_longer, refusal
from kun.server.failures import ClientLeft, Json, error_response, kun_error
from kun.server.metrics import Metrics
from kun.settings import settings

log = logging.getLogger("kun.server")
_BODY_SECONDS = 60.0
_BODIES_HELD = 4
"""Bodies of the largest size that may be in memory at once."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_HEADERS = {
    **COMMON_HEADERS,
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
        refused = self._refusal(scope, headers)
        if refused is not None:
            await refused(scope, receive, answer.send)
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
        reason = refusal(headers, self._keys)
        if reason is not None:
            return error_response(403, reason, "permission_error")
        if self._keys and scope["path"] != "/healthz" and not self._has_key(headers):
            message = "The API key is missing or wrong: send it as 'Authorization: Bearer KEY'."
            return kun_error(NotPermitted(message))
        return None

    def _has_key(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        sent = given.strip().encode("latin-1")  # as headers are read, whatever they are
        return is_key(sent, self._keys) and kind.lower() == "bearer"

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body. Raises `TooLarge` as soon as that is known, `Busy` when others' fill the memory."""
        most, size, chunks = settings().max_request_bytes, 0, []
        if is_longer(headers, most):
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

"""An answer on its way to a client: whole, or as server-sent events; it ends when the client leaves."""

import asyncio
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kun.errors import KunError, Unavailable
from kun.server.failures import ClientLeft, JsonObject, code_of, encoded, error_object

log = logging.getLogger("kun.server")
Result = TypeVar("Result")
_PAUSE_SECONDS = 1.0
LONGEST_SECONDS = 3600.0
"""An answer that takes longer is given up: nobody waits for it."""


class Reply(ABC):
    """An answer that is being written: take it `whole`, or as `chunks`; `cancel` it when it is not wanted."""

    def __init__(self, model: str, kind: str) -> None:
        self._head: JsonObject = {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    async def whole(self) -> JsonObject:
        return self._head | await self._collect()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events; a failure is the last of them, and nothing follows it."""
        try:
            async with aclosing(_with_pauses(self._chunks())) as chunks:
                async for chunk in chunks:
                    yield self._waiting() if chunk is None else event(self._head | chunk)
        except KunError as error:
            yield event(error_object(str(error), error.http_type, code_of(error)))
        except Exception:
            log.exception("An answer failed")
            yield event(error_object("The server failed on this request; its log says why.", "server_error"))
        else:
            yield b"data: [DONE]\n\n"

    def _waiting(self) -> bytes:
        """An event for who waits, each second without another: a comment, which clients skip and proxies count."""
        return b": working\n\n"

    @abstractmethod
    def cancel(self) -> None: ...

    @abstractmethod
    async def _collect(self) -> JsonObject: ...

    @abstractmethod
    def _chunks(self) -> AsyncGenerator[JsonObject, None]: ...


class EventStream(Response):
    """Sends the events of a reply, which is cancelled however that ends."""

    media_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_left(receive, self._send(send))
        except ClientLeft:
            pass
        finally:
            self._reply.cancel()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        async with aclosing(self._reply.events()) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_left(receive: Receive, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves.

    Raises `ClientLeft` then, and `Unavailable` after `LONGEST_SECONDS`. The request's body must have been read.
    """
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({task, leaving}, timeout=LONGEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if leaving.done():
            raise ClientLeft
        raise Unavailable(f"The answer took longer than {LONGEST_SECONDS:.0f} seconds: ask for less at once.")
    finally:
        for one in (task, leaving):
            one.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _with_pauses(chunks: AsyncGenerator[JsonObject, None]) -> AsyncGenerator[JsonObject | None, None]:
    """The chunks, and None for each second without one."""
    following: asyncio.Future[JsonObject] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(chunks))
            await asyncio.wait({following}, timeout=_PAUSE_SECONDS)
            if not following.done():
                yield None
                continue
            done, following = following, None
            try:
                yield done.result()
            except StopAsyncIteration:
                return
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await chunks.aclose()


def event(value: JsonObject) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"

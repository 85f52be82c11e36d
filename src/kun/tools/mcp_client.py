"""Tools of other people's servers, over the Model Context Protocol (its own SDK), each call within its time.

A server by its command is started when its tools are first wanted, and ended with the `Connections` that hold it.
"""

import asyncio
import logging
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TextIO, TypeVar

from kun.errors import KunError, Unavailable
from kun.tools.servers import Server
from kun.tools.tool import Tool

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage

    _Streams = tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]

_START_SECONDS = 20.0
"""Time for a server to start and list its tools: a first start may have to compile its files."""
_CALL_SECONDS = 30.0
_MOST_TOOLS = 48
_LONGEST_SCHEMA = 20_000
_Result = TypeVar("_Result")


class Connection:
    """One server, in a thread of its own, until `close`."""

    def __init__(self, server: Server, start_seconds: float = _START_SECONDS) -> None:
        import mcp.client.stdio
        import mcp.client.streamable_http  # noqa: F401 - takes seconds, which are none of the server's

        logging.getLogger("mcp").setLevel(
            logging.CRITICAL + 1
        )  # a server's nonsense becomes one sentence here
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._session: ClientSession | None = None
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - until close
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"kun-mcp-{server.name}", daemon=True
        )
        self._thread.start()
        self._started = threading.Event()
        self._fault: BaseException | None = None
        self._serving = asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        if not self._started.wait(start_seconds):
            self.close()
            raise Unavailable(
                f"The tool server {server.name} ({server.shown}) did not answer within {start_seconds:g} seconds: "
                f"start it by hand to see why, or remove it with `kun tools remove {server.name}`."
            )
        if self._session is None:
            fault = self._fault
            self.close()
            raise Unavailable(self._sentence(fault)) from fault

    def _sentence(self, fault: BaseException | None) -> str:
        server = self._server
        causes = list(_causes(fault))
        if any(isinstance(one, FileNotFoundError | PermissionError) for one in causes):
            return (
                f"The tool server {server.name} cannot be started: {server.command[0]} is no program here: install it, "
                f"or remove the server with `kun tools remove {server.name}`."
            )
        last = self._last_error()
        reason = last or " ".join(str(causes[-1]).split())[:200] if causes else last
        return f"The tool server {server.name} ({server.shown}) cannot be spoken to{f': {reason}' if reason else ''}."

    def _last_error(self) -> str:
        """The last line that the server wrote as an error."""
        try:
            self._errors.seek(0)
            lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        except (OSError, ValueError):
            return ""
        return lines[-1][:200].rstrip(".") if lines else ""

    async def _serve(self) -> None:
        try:
            from mcp import ClientSession

            async with (
                _streams(self._server, self._errors) as (read, write),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                self._session = session
                self._started.set()
                await self._closing.wait()
        except BaseException as error:
            self._fault = error
        finally:
            self._session = None if not self._started.is_set() or self._fault else self._session
            self._started.set()

    def _run(
        self, ask: "Callable[[ClientSession], Awaitable[_Result]]", seconds: float, wanted: str
    ) -> _Result:
        session = self._session
        if session is None:
            raise Unavailable(self._sentence(self._fault))

        async def asked() -> _Result:
            return await ask(session)

        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(asked(), seconds), self._loop)
        try:
            return future.result(seconds + 5)
        except TimeoutError as error:
            future.cancel()
            raise Unavailable(
                f"The tool server {self._server.name} did not answer within {seconds:g} seconds ({wanted}): ask again."
            ) from error
        except KunError:
            raise
        except Exception as error:
            raise Unavailable(
                f"The tool server {self._server.name} could not do this ({wanted}): "
                f"{' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__}."
            ) from error

    def tools(self, seconds: float = _START_SECONDS) -> list[Tool]:
        """The server's tools as Kun's. Raises `Unavailable`."""
        listed = self._run(lambda session: session.list_tools(), seconds, "its tools")
        offered = {
            _tool_name(self._server.name, one.name): one for one in reversed(listed.tools[:_MOST_TOOLS])
        }
        return [
            Tool(
                name,
                " ".join((one.description or one.name).split())[:600],
                _schema(one.input_schema),
                self._caller(one.name),
                seconds=_CALL_SECONDS + 5,
            )
            for name, one in reversed(offered.items())
        ]

    def _caller(self, name: str) -> Callable[[Mapping[str, object]], str]:
        def call(arguments: Mapping[str, object]) -> str:
            result = self._run(lambda session: session.call_tool(name, dict(arguments)), _CALL_SECONDS, name)
            text = _text_of(getattr(result, "content", ()))
            if getattr(result, "is_error", False):
                raise Unavailable(f"{name} says: {' '.join(text.split())[:400].rstrip('.') or 'it failed'}.")
            return text

        return call

    def close(self) -> None:
        """End the connection, and the server where Kun started it."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closing.set)
            if not self._started.is_set():
                self._serving.cancel()
        with suppress(BaseException):
            self._serving.result(5)
        self._session = None  # who still holds one of its tools gets a sentence, not a closed loop
        with suppress(RuntimeError):  # where it is closed already, or its thread does not end
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()
        self._errors.close()


def _causes(error: BaseException | None) -> "list[BaseException]":
    """An error and those within it, the innermost last."""
    if error is None:
        return []
    inner = (
        error.exceptions
        if isinstance(error, BaseExceptionGroup)
        else [error.__cause__]
        if error.__cause__
        else []
    )
    return [error, *(one for each in inner for one in _causes(each))]


@asynccontextmanager
async def _streams(server: Server, errors: TextIO) -> "AsyncIterator[_Streams]":
    if server.url:
        from mcp.client.streamable_http import streamable_http_client

        async with streamable_http_client(server.url) as streams:
            yield streams[0], streams[1]
        return
    from mcp.client.stdio import StdioServerParameters, stdio_client

    command, *arguments = server.command
    async with stdio_client(StdioServerParameters(command=command, args=arguments), errlog=errors) as streams:
        yield streams[0], streams[1]


def _tool_name(server: str, name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", f"{server}_{name}")[:64]


def _schema(schema: object) -> Mapping[str, object]:
    fits = isinstance(schema, dict) and len(repr(schema)) <= _LONGEST_SCHEMA
    return schema if isinstance(schema, dict) and fits else {"type": "object"}


def _text_of(content: Sequence[object]) -> str:
    """The texts of a result; what is no text is named."""
    parts = []
    for one in content:
        text = getattr(one, "text", None)
        parts.append(text if isinstance(text, str) else f"[{getattr(one, 'type', 'something')}]")
    return "\n".join(parts)


class Connections:
    """The connections of one conversation, or of a server: use it in a `with`, or `close` it. Safe for threads."""

    def __init__(self) -> None:
        self._open: dict[str, Connection] = {}
        self._starting: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._closed = False

    def tools(self, server: Server) -> list[Tool]:
        """The tools of a server, which is started for it, and again where it has ended. Raises `Unavailable`."""
        with self._lock:
            starting = self._starting.setdefault(server.name, threading.Lock())
        with starting:  # one that does not answer holds up only those who want the same
            known = self._open.get(server.name)
            if known is not None:
                try:  # a server that ended is noticed only when it is asked
                    return known.tools()
                except Unavailable:
                    with self._lock:
                        self._open.pop(server.name, None)
                    known.close()
            fresh = Connection(server)
            try:
                found = fresh.tools()
                with self._lock:
                    if self._closed:
                        raise Unavailable("Kun is stopping: ask again when it is back.")
                    self._open[server.name] = fresh
            except BaseException:
                fresh.close()
                raise
            return found

    def close(self) -> None:
        with self._lock:
            self._closed = True
            every = list(self._open.values())
            self._open.clear()
        for one in every:
            one.close()

    def __enter__(self) -> "Connections":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

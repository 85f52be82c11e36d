"""One request from outside: pieces come out of it while the engine works, and it can be given up."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "cancelled", "tool_calls"]


@dataclass(frozen=True)
class TokenLogprob:
    """A token, its log-probability under the network (before temperature and filters), and the likeliest ones."""

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Piece:
    """What has become certain of completion `index`. The last piece of each has a `finish_reason`."""

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass
class Completion:
    """One whole completion."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "cancelled"
    logprobs: list[TokenLogprob] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.token_ids.extend(piece.token_ids)
        self.logprobs.extend(piece.logprobs)
        self.tool_calls.extend(piece.tool_calls)
        self.finish_reason = piece.finish_reason or self.finish_reason


class Generation:
    """A running request: iterate over it (or `async for`) for `Piece`s, or wait for its `result`.

    `prompt_tokens` and `truncated` (whether the prompt lost its oldest part) are known at once,
    `prompt_logprobs` (None for the first token) and `cached_tokens` before the first piece.
    An error of the engine is raised where the pieces are read.
    """

    def __init__(self, prompt_tokens: int, n: int, truncated: bool = False) -> None:
        self.prompt_tokens = prompt_tokens
        self.truncated = truncated
        self.cached_tokens = 0
        self.prompt_logprobs: list[TokenLogprob | None] | None = None
        self._n = n
        self._open = n
        self._lock = threading.Lock()
        self._items: queue.SimpleQueue[Piece | BaseException] = queue.SimpleQueue()
        self._elsewhere: Callable[[Piece | BaseException], None] | None = None
        self._cancelled = threading.Event()
        self._failed = False

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Give up: the engine stops at its next step, and the last pieces say "cancelled"."""
        self._cancelled.set()

    def put(self, item: Piece | BaseException) -> None:
        """The engine's side: hand over a piece, or the error that ends everything."""
        with self._lock:
            (self._elsewhere or self._items.put)(item)

    def __iter__(self) -> Iterator[Piece]:
        while self._open and not self._failed:
            yield self._checked(self._items.get())

    async def __aiter__(self) -> AsyncIterator[Piece]:
        arrived: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
        self._redirect(asyncio.get_running_loop(), arrived)
        while self._open and not self._failed:
            yield self._checked(await arrived.get())

    def _redirect(self, loop: asyncio.AbstractEventLoop, arrived: "asyncio.Queue[Any]") -> None:
        def over(item: Piece | BaseException) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(arrived.put_nowait, item)

        with self._lock:
            while not self._items.empty():
                arrived.put_nowait(self._items.get())
            self._elsewhere = over

    def _checked(self, item: Piece | BaseException) -> Piece:
        if isinstance(item, BaseException):
            self._failed = True
            raise item
        if item.finish_reason is not None:
            self._open -= 1
        return item

    def result(self) -> list[Completion]:
        """Wait for the end: `n` completions. Giving up (Ctrl-C) cancels the request."""
        completions = [Completion() for _ in range(self._n)]
        try:
            for piece in self:
                completions[piece.index].add(piece)
        except BaseException:
            self.cancel()
            raise
        return completions

    async def aresult(self) -> list[Completion]:
        """`result`, for asyncio."""
        completions = [Completion() for _ in range(self._n)]
        try:
            async for piece in self:
                completions[piece.index].add(piece)
        except BaseException:
            self.cancel()
            raise
        return completions

"""What comes out: pieces while it runs, completions at the end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from kun.errors import KunError

FinishReason = Literal["stop", "length", "cancelled", "tool_calls"]
_WAKE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's natural-log probability before any option bent it, and the likeliest (id, logprob) there."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of one of the n answers; the last of each has a finish_reason, and its tool calls."""

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Completion:
    """One whole answer; `truncated` is how many of the prompt's tokens were left out, as was asked for."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Before the first words: the requests that wait `ahead` of this one, and how much of its prompt has been read.

    `ahead` is None once it runs; `cached` of the `read` tokens were known from an earlier prompt.
    """

    ahead: int | None
    read: int
    total: int
    cached: int


class Generation:
    """A request that runs: iterate for its pieces (`for` or `async for`), or wait for `result()`.

    `prompt_tokens` and `truncated` are known from the start. Any thread may cancel it.
    """

    def __init__(self, prompt_tokens: int, n: int, truncated: int = 0) -> None:
        self.prompt_tokens, self.n, self.truncated = prompt_tokens, n, truncated
        self.cached_tokens = self._read = 0
        self._ahead: int | None = 0
        self._pieces: list[Piece] = []
        self._open = n
        self._error: KunError | None = None
        self._news = threading.Condition()
        self._listeners: dict[int, Callable[[], None]] = {}
        self._cancelled = False
        self._on_cancel: Callable[[], None] = lambda: None

    @property
    def progress(self) -> Progress:
        """The way to its first words: requests ahead, and tokens read."""
        return Progress(self._ahead, self._read, self.prompt_tokens, self.cached_tokens)

    def waits(self, ahead: int) -> None:
        """It is queued behind so many requests."""
        self._ahead = ahead

    def reads(self, tokens: int) -> None:
        """It runs, and so many tokens of its prompt have been read."""
        self._ahead, self._read = None, max(self._read, min(tokens, self.prompt_tokens))

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    @property
    def done(self) -> bool:
        return self._open == 0 or self._error is not None

    def cancel(self) -> None:
        """End it with the next step; what was said stays. Nothing happens where it is done."""
        self._cancelled = True
        self._on_cancel()

    def on_cancel(self, call: Callable[[], None]) -> None:
        self._on_cancel = call

    def put(self, piece: Piece) -> None:
        """A piece from the engine."""
        with self._news:
            self._pieces.append(piece)
            self._open -= piece.finish_reason is not None
        self._tell()

    def fail(self, error: KunError) -> None:
        """The engine gives up on this one; who waits gets `error`."""
        with self._news:
            self._error = self._error or error
        self._tell()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()
            listeners = list(self._listeners.values())
        for call in listeners:
            call()

    def __iter__(self) -> Iterator[Piece]:
        place = 0
        while True:
            with self._news:
                # woken now and then, so that Ctrl-C is heard on every platform
                while place >= len(self._pieces) and not self.done:
                    self._news.wait(_WAKE_SECONDS)
                fresh, done = self._pieces[place:], self.done
            yield from fresh
            place += len(fresh)
            if done and place >= len(self._pieces):
                self._raise()
                return

    async def __aiter__(self) -> AsyncIterator[Piece]:
        loop, event, place = asyncio.get_running_loop(), asyncio.Event(), 0

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        self._listeners[id(event)] = wake
        try:
            while True:
                event.clear()
                with self._news:
                    fresh, done = self._pieces[place:], self.done
                for piece in fresh:
                    yield piece
                place += len(fresh)
                if done and place >= len(self._pieces):
                    self._raise()
                    return
                if not fresh:
                    await event.wait()
        finally:
            del self._listeners[id(event)]

    def _raise(self) -> None:
        if self._error is not None:
            raise type(self._error)(str(self._error)) from self._error

    def result(self) -> list[Completion]:
        """Wait for all n answers. Raises what stopped the engine; Ctrl-C cancels."""
        try:
            for _ in self:
                pass
        except KeyboardInterrupt:
            self.cancel()
            raise
        return [self._completion(index) for index in range(self.n)]

    def _completion(self, index: int) -> Completion:
        pieces = [piece for piece in self._pieces if piece.index == index]
        logprobs = [one for piece in pieces for one in piece.logprobs or ()]
        return Completion(
            text="".join(piece.text for piece in pieces),
            token_ids=[token for piece in pieces for token in piece.token_ids],
            finish_reason=pieces[-1].finish_reason or "cancelled",
            logprobs=logprobs if any(piece.logprobs is not None for piece in pieces) else None,
            tool_calls=[call for piece in pieces for call in piece.tool_calls],
            truncated=self.truncated,
        )

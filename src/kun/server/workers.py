"""Threads for what blocks: few, with a bounded queue before them."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar, TypeVarTuple

from kun.errors import Busy

Result = TypeVar("Result")
Given = TypeVarTuple("Given")


class Workers:
    """At most `threads` calls run at once and `most_waiting` wait; further calls raise `Busy`.

    The threads are daemons, unlike those of `concurrent.futures`: one that is loading a model does not hold
    up the end of the process.
    """

    def __init__(self, name: str, threads: int, most_waiting: int) -> None:
        self._name, self._most_threads, self._most_waiting = name, threads, most_waiting
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._busy = self._waiting = 0

    async def run(
        self,
        call: Callable[[*Given], Result],
        *args: *Given,
        abandoned: Callable[[Result], None] | None = None,
    ) -> Result:
        """The result of `call`. When the caller is cancelled meanwhile, `abandoned` gets the result later."""
        future = self._submit(partial(call, *args))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if abandoned is not None:
                future.add_done_callback(partial(_hand_over, abandoned))
            raise

    def close(self) -> None:
        """Let the threads end when they have done what waits; a later call starts new ones."""
        with self._lock:
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._jobs.put(None)

    def _submit(self, call: Callable[[], Result]) -> "Future[Result]":
        future: Future[Result] = Future()
        with self._lock:
            idle = self._most_threads - self._busy
            if self._waiting >= self._most_waiting + idle:
                raise Busy("Too many requests are waiting already: try again in a while.")
            self._waiting += 1
            if self._threads < self._most_threads and self._busy + self._waiting > self._threads:
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        self._jobs.put(partial(_fulfil, future, call))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._count(waiting=-1, busy=1)
            job()
            del job  # an idle thread holds on to no result
            self._count(busy=-1)

    def _count(self, waiting: int = 0, busy: int = 0) -> None:
        with self._lock:
            self._waiting += waiting
            self._busy += busy


def _fulfil(future: "Future[Result]", call: Callable[[], Result]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)


def _hand_over(abandoned: Callable[[Result], None], future: "Future[Result]") -> None:
    if not future.cancelled() and future.exception() is None:
        abandoned(future.result())

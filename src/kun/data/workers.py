"""Processes that tokenize, each a Python of its own that is sent rows and sends back arrays.

They are plain subprocesses: forking after torch has started its threads is unsafe, and multiprocessing's spawning runs
the caller's script again.
"""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol, TypeVar

from kun.data.blocks import Block, read_block, tokenize, write_block, write_error
from kun.data.rows import Conversation, Row, fields, from_fields
from kun.data.tokenized import RowTokenizer
from kun.errors import KunError, Unavailable

#: batches after which it is worth starting processes
_INLINE = 2


class Batch(Protocol):
    """Rows that are tokenized together."""

    @property
    def rows(self) -> Sequence[Row]: ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)


def blocks_of(
    batches: Iterable[AnyBatch], tokenizer: RowTokenizer, processes: int | None = None
) -> Iterator[tuple[AnyBatch, Block]]:
    """Each batch with its block, in order.

    `processes` of None is as many as pay: for conversations, which Python renders, one for each core; for anything
    else this one alone, in which the tokenizer has a thread for each core.

    Raises what the rows are refused for, and `Unavailable` where a process died.
    """
    batches = iter(batches)
    for number, batch in enumerate(batches, 1):
        yield batch, tokenize(batch.rows, tokenizer)
        if processes is None:
            processes = cores() if isinstance(batch.rows[0], Conversation) else 1
        if number == _INLINE and processes > 1:
            break
    yield from _by_workers(batches, tokenizer, processes or 1)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _by_workers(
    batches: Iterator[AnyBatch], tokenizer: RowTokenizer, processes: int
) -> Iterator[tuple[AnyBatch, Block]]:
    waiting: deque[tuple[AnyBatch, Future[Block]]] = deque()
    workers: list[_Worker] = []
    free: SimpleQueue[_Worker] = SimpleQueue()

    def work(rows: Sequence[Row]) -> Block:
        worker = free.get()
        try:
            return worker.tokenize(rows)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(processes) as threads:  # one waits for each process
        try:
            for batch in batches:
                if len(workers) < processes:
                    workers.append(_Worker(tokenizer))
                    free.put(workers[-1])
                waiting.append((batch, threads.submit(work, batch.rows)))
                if len(waiting) > 2 * processes:
                    done, block = waiting.popleft()
                    yield done, block.result()
            while waiting:
                done, block = waiting.popleft()
                yield done, block.result()
        finally:
            for _, unwanted in waiting:
                unwanted.cancel()
            for worker in workers:
                worker.end()


class _Worker:
    def __init__(self, tokenizer: RowTokenizer) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kun.data.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            start_new_session=True,  # Ctrl-C is for the program, which then ends this process itself
        )
        self._send(tokenizer.settings())

    def _send(self, value: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error

    def tokenize(self, rows: Sequence[Row]) -> Block:
        self._send([[row.where, fields(row)] for row in rows])
        assert self._process.stdout is not None
        block = read_block(self._process.stdout)
        if block is None:
            raise self._gone()
        return block

    def _gone(self) -> Unavailable:
        return Unavailable(
            "A process that tokenizes was ended from outside (is memory short?): start again, and the work goes on"
            " where it was."
        )

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Tokenize what stands on standard input, a line of rows each time, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    lines = sys.stdin.buffer
    tokenizer = RowTokenizer.of(lines.readline().decode())
    for line in lines:
        rows = [from_fields(values, where) for where, values in json.loads(line)]
        try:
            write_block(answers, tokenize(rows, tokenizer))
        except KunError as error:
            write_error(answers, error)


if __name__ == "__main__":
    main()

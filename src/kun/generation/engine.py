"""Continuous batching (Yu et al., "Orca", OSDI 2022): rows join and leave the batch at every step.

One thread runs the network. Each step packs the next tokens of all rows: one token of a row that writes, a
chunk of a prompt that is read, within a budget that follows the time of the steps (pace.py), so that nobody who
writes waits for a long prompt (Agrawal et al., "Sarathi-Serve", arXiv:2403.02310). Rows are admitted first come,
first served, as far as pages are free; when pages run out, the youngest row gives up its own and is run again later.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import torch

from kun.blocks.cache import CacheStep
from kun.errors import KunError
from kun.generation.queue import RequestQueue
from kun.generation.results import Piece, TokenLogprob
from kun.generation.row import EngineRow, Search
from kun.generation.sampling import sample, token_logprobs
from kun.generation.scheduler import Scheduler
from kun.networks.decoding import DecodingState
from kun.networks.network import DecoderOutput

_CLOSE_SECONDS = 10.0
_RATE_SECONDS = 10.0
_IDLE_SECONDS = 5.0
"""After so long without a request memory goes back to the system."""


class StepNetwork(Protocol):
    """A network as the engine calls it: packed tokens [1, total] of a step over a cache, logits of those wanted."""

    def __call__(
        self, input_ids: torch.Tensor, /, *, cache: CacheStep, logits_at: torch.Tensor
    ) -> DecoderOutput: ...


class Engine:
    """Runs rows over one network and its state; `submit`, `cancel`, `close` and `stats` from any thread."""

    def __init__(
        self,
        net: StepNetwork,
        state: DecodingState,
        *,
        max_rows: int,
        max_queue: int,
        step_tokens: int = 512,
        reuse: bool = True,
        paced: bool = True,
    ) -> None:
        self.net, self.state = net, state
        self.queue = RequestQueue(max_queue)
        self.scheduler = Scheduler(
            state, self.queue, max_rows=max_rows, step_tokens=step_tokens, reuse=reuse, paced=paced
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("steps", "prompt_tokens", "generated_tokens", "failures"), 0)
        self._recent: deque[tuple[float, int]] = deque()

    # what other threads call

    def submit(self, rows: Sequence[EngineRow]) -> None:
        """Queue the rows of one request. Raises `Busy` where the queue is full, or the engine closed."""
        self.queue.put(rows)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="kun-engine", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Cancel what runs and stop the thread, within seconds."""
        self.queue.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    def stats(self) -> dict[str, float]:
        """Counts since the start, and `tokens_per_s` over the last ten seconds."""
        now = time.monotonic()
        with self._lock:
            recent = sum(count for when, count in self._recent if when > now - _RATE_SECONDS)
        return {
            "running": len(self.scheduler.running),
            "queued": len(self.queue),
            **self._counts,
            "cached_tokens": self.scheduler.cached_tokens,
            "preemptions": self.scheduler.preemptions,
            "tokens_per_s": recent / _RATE_SECONDS,
            "pages": self.scheduler.pool.n_pages,
            "pages_used": self.scheduler.pool.used,
        }

    # the engine's own thread

    def _main(self) -> None:
        torch.set_flush_denormal(True)
        tidy = True
        try:
            while self.queue.wait(self.scheduler.running, None if tidy else _IDLE_SECONDS):
                tidy = not self.scheduler.running and self.queue.first is None
                if tidy:
                    self.scheduler.tidy()
                else:
                    self._guarded_step()
        except BaseException as error:
            self.queue.close()
            for row in [*self.scheduler.running, *self.queue.take_all()]:
                row.generation.fail(_fault(error))
            raise
        self._end_all()

    def _guarded_step(self) -> None:
        try:
            with torch.no_grad():
                self.step()
        except Exception as error:
            # what the failed step wrote cannot be trusted; who waits may still be served
            self._counts["failures"] += 1
            while self.scheduler.running:
                row = self.scheduler.running[0]
                self.scheduler.drop(row, keep=False)
                row.generation.fail(_fault(error))
            self.scheduler.pool.forget_all()

    def _end_all(self) -> None:
        while self.scheduler.running:
            row = self.scheduler.running[0]
            self.scheduler.drop(row)
            self._put(row, row.last_pieces("cancelled"))
        for row in self.queue.take_all():
            self._put(row, row.last_pieces("cancelled"))

    def step(self) -> None:
        """Let rows leave and join, run one packed pass, and hand out what it says."""
        self._leave()
        self.scheduler.admit()
        plan = self.scheduler.plan()
        if not plan:
            return
        started = time.perf_counter()
        reads = [count + row.state.unread for row, count in plan if row.reads]
        self._counts["steps"] += 1
        step = self.state.step(
            [row.state for row, _ in plan],
            [row.pages for row, _ in plan],
            [row.cached for row, _ in plan],
            [count for _, count in plan],
        )
        step.adapters = [row.state.adapter for row, _ in plan]
        packed = [token for row, count in plan for token in row.tokens[row.cached : row.cached + count]]
        places, askers = _wanted(plan)
        ids = torch.tensor([packed], device=self.state.cache.keys.device)
        # one that nobody asked for where a step only reads
        at = torch.tensor(places or [0], device=ids.device)
        logits = self.net(ids, cache=step, logits_at=at).logits[0]
        for row, count in plan:
            row.cached += count
            row.generation.reads(row.cached)
            self.scheduler.register(row)
            if row.scores is None:  # before any beam is made of it, which begins with what it keeps
                row.cached = max(0, row.cached - row.state.rereads) if row.state.keeps else 0
        self._hand_out(logits, askers)
        self.scheduler.pace.took(time.perf_counter() - started, len(plan) - len(reads), sum(reads))

    def _leave(self) -> None:
        """Rows whose generation was cancelled, or failed, go."""
        gone = self.queue.take_cancelled()
        for row in [row for row in self.scheduler.running if row.cancelled]:
            if row in self.scheduler.running:
                self.scheduler.drop(row)
                gone.append(row)
        for row in gone:
            self._put(row, row.last_pieces("cancelled"))

    def _hand_out(self, logits: torch.Tensor, askers: list[tuple[EngineRow, int]]) -> None:
        """Each asker gets its rows of logits: a writer its next token, a reader its log-probabilities."""
        start, writers, places = 0, [], []
        searches: dict[Search, list[int]] = {}
        for row, count in askers:
            if row.search is not None:
                searches.setdefault(row.search, []).append(start)
            elif row.scores is None:
                if self._ready(row):
                    writers.append(row)
                    places.append(start)
            else:
                self._score(row, logits[start : start + count], count)
            start += count
        for search, asked in searches.items():
            self._advance(search, logits[asked])
        if not writers:
            return
        picked = logits if len(places) == len(logits) else logits[places]
        sampled = sample(picked, [row.sampler for row in writers])
        self._tally(len(writers))
        for row, token, logprob in zip(writers, sampled.tokens, sampled.logprobs, strict=True):
            if len(row.tokens) == row.prompt_length:
                self._counts["prompt_tokens"] += row.prompt_length
            self._say(row, token, logprob)

    def _advance(self, search: Search, logits: torch.Tensor) -> None:
        """The beams go on from the best of them, in whose pages they stand until they write."""
        first = search.rows[0]
        if len(first.tokens) == first.prompt_length:
            self._counts["prompt_tokens"] += first.prompt_length
        self._tally(1)
        chosen = search.choose(logits)
        if not chosen:
            self.scheduler.drop(first)
            self._put(first, search.pieces())
            return
        search.rows = self.scheduler.branch(search.rows, chosen)

    def _put(self, row: EngineRow, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            row.generation.put(piece)

    def _ready(self, row: EngineRow) -> bool:
        """Whether the row can choose; a constraint that is too hard ends this row alone."""
        try:
            if row.sampler.constraint is not None:
                row.sampler.constraint.prepare()
        except KunError as error:
            self._fail(row, error)
            return False
        return True

    def _say(self, row: EngineRow, token: int, logprob: TokenLogprob | None) -> None:
        try:
            piece = row.take(token, logprob)
        except KunError as error:
            self._fail(row, error)
            return
        if piece is None:
            return
        if piece.finish_reason is not None:
            self.scheduler.drop(row)
            if row.only_repeats and row.instead is not None:
                row.instead.order = row.order
                self.queue.put_first(row.instead)
                return
        row.generation.put(piece)

    def _fail(self, row: EngineRow, error: KunError) -> None:
        self.scheduler.drop(row)
        row.generation.fail(error)

    def _score(self, row: EngineRow, logits: torch.Tensor, count: int) -> None:
        assert row.scores is not None
        follow = row.tokens[row.cached - count + 1 : row.cached + 1]
        if follow:
            row.scores += token_logprobs(logits[: len(follow)], follow, row.top)
        if not row.pending:
            self.scheduler.drop(row)
            self._put(row, row.last_pieces("stop"))

    def _tally(self, count: int) -> None:
        self._counts["generated_tokens"] += count
        now = time.monotonic()
        with self._lock:
            self._recent.append((now, count))
            while self._recent[0][0] < now - _RATE_SECONDS:
                self._recent.popleft()


def _wanted(plan: list[tuple[EngineRow, int]]) -> tuple[list[int], list[tuple[EngineRow, int]]]:
    """Places in the packed tokens whose logits are wanted, and how many of them each row gets."""
    places: list[int] = []
    askers: list[tuple[EngineRow, int]] = []
    start = 0
    for row, count in plan:
        if row.scores is not None:
            places += range(start, start + count)
            askers.append((row, count))
        elif count == row.pending:
            places.append(start + count - 1)
            askers.append((row, 1))
        start += count
    return places, askers


def _fault(error: BaseException) -> KunError:
    if isinstance(error, KunError):
        return error
    fault = KunError(f"Generating failed ({type(error).__name__}: {error}): try again, or start Kun anew.")
    fault.__cause__ = error
    return fault

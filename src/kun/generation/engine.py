"""Continuous batching (Yu et al., "Orca", OSDI 2022): rows join and leave the batch at every step.

One thread runs the network. Each step packs the next tokens of all rows: one token of a row that writes, a
chunk of a prompt that is read, within a budget, so that nobody who writes waits for a long prompt
(Agrawal et al., "Sarathi-Serve", arXiv:2403.02310). Rows are admitted first come, first served, as far as
pages are free; when pages run out, the youngest row gives up its own and is run again later.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from kun.errors import Busy, KunError
from kun.generation.beams import BeamSearch
from kun.generation.pages import PagePool
from kun.generation.results import Piece, TokenLogprob
from kun.generation.row import Row
from kun.generation.sampling import sample, token_logprobs
from kun.networks.decoding import DecodingState

_CLOSE_SECONDS = 10.0
_RATE_SECONDS = 10.0
_SCORED_TOKENS = 128
"""Tokens of one step whose logits are wanted at once; those of a whole prompt would not fit in memory."""


class Engine:
    """Runs rows over one network and its state; `submit`, `cancel`, `close` and `stats` from any thread."""

    def __init__(
        self,
        net: Callable[..., Any],
        state: DecodingState,
        *,
        max_rows: int,
        max_queue: int,
        step_tokens: int = 512,
        reuse: bool = True,
    ) -> None:
        self.net, self.state, self.reuse = net, state, reuse
        self.pool = PagePool(state.cache.n_pages, state.cache.page_size)
        self.max_rows, self.max_queue, self.step_tokens = max_rows, max_queue, max(step_tokens, max_rows)
        self._waiting: deque[Row] = deque()
        self._running: list[Row] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._arrivals = 0
        self._counts = {"steps": 0, "prompt_tokens": 0, "cached_tokens": 0, "generated_tokens": 0}
        self._counts |= {"preemptions": 0, "failures": 0}
        self._recent: deque[tuple[float, int]] = deque()

    # what other threads call

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue the rows of one request. Raises `Busy` where the queue is full, or the engine closed."""
        with self._changed:
            if self._closing:
                raise Busy("The model is being closed and takes no more requests.")
            if len({id(row.generation) for row in self._waiting}) >= self.max_queue:
                raise Busy(f"{self.max_queue} requests are waiting already: try again in a while.")
            for row in rows:
                self._arrivals += 1
                row.order = self._arrivals
                row.generation.on_cancel(self._wake)
            self._waiting.extend(rows)
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="kun-engine", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel what runs and stop the thread, within seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    def stats(self) -> dict[str, float]:
        """Counts since the start, and `tokens_per_s` over the last ten seconds."""
        now = time.monotonic()
        with self._changed:
            waiting = len(self._waiting)
            recent = sum(count for when, count in self._recent if when > now - _RATE_SECONDS)
        return {
            "running": len(self._running),
            "queued": waiting,
            **self._counts,
            "tokens_per_s": recent / _RATE_SECONDS,
            "pages": self.pool.n_pages,
            "pages_used": self.pool.used,
        }

    # the engine's own thread

    def _main(self) -> None:
        torch.set_flush_denormal(True)
        try:
            while self._wait_for_work():
                self._guarded_step()
        except BaseException as error:
            self._closing = True
            self._fail_all(error)
            raise
        self._end_all()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._waiting or self._running or self._closing):
                self._changed.wait()
            return not self._closing

    def _guarded_step(self) -> None:
        try:
            with torch.no_grad():
                self.step()
        except Exception as error:
            # what the failed step wrote cannot be trusted; who waits may still be served
            self._counts["failures"] += 1
            while self._running:
                row = self._running[0]
                self._drop(row, keep=False)
                row.generation.fail(_fault(error))
            self.pool.forget_all()

    def _fail_all(self, error: BaseException) -> None:
        for row in [*self._running, *self._waiting]:
            row.generation.fail(_fault(error))

    def _end_all(self) -> None:
        while self._running:
            row = self._running[0]
            self._drop(row)
            self._put(row, row.last_pieces("cancelled"))
        for row in self._waiting:
            self._put(row, row.last_pieces("cancelled"))
        self._waiting.clear()

    def step(self) -> None:
        """Let rows leave and join, run one packed pass, and hand out what it says."""
        self._leave()
        self._admit()
        plan = self._plan()
        if not plan:
            return
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
            self._register(row)
            if row.scores is None:  # before any beam is made of it, which begins with what it keeps
                row.cached = max(0, row.cached - row.state.rereads) if row.state.keeps else 0
        self._hand_out(logits, askers)

    def _leave(self) -> None:
        """Rows whose generation was cancelled, or failed, go."""
        with self._changed:
            gone = [row for row in self._waiting if _left(row)]
            if gone:
                self._waiting = deque(row for row in self._waiting if not _left(row))
        for row in [row for row in self._running if _left(row)]:
            if row in self._running:
                self._drop(row)
                gone.append(row)
        for row in gone:
            self._put(row, row.last_pieces("cancelled"))

    def _admit(self) -> None:
        while self._waiting:
            row = self._waiting[0]
            full = self._taken() + _width(row) > self.max_rows
            if full or self._comes_soon(row) or not self._place(row):
                return
            with self._changed:
                self._waiting.popleft()
            self._running.append(row)

    def _taken(self) -> int:
        """Places in the batch that are taken: a search has as many as it has beams, also before it branches."""
        searches = {row.search: _width(row) for row in self._running if row.search is not None}
        return sum(row.search is None for row in self._running) + sum(searches.values())

    def _available(self, joining: Row | None = None) -> int:
        """Pages that can be had, were `joining` to run too; what rows keep outside of the pages counts as pages."""
        rows = self._running if joining is None else [*self._running, joining]
        kept = {id(row.state): -(-row.state.beside // self.pool.page_size) for row in rows}
        return self.pool.available - sum(kept.values())

    def _comes_soon(self, row: Row) -> bool:
        """Whether a running row is about to compute the page that this one needs next."""
        size = self.pool.page_size
        if not self.reuse or not row.shares:
            return False
        keys = row.name_pages(size)
        depth = self.pool.find(keys)
        for other in self._running:
            if other.pending <= 1 or not other.shares or other.state.root != row.state.root:
                continue
            theirs = other.name_pages(size)
            if depth < min(len(keys), len(theirs)) and keys[depth] == theirs[depth]:
                return True
            if other.tokens == row.tokens:
                return True
        return False

    def _place(self, row: Row) -> bool:
        """Give the row the pages it needs to be read, shared ones first; False where too few are free."""
        size, needed = self.pool.page_size, -(-(len(row.tokens) + 1) // self.pool.page_size)
        # each row that runs may want another page soon
        spare = len(self._running)
        if not self.reuse or not row.shares:
            if self._available(row) < needed + spare:
                return False
            row.pages = self.pool.take(needed)
            return True
        match = self.pool.match(row.tokens, row.name_pages(size), row.parent(0))
        if self._available(row) < needed - len(match.pages) + spare:
            self.pool.release(match.pages)
            return False
        row.pages = match.pages + self._fresh(match.source, needed - len(match.pages))
        row.keys = list(match.keys)
        row.cached = len(match.pages) * size + (match.shared if match.source is not None else 0)
        self._counts["cached_tokens"] += row.cached
        row.generation.cached_tokens = max(row.generation.cached_tokens, min(row.cached, row.prompt_length))
        return True

    def _fresh(self, source: int | None, count: int) -> list[int]:
        """Pages to write to, the first with a copy of what `source` holds."""
        pages = self.pool.take(count)
        if source is not None and pages[0] != source:
            self.state.cache.copy(source, pages[0])
        return pages

    def _plan(self) -> list[tuple[Row, int]]:
        """Which rows run how many tokens: those that write first, then prompts in their order."""
        budget, reading, counts = self.step_tokens, False, {}
        for row in sorted(self._running, key=lambda row: (row.reads, row.order)):
            count = min(row.at_most, budget, _SCORED_TOKENS if row.scores is not None else budget)
            if budget < row.at_once + row.state.unread:
                # a step with room enough may never come, so the first of those that read goes beyond it
                count = 0 if row.reads and reading else row.at_once
            if count:
                counts[row] = count
                budget = max(0, budget - count - row.state.unread)
                reading = reading or row.reads
        for row in sorted(counts, key=lambda row: row.order):
            if row in self._running:
                self._grow(row, row.cached + counts[row])
        return [(row, count) for row, count in counts.items() if row in self._running]

    def _grow(self, row: Row, length: int) -> None:
        """Pages of its own for `length` tokens; the youngest rows give up theirs where none are free."""
        first = row.cached // self.pool.page_size
        while row in self._running:
            written = range(first, len(row.pages))
            shared = next((place for place in written if self.pool.shared(row.pages[place])), None)
            if shared is None and len(row.pages) * self.pool.page_size >= length:
                return
            if self._available() < 1:
                self._preempt(max(self._running, key=lambda other: other.order))
            elif shared is None:
                row.pages += self.pool.take(1)
            else:
                source = row.pages[shared]
                row.pages[shared : shared + 1] = self._fresh(source, 1)
                self.pool.release([source])

    def _preempt(self, row: Row) -> None:
        self._counts["preemptions"] += 1
        self._drop(row)
        if row.search is not None:
            row.search.begin()
            row = row.search.root
        if row.scores is not None:
            row.scores.clear()
        with self._changed:
            self._waiting.appendleft(row)

    def _drop(self, row: Row, keep: bool = True) -> None:
        """Take the row, and all beams of its search, out of the batch; its pages may serve whoever begins alike."""
        for one in row.search.rows if row.search is not None else [row]:
            if keep and self.reuse and one.shares:
                self._register_rest(one)
            self._running.remove(one)
            self.pool.release(one.pages)
            one.leave()

    def _register(self, row: Row) -> None:
        """Make the pages that this step filled known, and the prompt's last one when it has been read."""
        size = self.pool.page_size
        if not self.reuse or not row.shares:
            return
        while (len(row.keys) + 1) * size <= row.cached:
            place = len(row.keys)
            tokens = row.tokens[place * size : (place + 1) * size]
            row.keys.append(self.pool.register(row.pages[place], row.parent(place), tokens))
        if row.cached == row.prompt_length == len(row.tokens):
            self._register_rest(row)

    def _register_rest(self, row: Row) -> None:
        rest = row.tokens[len(row.keys) * self.pool.page_size : row.cached]
        if rest:
            place = len(row.keys)
            self.pool.register(row.pages[place], row.parent(place), rest)

    def _hand_out(self, logits: torch.Tensor, askers: list[tuple[Row, int]]) -> None:
        """Each asker gets its rows of logits: a writer its next token, a reader its log-probabilities."""
        start, writers, places = 0, [], []
        searches: dict[BeamSearch, list[int]] = {}
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
        sampled = sample(picked, [row.choice for row in writers])
        self._tally(len(writers))
        for row, token, logprob in zip(writers, sampled.tokens, sampled.logprobs, strict=True):
            if len(row.tokens) == row.prompt_length:
                self._counts["prompt_tokens"] += row.prompt_length
            self._say(row, token, logprob)

    def _advance(self, search: BeamSearch, logits: torch.Tensor) -> None:
        """The beams go on from the best of them, in whose pages they stand until they write."""
        first = search.rows[0]
        if len(first.tokens) == first.prompt_length:
            self._counts["prompt_tokens"] += first.prompt_length
        self._tally(1)
        chosen = search.choose(logits)
        if not chosen:
            self._drop(first)
            self._put(first, search.pieces())
            return
        beams = [row.branch(token) for row, token in chosen]
        for row in beams:
            self.pool.hold(row.pages)
        for row in search.rows:
            self._running.remove(row)
            self.pool.release(row.pages)
            row.leave()
        search.rows = beams
        self._running += beams

    def _put(self, row: Row, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            row.generation.put(piece)

    def _ready(self, row: Row) -> bool:
        """Whether the row can choose; a constraint that is too hard ends this row alone."""
        try:
            if row.choice.constraint is not None:
                row.choice.constraint.prepare()
        except KunError as error:
            self._fail(row, error)
            return False
        return True

    def _say(self, row: Row, token: int, logprob: TokenLogprob | None) -> None:
        try:
            piece = row.take(token, logprob)
        except KunError as error:
            self._fail(row, error)
            return
        if piece is None:
            return
        if piece.finish_reason is not None:
            self._drop(row)
            if row.only_repeats and row.instead is not None:
                row.instead.order = row.order
                with self._changed:
                    self._waiting.appendleft(row.instead)
                return
        row.generation.put(piece)

    def _fail(self, row: Row, error: KunError) -> None:
        self._drop(row)
        row.generation.fail(error)

    def _score(self, row: Row, logits: torch.Tensor, count: int) -> None:
        assert row.scores is not None
        follow = row.tokens[row.cached - count + 1 : row.cached + 1]
        if follow:
            row.scores += token_logprobs(logits[: len(follow)], follow, row.top)
        if not row.pending:
            self._drop(row)
            self._put(row, row.last_pieces("stop"))

    def _tally(self, count: int) -> None:
        self._counts["generated_tokens"] += count
        now = time.monotonic()
        with self._changed:
            self._recent.append((now, count))
            while self._recent[0][0] < now - _RATE_SECONDS:
                self._recent.popleft()


def _width(row: Row) -> int:
    return 1 if row.search is None else row.search.width


def _left(row: Row) -> bool:
    return row.generation.cancelled or row.generation.done


def _wanted(plan: list[tuple[Row, int]]) -> tuple[list[int], list[tuple[Row, int]]]:
    """Places in the packed tokens whose logits are wanted, and how many of them each row gets."""
    places: list[int] = []
    askers: list[tuple[Row, int]] = []
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

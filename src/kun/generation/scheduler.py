"""Which rows run, in which pages, and how many tokens each: the engine's plan for its next step."""

from kun.generation.pace import NoPace, Pace
from kun.generation.pages import PagePool
from kun.generation.queue import RequestQueue
from kun.generation.row import EngineRow
from kun.networks.decoding import DecodingState

_SCORED_TOKENS = 128
"""Tokens of one step whose logits are wanted at once; those of a whole prompt would not fit in memory."""

_KEPT_BYTES = 256 * 2**20
"""Keys and values of beginnings that may come again, which stay in memory while nothing runs."""


class Scheduler:
    """The rows that run and the pages that they have. Only the engine's own thread calls it.

    At most `max_rows` run, of which a step takes `step_tokens`; with `reuse` rows that begin alike share pages. Unless
    it is `paced`, prompts are read as fast as can be, whoever waits for words meanwhile.
    `cached_tokens` and `preemptions` count since the start.
    """

    def __init__(
        self,
        state: DecodingState,
        queue: RequestQueue,
        *,
        max_rows: int,
        step_tokens: int,
        reuse: bool,
        paced: bool,
    ) -> None:
        self.state, self.queue, self.reuse = state, queue, reuse
        self.pool = PagePool(state.cache.n_pages, state.cache.page_size)
        self.max_rows, self.step_tokens = max_rows, max(step_tokens, max_rows)
        self.pace = Pace(self.step_tokens) if paced else NoPace(self.step_tokens)
        self.running: list[EngineRow] = []
        self.cached_tokens = self.preemptions = 0

    def admit(self) -> None:
        """Let waiting rows join, in their order, as far as there is room.

        Who waits for a page that another is about to compute lets those behind pass.
        """
        for row in self.queue.waiting():
            if self._taken() + row.width > self.max_rows:
                return
            if self._comes_soon(row):
                continue
            if not self._place(row):
                return
            self.queue.take(row)
            self.running.append(row)
            row.generation.reads(row.cached)

    def _taken(self) -> int:
        """Places in the batch that are taken: a search has as many as it has beams, also before it branches."""
        searches = {row.search: row.width for row in self.running if row.search is not None}
        return sum(row.search is None for row in self.running) + sum(searches.values())

    def _available(self, joining: EngineRow | None = None) -> int:
        """Pages that can be had, were `joining` to run too; what rows keep outside of the pages counts as pages."""
        rows = self.running if joining is None else [*self.running, joining]
        kept = {id(row.state): -(-row.state.beside // self.pool.page_size) for row in rows}
        return self.pool.available - sum(kept.values())

    def _comes_soon(self, row: EngineRow) -> bool:
        """Whether a running row is about to compute the page that this one needs next."""
        size = self.pool.page_size
        if not self.reuse or not row.shares:
            return False
        keys = row.name_pages(size)
        depth = self.pool.find(keys)
        for other in self.running:
            if other.pending <= 1 or not other.shares or other.state.root != row.state.root:
                continue
            theirs = other.name_pages(size)
            if depth < min(len(keys), len(theirs)) and keys[depth] == theirs[depth]:
                return True
            if other.tokens == row.tokens:
                return True
        return False

    def _place(self, row: EngineRow) -> bool:
        """Give the row the pages it needs to be read, shared ones first; False where too few are free."""
        size, needed = self.pool.page_size, -(-(len(row.tokens) + 1) // self.pool.page_size)
        # each row that runs may want another page soon
        spare = len(self.running)
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
        self.cached_tokens += row.cached
        row.generation.cached_tokens = max(row.generation.cached_tokens, min(row.cached, row.prompt_length))
        return True

    def _fresh(self, source: int | None, count: int) -> list[int]:
        """Pages to write to, the first with a copy of what `source` holds."""
        pages = self.pool.take(count)
        if source is not None and pages[0] != source:
            self.state.cache.copy(source, pages[0])
        return pages

    def plan(self) -> list[tuple[EngineRow, int]]:
        """Which rows run how many tokens: those that write, and prompts as far as the pace allows."""
        counts = {row: self._at_least(row, self.step_tokens) for row in self.running if not row.reads}
        readers = [row for row in self.running if row.reads]
        if readers and (budget := self.pace.tokens(len(counts))):
            room = max(0, self.step_tokens - sum(counts.values()))
            counts |= self._shares(sorted(readers, key=lambda row: row.order), min(room, budget))
        for row in sorted(counts, key=lambda row: row.order):
            if row in self.running:
                self._grow(row, row.cached + counts[row])
        return [(row, count) for row, count in counts.items() if row in self.running]

    def _at_least(self, row: EngineRow, budget: int) -> int:
        """Tokens of the row that a budget allows; those that must be run in one step whatever it allows."""
        most = _SCORED_TOKENS if row.scores is not None else row.at_most
        return max(row.at_once, min(row.at_most, most, budget))

    def _shares(self, readers: list[EngineRow], budget: int) -> dict[EngineRow, int]:
        """Half of the budget is for the prompt that came first, the rest for the shortest.

        So a short prompt does not wait until a long one is read, and a long one goes on, however many short ones come.
        """
        shares: dict[EngineRow, int] = {}
        turns = [(row, budget - budget // 2) for row in readers[:1] if len(readers) > 1]
        turns += [(row, budget) for row in sorted(readers, key=lambda row: (row.pending, row.order))]
        left = budget
        for row, most in turns:
            before = shares.get(row, 0)
            count = self._at_least(row, before + min(most, left))
            if left < row.at_once + row.state.unread - before and shares:
                continue  # a step with room enough may never come: the first that reads goes beyond it, no other
            shares[row] = count
            left = max(0, left - (count - before) - (0 if before else row.state.unread))
        return shares

    def _grow(self, row: EngineRow, length: int) -> None:
        """Pages of its own for `length` tokens; the youngest rows give up theirs where none are free."""
        first = row.cached // self.pool.page_size
        while row in self.running:
            written = range(first, len(row.pages))
            shared = next((place for place in written if self.pool.shared(row.pages[place])), None)
            if shared is None and len(row.pages) * self.pool.page_size >= length:
                return
            if self._available() < 1:
                self._preempt(max(self.running, key=lambda other: other.order))
            elif shared is None:
                row.pages += self.pool.take(1)
            else:
                source = row.pages[shared]
                row.pages[shared : shared + 1] = self._fresh(source, 1)
                self.pool.release([source])

    def _preempt(self, row: EngineRow) -> None:
        self.preemptions += 1
        self.drop(row)
        if row.search is not None:
            row.search.begin()
            row = row.search.root
        if row.scores is not None:
            row.scores.clear()
        self.queue.put_first(row)

    def drop(self, row: EngineRow, keep: bool = True) -> None:
        """Take the row, and all beams of its search, out of the batch; its pages may serve whoever begins alike."""
        for one in row.search.rows if row.search is not None else [row]:
            if keep and self.reuse and one.shares:
                self._register_rest(one)
            self.running.remove(one)
            self.pool.release(one.pages)
            one.leave()

    def register(self, row: EngineRow) -> None:
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

    def _register_rest(self, row: EngineRow) -> None:
        rest = row.tokens[len(row.keys) * self.pool.page_size : row.cached]
        if rest:
            place = len(row.keys)
            self.pool.register(row.pages[place], row.parent(place), rest)

    def tidy(self) -> None:
        """Give memory back when nothing runs; the beginnings that were read last stay."""
        kept = _KEPT_BYTES // self.state.cache.bytes_per_page
        self.state.cache.give_back(self.pool.tidy(kept))

    def branch(self, rows: list[EngineRow], chosen: list[tuple[EngineRow, int]]) -> list[EngineRow]:
        """The beams that go on from `chosen` rows, in whose pages they stay until they write; `rows` make room."""
        beams = [row.branch(token) for row, token in chosen]
        for row in beams:
            self.pool.hold(row.pages)
        for row in rows:
            self.running.remove(row)
            self.pool.release(row.pages)
            row.leave()
        self.running += beams
        return beams

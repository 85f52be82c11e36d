"""One answer on its way: its tokens, the pages they stand in, and its text so far."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from kun.generation.pages import ROOT, chain_key
from kun.generation.results import FinishReason, Generation, Piece, TokenLogprob
from kun.generation.sampling import Sampler
from kun.generation.stream import TextStream
from kun.networks.decoding import RowState


class Search(Protocol):
    """Rows that are chosen together, for one request: `rows` run, at most `width` of them, from `root` on."""

    root: "EngineRow"
    rows: "list[EngineRow]"
    width: int

    def begin(self) -> None:
        """Start at the root, also again."""

    def choose(self, logits: Tensor) -> "list[tuple[EngineRow, int]]":
        """From logits [rows, vocabulary] the rows to go on from, and with which token; none when it is over."""
        ...

    def pieces(self) -> list[Piece]:
        """The answers of a search that is over."""
        ...

    def last_pieces(self, reason: FinishReason) -> list[Piece]:
        """What is left to say when the search is ended from outside."""
        ...


@dataclass(eq=False)
class EngineRow:
    """What the engine runs. `tokens` are the prompt's and the answer's; the first `cached` are in `pages`.

    `state` is how the network begins the row.
    `limit` is how many tokens the row may have. A row with `scores` is only read: it gets the log-probability
    of each of its tokens, and writes none. One with a `search` is a beam of it. `instead` is run in the place of
    one that only repeats a call whose result it was given.
    """

    generation: Generation
    index: int
    state: RowState
    sampler: Sampler
    stream: TextStream | None
    limit: int
    scores: list[TokenLogprob] | None = None
    top: int = 0
    search: "Search | None" = None
    instead: "EngineRow | None" = None
    cached: int = 0
    pages: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    page_keys: list[bytes] = field(default_factory=list)
    order: int = 0

    def __post_init__(self) -> None:
        self.tokens = list(self.state.tokens)
        self.prompt_length = len(self.tokens)

    @property
    def width(self) -> int:
        """Places in the batch: a search has as many as it has beams, also before it branches."""
        return 1 if self.search is None else self.search.width

    @property
    def cancelled(self) -> bool:
        """Whether its generation was cancelled, or failed."""
        return self.generation.cancelled or self.generation.done

    @property
    def only_repeats(self) -> bool:
        """Whether its answer is nothing but a call whose result it was given."""
        return self.stream is not None and self.stream.only_repeats

    @property
    def pending(self) -> int:
        """Tokens that are to be run before the next one can be chosen."""
        return len(self.tokens) - self.cached

    @property
    def reads(self) -> bool:
        """Whether it reads a prompt, and does not write, so that others need not wait for it."""
        if not self.state.keeps or self.state.rereads:
            return len(self.tokens) == self.prompt_length
        return self.pending > 1 or self.state.unread > 0

    @property
    def shares(self) -> bool:
        """Whether its pages may serve rows that begin alike."""
        return self.scores is None and self.state.keeps and self.state.root is not None

    @property
    def at_once(self) -> int:
        """How many of its tokens must be run in one step, since they see each other."""
        if not self.state.keeps:
            return self.pending
        if self.state.rereads:
            # as it went the first time, should the row be run again: the prompt, then a token at a time
            reached = max(self.prompt_length, self.cached + self.state.rereads + 1)
            return min(self.pending, reached - self.cached)
        return max(1, self.state.prefix - self.cached)

    @property
    def at_most(self) -> int:
        """How many of its tokens may be run in one step."""
        return self.at_once if self.state.rereads else self.pending

    def parent(self, place: int) -> bytes:
        """The key of what stands before the page at `place`, as far as `keys` tell."""
        return self.keys[place - 1] if place else self.state.root or ROOT

    def name_pages(self, size: int) -> list[bytes]:
        """The keys of this row's whole pages, in order."""
        for start in range(len(self.page_keys) * size, len(self.tokens) - size + 1, size):
            parent = self.page_keys[-1] if self.page_keys else self.state.root or ROOT
            self.page_keys.append(chain_key(parent, self.tokens[start : start + size]))
        return self.page_keys

    def take(self, token: int, logprob: TokenLogprob | None) -> Piece | None:
        """The next token of the answer; a piece where there is something to say. Raises what a constraint does."""
        assert self.stream is not None
        self.tokens.append(token)
        self.sampler.chose(token)
        ended = token in self.stream.ends
        if self.sampler.constraint is not None and not ended:
            ended = self.sampler.constraint.consume(token)
            full = not ended and len(self.tokens) >= self.limit
            return self.stream.push(token, logprob, ended, full)
        full = not ended and len(self.tokens) >= self.limit
        if ended and self.sampler.options.for_training:
            self.stream.keep(token, logprob)
        return self.stream.push(None if ended else token, logprob, ended, full)

    def branch(self, token: int) -> "EngineRow":
        """A beam that goes on from this one with `token`; so far it stands in the same pages."""
        row = EngineRow(self.generation, self.index, self.state, self.sampler.branch(), None, self.limit)
        row.tokens, row.cached = [*self.tokens, token], self.cached
        row.pages, row.keys, row.page_keys = list(self.pages), list(self.keys), list(self.page_keys)
        row.search, row.order = self.search, self.order
        row.sampler.chose(token)
        return row

    def leave(self) -> None:
        """Stand in no page any more."""
        self.pages, self.keys, self.cached = [], [], 0

    def last_pieces(self, reason: FinishReason) -> list[Piece]:
        """What is left to say when the row is ended from outside."""
        if self.search is not None:
            return self.search.last_pieces(reason)
        if self.stream is None:
            return [Piece(self.index, "", finish_reason=reason)]
        return [self.stream.finish(reason)]

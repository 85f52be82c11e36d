"""One answer on its way: its tokens, the pages they stand in, and its text so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from kun.generation.calls import ToolCalls
from kun.generation.options import SamplingOptions
from kun.generation.pages import ROOT, chain_key
from kun.generation.results import FinishReason, Generation, Piece, TokenLogprob
from kun.generation.sampling import Choice
from kun.generation.stopping import StopStrings
from kun.networks.decoding import RowState
from kun.text.tokenizer import Detokenizer

if TYPE_CHECKING:
    from kun.generation.beams import BeamSearch


@dataclass(eq=False)
class Row:
    """What the engine runs. `tokens` are the prompt's and the answer's; the first `cached` are in `pages`.

    `state` is how the network begins the row.
    `limit` is how many tokens the row may have. A row with `scores` is only read: it gets the log-probability
    of each of its tokens, and writes none. One with a `search` is a beam of it. `instead` is run in the place of
    one that only repeats a call whose result it was given.
    """

    generation: Generation
    index: int
    state: RowState
    choice: Choice
    voice: "Voice | None"
    limit: int
    scores: list[TokenLogprob] | None = None
    top: int = 0
    search: "BeamSearch | None" = None
    instead: "Row | None" = None
    cached: int = 0
    pages: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    page_keys: list[bytes] = field(default_factory=list)
    order: int = 0

    def __post_init__(self) -> None:
        self.tokens = list(self.state.tokens)
        self.prompt_length = len(self.tokens)

    @property
    def only_repeats(self) -> bool:
        """Whether its answer is nothing but a call whose result it was given."""
        return self.voice is not None and self.voice.only_repeats

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
        assert self.voice is not None
        self.tokens.append(token)
        self.choice.chose(token)
        ended = token in self.voice.ends
        if self.choice.constraint is not None and not ended:
            ended = self.choice.constraint.consume(token)
            full = not ended and len(self.tokens) >= self.limit
            return self.voice.say(token, logprob, ended, full)
        full = not ended and len(self.tokens) >= self.limit
        return self.voice.say(None if ended else token, logprob, ended, full)

    def branch(self, token: int) -> "Row":
        """A beam that goes on from this one with `token`; so far it stands in the same pages."""
        row = Row(self.generation, self.index, self.state, self.choice.branch(), None, self.limit)
        row.tokens, row.cached = [*self.tokens, token], self.cached
        row.pages, row.keys, row.page_keys = list(self.pages), list(self.keys), list(self.page_keys)
        row.search, row.order = self.search, self.order
        row.choice.chose(token)
        return row

    def leave(self) -> None:
        """Stand in no page any more."""
        self.pages, self.keys, self.cached = [], [], 0

    def last_pieces(self, reason: FinishReason) -> list[Piece]:
        """What is left to say when the row is ended from outside."""
        if self.search is not None:
            return self.search.last_pieces(reason)
        if self.voice is None:
            return [Piece(self.index, "", finish_reason=reason)]
        return [self.voice.finish(reason)]


class Voice:
    """Turns a row's tokens into pieces of text: whole characters only, never a stop string or half of one."""

    def __init__(
        self,
        index: int,
        tokenizer: Tokenizer,
        options: SamplingOptions,
        ends: frozenset[int],
        tools: ToolCalls | None = None,
    ) -> None:
        self.index = index
        self.ends = frozenset() if options.ignore_eos else ends
        self._text = Detokenizer(tokenizer)
        self._stops = StopStrings(options.stop) if options.stop else None
        self._tools = tools
        self._with_logprobs = options.logprobs is not None
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def only_repeats(self) -> bool:
        return self._tools is not None and self._tools.only_repeats

    def say(self, token: int | None, logprob: TokenLogprob | None, ended: bool, full: bool) -> Piece | None:
        """The piece that `token` completes; `ended` and `full` tell that it is the last, and why."""
        text = ""
        if token is not None:
            self._ids.append(token)
            if logprob is not None:
                self._logprobs.append(logprob)
            text, stopped = self._pass_stops(self._text.push((token,)))
            if stopped:
                return self._last(text, "stop")
        if ended or full:
            return self.finish("stop" if ended else "length", text)
        if self._tools is not None:
            text = self._tools.push(text)
            if self._tools.ended:
                return self._with_calls(text, self._tools, "stop")
        return self._piece(text) if text else None

    def _pass_stops(self, text: str) -> tuple[str, bool]:
        return self._stops.push(text) if self._stops is not None else (text, False)

    def finish(self, reason: FinishReason, text: str = "") -> Piece:
        """The last piece: `text` and whatever was held back."""
        rest, stopped = self._pass_stops(self._text.finish())
        text += rest
        if self._stops is not None and not stopped:
            text += self._stops.finish()
        return self._last(text, "stop" if stopped and reason == "length" else reason)

    def _last(self, text: str, reason: FinishReason) -> Piece:
        if self._tools is None:
            return self._piece(text, reason)
        return self._with_calls(self._tools.push(text), self._tools, reason)

    def _with_calls(self, text: str, tools: ToolCalls, reason: FinishReason) -> Piece:
        rest, calls = tools.finish()
        reason = "tool_calls" if calls and reason == "stop" else reason
        piece = self._piece(text + rest, reason)
        return Piece(
            piece.index, piece.text, piece.token_ids, piece.logprobs, piece.finish_reason, tuple(calls)
        )

    def _piece(self, text: str, reason: FinishReason | None = None) -> Piece:
        logprobs = tuple(self._logprobs) if self._with_logprobs else None
        piece = Piece(self.index, text, tuple(self._ids), logprobs, reason)
        self._ids, self._logprobs = [], []
        return piece


def ends_of(ids: object) -> frozenset[int]:
    """The ids of a `generation_config`'s eos_token_id: a number, a list, or nothing."""
    several: Sequence[object] = ids if isinstance(ids, list | tuple) else [ids]
    return frozenset(one for one in several if isinstance(one, int) and not isinstance(one, bool))

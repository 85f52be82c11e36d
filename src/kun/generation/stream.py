"""From a row's tokens to pieces of its text."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from kun.generation.calls import ToolCalls
from kun.generation.options import SamplingOptions
from kun.generation.results import FinishReason, Piece, TokenLogprob
from kun.generation.stopping import StopStrings
from kun.text.tokenizer import Detokenizer


class TextStream:
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

    def push(self, token: int | None, logprob: TokenLogprob | None, ended: bool, full: bool) -> Piece | None:
        """The piece that `token` completes; `ended` and `full` say that it is the last, and why."""
        text = ""
        if token is not None:
            self.keep(token, logprob)
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

    def keep(self, token: int, logprob: TokenLogprob | None) -> None:
        """Note a token of the answer, without its text."""
        self._ids.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)

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

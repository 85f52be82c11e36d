"""An answer for which the model may call tools: it asks, Kun runs the call and shows it, the model reads the result."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kun.tools.tool import BegunCall, Toolbox, ToolCall

if TYPE_CHECKING:
    from kun.generation.options import SamplingOptions
    from kun.generation.results import FinishReason, Generation
    from kun.models.language_model import LanguageModel

MOST_ROUNDS = 4
MOST_CALLS = 8
"""Times that the model may ask in one answer, and calls in all."""


@dataclass
class ToolAnswer:
    """An answer in pieces: iterate for text and for the calls as they are made.

    `on_begin` learns of each call before it is run. Then `text` and `calls` have all of it, and `finish_reason` says
    why the model's last turn ended.
    """

    lm: "LanguageModel"
    messages: Sequence[Mapping[str, object]]
    toolbox: Toolbox
    options: "SamplingOptions"
    on_begin: Callable[[BegunCall], None] = lambda begun: None
    calls: list[ToolCall] = field(default_factory=list)
    text: str = ""
    finish_reason: "FinishReason" = "stop"
    _running: "Generation | None" = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Stop: no further call is made, the running one is left, and what was written stays."""
        self._stop.set()
        if self._running is not None:
            self._running.cancel()

    def __iter__(self) -> Iterator[str | ToolCall]:
        messages = list(self.messages)
        strangers = False
        for number in range(MOST_ROUNDS + 1):
            if self._stop.is_set():
                return
            last = number == MOST_ROUNDS or len(self.calls) >= MOST_CALLS
            tools = None if last else self.toolbox.described(own_only=strangers) or None
            wanted: list[dict[str, object]] = []
            said = ""
            generation = self._running = self.lm.submit(messages, self.options, tools=tools)
            if self._stop.is_set():  # meanwhile, when there was nothing yet that `cancel` could have ended
                generation.cancel()
            try:
                for piece in generation:
                    wanted += piece.tool_calls
                    said += piece.text
                    self.finish_reason = piece.finish_reason or self.finish_reason
                    if piece.text:
                        text = _apart(self.text, piece.text) if said == piece.text else piece.text
                        self.text += text
                        yield text
            except BaseException:  # who reads no further, or pressed Ctrl-C, wants no more of it written
                generation.cancel()
                raise
            if not wanted or self._stop.is_set():
                return
            messages.append({"role": "assistant", "content": said or None, "tool_calls": wanted})
            is_read = strangers  # what one turn asks for was written before any of its results was read
            for one in wanted:
                if self._stop.is_set():
                    return
                call = self._call(one, is_read)
                strangers = strangers or not self.toolbox.is_own(call.name)
                yield call
                messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": one.get("id", ""),
                        "name": call.name,
                        "content": call.result,
                    }
                )

    def _call(self, wanted: Mapping[str, object], strangers: bool) -> ToolCall:
        function = wanted.get("function")
        name = str(function.get("name", "")) if isinstance(function, Mapping) else ""
        arguments = function.get("arguments", "") if isinstance(function, Mapping) else ""
        if len(self.calls) >= MOST_CALLS or (strangers and not self.toolbox.is_own(name)):
            reason = "No more calls in this answer: it has read text from outside, or made enough of them."
            call = ToolCall(name, {}, reason, True, 0.0)
        else:
            given = arguments if isinstance(arguments, str) else dict(arguments)
            self.on_begin(self.toolbox.begun(name, given))
            call = self.toolbox.call(name, given, self._stop)
        self.calls.append(call)
        return call


def _apart(before: str, text: str) -> str:
    """The beginning of a turn's text, in a paragraph of its own behind what earlier turns wrote."""
    return text if not before or before.endswith("\n") else f"\n\n{text.lstrip()}"

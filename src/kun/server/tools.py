"""An answer for which the server runs the tools that a request names, each call shown in the reply."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kun.errors import BadInput, Unavailable
from kun.server.bodies import ChatRequest
from kun.server.documents import bridged, chunk_of
from kun.server.failures import JsonObject
from kun.server.replies import Reply
from kun.server.workers import Workers
from kun.tools.conversation import ToolAnswer
from kun.tools.tool import Toolbox, ToolCall

if TYPE_CHECKING:
    from kun.generation.options import SamplingOptions
    from kun.models.language_model import LanguageModel


def check_tools(body: ChatRequest) -> None:
    """Raises `BadInput` for what does not go together with tools that the server runs."""
    wrong = {
        "tools": bool(body.tools),
        "response_format": body.response_format is not None and body.response_format.type != "text",
        "n": body.copies > 1,
        "logprobs": bool(body.logprobs),
    }
    name = next((name for name, given in wrong.items() if given), None)
    if name is not None:
        raise BadInput(f"{name} and run_tools do not go together: leave one of them out.")


class ToolReply(Reply):
    """Reads the answer's pieces, which blocks, in a thread of `workers`."""

    def __init__(
        self,
        lm: "LanguageModel",
        request: ChatRequest,
        messages: Sequence[Mapping[str, object]],
        toolbox: Toolbox,
        options: "SamplingOptions",
        workers: Workers,
    ) -> None:
        super().__init__(request.model or lm.name, "chatcmpl")
        self._answer = ToolAnswer(lm, messages, toolbox, options)
        self._lm, self._request, self._workers = lm, request, workers
        self._messages = messages

    def cancel(self) -> None:
        self._answer.cancel()

    def _usage(self) -> dict[str, int]:
        read = sum(self._lm.count(str(message.get("content") or "")) for message in self._messages)
        made = self._lm.count(self._answer.text)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    def _calls(self) -> JsonObject:
        """The calls that were made, in order: a field of Kun's own."""
        return {"calls": [plain_call(one) for one in self._answer.calls]}

    def _end(self) -> str:
        """The reason for the end: calls that the model still wants are none that the client could run."""
        reason = self._answer.finish_reason
        if reason == "cancelled":
            raise Unavailable("The server stopped before the answer was complete: ask again.")
        return "stop" if reason == "tool_calls" else reason

    async def _collect(self) -> JsonObject:
        await self._workers.run(lambda: list(self._answer))
        usage = await self._workers.run(self._usage)
        message = {"role": "assistant", "content": self._answer.text}
        choice = {"index": 0, "message": message, "finish_reason": self._end(), "logprobs": None}
        return {"object": "chat.completion", "choices": [choice], "usage": usage} | self._calls()

    async def _chunks(self) -> AsyncGenerator[JsonObject, None]:
        chunk = partial(chunk_of, self._request.wants_usage)
        yield chunk({"role": "assistant", "content": ""})
        async for piece in bridged(self._answer, self._workers):
            yield (
                chunk({}) | {"call": plain_call(piece)}
                if isinstance(piece, ToolCall)
                else chunk({"content": piece})
            )
        yield chunk({}, self._end()) | self._calls()
        if self._request.wants_usage:
            usage = await self._workers.run(self._usage)
            yield {"object": "chat.completion.chunk", "choices": [], "usage": usage}


def plain_call(call: ToolCall) -> JsonObject:
    """A call as JSON."""
    return {
        "name": call.name,
        "arguments": dict(call.arguments),
        "result": call.result,
        "failed": call.failed,
        "seconds": round(call.seconds, 3),
    }

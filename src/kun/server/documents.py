"""An answer from a knowledge base, with its citations."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kun.server.bodies import ChatRequest
from kun.server.failures import JsonObject
from kun.server.replies import Reply
from kun.server.workers import Workers

if TYPE_CHECKING:
    from kun.knowledge.answer import Answer, AnswerStream
    from kun.models.language_model import LanguageModel

Piece = TypeVar("Piece")


class DocumentReply(Reply):
    """Reads a stream of pieces, which blocks, in a thread of `workers`."""

    def __init__(
        self, stream: "AnswerStream", lm: "LanguageModel", request: ChatRequest, workers: Workers
    ) -> None:
        super().__init__(request.model or lm.name, "chatcmpl")
        self._stream, self._lm, self._request, self._workers = stream, lm, request, workers

    def cancel(self) -> None:
        self._stream.cancel()

    async def _collect(self) -> JsonObject:
        answer, usage = await self._workers.run(self._finish)
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        body = {"object": "chat.completion", "choices": [choice], "usage": usage}
        return body | self._extras(answer)

    def _finish(self) -> "tuple[Answer, dict[str, int]]":
        answer = self._stream.answer()
        made = self._lm.count(answer.text)
        read = sum(self._lm.count(message["content"]) for message in answer.prompt)
        return answer, {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    def _extras(self, answer: "Answer") -> JsonObject:
        """Fields of Kun's own: what the answer is, its passages; with `return_prompt` the prompt, too."""
        citations = [
            {
                "index": place,
                "source": passage.source,
                "heading": passage.heading,
                "page": passage.page,
                "text": passage.text,
                "score": float(passage.score),
            }
            for place, passage in enumerate(answer.passages, 1)
        ]
        prompt: JsonObject = (
            {"prompt": answer.prompt, "question": answer.question} if self._request.return_prompt else {}
        )
        computed = answer.computed
        calculation = (
            None
            if computed is None
            else {"calculation": computed.calculation, "program": dict(computed.program)}
        )
        return prompt | {
            "citations": citations,
            "declined": answer.declined,
            "quoted": answer.quoted,
            "computed": calculation,
        }

    async def _chunks(self) -> AsyncGenerator[JsonObject, None]:
        chunk = partial(chunk_of, self._request.wants_usage)
        yield chunk({"role": "assistant", "content": ""})
        async for text in bridged(self._stream, self._workers):
            yield chunk({"content": text})
        answer, usage = await self._workers.run(self._finish)
        yield chunk({}, "stop") | self._extras(answer)
        if self._request.wants_usage:
            yield {"object": "chat.completion.chunk", "choices": [], "usage": usage}


def chunk_of(wants_usage: bool, delta: JsonObject, end: str | None = None) -> JsonObject:
    """A chunk of a streamed answer without log probabilities; clients that want the usage expect its field in each."""
    choice = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}
    chunk: JsonObject = {"object": "chat.completion.chunk", "choices": [choice]}
    return chunk | ({"usage": None} if wants_usage else {})


async def bridged(pieces: Iterable[Piece], workers: Workers) -> AsyncGenerator[Piece, None]:
    """The pieces of a blocking iterator, read in a thread, handed over as they come."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Piece | None] = asyncio.Queue()

    def hand_over(piece: Piece | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(arrived.put_nowait, piece)

    def read() -> None:
        try:
            for piece in pieces:
                hand_over(piece)
        finally:
            hand_over(None)

    reading = asyncio.ensure_future(workers.run(read))
    try:
        while (piece := await arrived.get()) is not None:
            yield piece
        await reading
    finally:
        reading.cancel()

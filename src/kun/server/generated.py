"""Replies of a language model in OpenAI's shapes: chat messages, or texts that go on."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kun.errors import Busy, Unavailable
from kun.server.bodies import ChatRequest, CompletionRequest, Prompt, Sampled
from kun.server.failures import JsonObject
from kun.server.replies import Reply, event
from kun.server.scores import PlainScores, chat_scores, plain_scores

if TYPE_CHECKING:
    from kun.generation.results import Generation, Piece, TokenLogprob
    from kun.models.language_model import LanguageModel

_AHEAD = 16
"""Prompts of one request that are queued at once, so that the queue has room for others."""
_PATIENCE_SECONDS = 0.05


@dataclass
class Written:
    """One of the n answers to a prompt, as far as it is."""

    text: str = ""
    reason: str | None = None
    calls: list[JsonObject] = field(default_factory=list)
    scores: "list[TokenLogprob]" = field(default_factory=list)
    tokens: int = 0

    def add(self, piece: "Piece") -> None:
        self.text += piece.text
        self.reason = piece.finish_reason or self.reason
        self.calls += piece.tool_calls
        self.scores += piece.logprobs or ()
        self.tokens += len(piece.token_ids)

    @property
    def likelihood(self) -> float:
        """The mean log-probability of its tokens."""
        return sum(score.logprob for score in self.scores) / max(len(self.scores), 1)


class GenerationReply(Reply):
    """Answers to one prompt or several; `start(i)` queues the i-th and gives its generation."""

    _chunk_kind: str

    def __init__(
        self,
        lm: "LanguageModel",
        request: Sampled,
        kind: str,
        count: int,
        start: "Callable[[int], Awaitable[Generation]]",
    ) -> None:
        super().__init__(request.model or lm.name, kind)
        self._lm, self._request, self._count, self._start = lm, request, count, start
        self._generations: list[Generation] = []
        self._made = 0

    def cancel(self) -> None:
        for generation in self._generations:
            generation.cancel()

    def _waiting(self) -> bytes:
        """The progress of the prompt that is read now: a chunk for who asks for it, else a comment."""
        now = next((one.progress for one in self._generations if not one.done), None)
        if now is None:
            return super()._waiting()
        if self._request.return_progress:
            progress = {"ahead": now.ahead, "total": now.total, "cache": now.cached, "processed": now.read}
            return event(
                self._head | {"object": self._chunk_kind, "choices": [], "prompt_progress": progress}
            )
        if now.ahead is not None:
            return f": waiting, requests ahead: {now.ahead}\n\n".encode()
        return f": read {now.read} of {now.total} tokens\n\n".encode()

    async def begin(self) -> "GenerationReply":
        """Queue the first prompts. Raises what generating raises, `Busy` too."""
        try:
            await self._queue(0)
        except BaseException:
            self.cancel()
            raise
        return self

    async def _queue(self, number: int) -> None:
        """Queue the prompts up to some way after `number`, as many as the queue takes."""
        while len(self._generations) < min(number + _AHEAD, self._count):
            try:
                self._generations.append(await self._start(len(self._generations)))
            except Busy:
                if not self._generations:
                    raise
                if len(self._generations) > number:
                    return
                await asyncio.sleep(_PATIENCE_SECONDS)

    async def _pieces(self, number: int) -> "AsyncGenerator[Piece, None]":
        await self._queue(number)
        async for piece in self._generations[number]:
            if piece.finish_reason == "cancelled":
                raise Unavailable("The server stopped before the answer was complete: ask again.")
            self._made += len(piece.token_ids)
            yield piece

    async def _answers(self, number: int) -> list[Written]:
        answers = [Written() for _ in range(self._copies)]
        async for piece in self._pieces(number):
            answers[piece.index].add(piece)
        return answers

    @property
    def _copies(self) -> int:
        return self._request.copies

    def _ending(self) -> JsonObject:
        """The fields that end a whole answer, and a stream that asks for them."""
        read = sum(generation.prompt_tokens for generation in self._generations)
        cut = sum(generation.truncated for generation in self._generations)
        usage = {
            "prompt_tokens": read,
            "completion_tokens": self._made,
            "total_tokens": read + self._made,
            "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in self._generations)},
        }
        return {"usage": usage} | ({"truncated_tokens": cut} if cut else {})


class ChatReply(GenerationReply):
    """An answer to a conversation."""

    _request: ChatRequest
    _chunk_kind = "chat.completion.chunk"

    async def _collect(self) -> JsonObject:
        choices = [self._choice(index, one) for index, one in enumerate(await self._answers(0))]
        return {"object": "chat.completion", "choices": choices} | self._ending()

    def _choice(self, index: int, one: Written) -> JsonObject:
        message: JsonObject = {"role": "assistant", "content": one.text}
        if one.calls:
            message |= {"content": one.text or None, "tool_calls": one.calls}
        scores = chat_scores(self._lm, one.scores) if self._request.logprobs else None
        return {"index": index, "message": message, "finish_reason": one.reason, "logprobs": scores}

    async def _chunks(self) -> AsyncGenerator[JsonObject, None]:
        for index in range(self._copies):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        async for piece in self._pieces(0):
            if piece.text or piece.logprobs:
                scores = chat_scores(self._lm, piece.logprobs) if piece.logprobs else None
                yield self._chunk(piece.index, {"content": piece.text}, scores)
            if piece.tool_calls:
                calls = [{"index": place} | call for place, call in enumerate(piece.tool_calls)]
                yield self._chunk(piece.index, {"tool_calls": calls})
            if piece.finish_reason:
                yield self._chunk(piece.index, {}, reason=piece.finish_reason)
        if self._request.wants_usage:
            yield {"object": self._chunk_kind, "choices": []} | self._ending()

    def _chunk(
        self, index: int, delta: JsonObject, scores: JsonObject | None = None, reason: str | None = None
    ) -> JsonObject:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": scores}
        usage = {"usage": None} if self._request.wants_usage else {}
        head: JsonObject = {"object": self._chunk_kind, "choices": [choice]}
        return head | usage


class CompletionReply(GenerationReply):
    """Texts that go on. `prompts` are texts or token ids; `score` reads one and tells its log-probabilities."""

    _request: CompletionRequest
    _chunk_kind = "text_completion"

    def __init__(
        self,
        lm: "LanguageModel",
        request: CompletionRequest,
        prompts: Sequence[Prompt],
        start: "Callable[[int], Awaitable[Generation]]",
        score: "Callable[[Prompt], Awaitable[tuple[list[int], list[TokenLogprob | None]]]]",
    ) -> None:
        super().__init__(lm, request, "cmpl", len(prompts), start)
        self._prompts, self._score = prompts, score

    @property
    def _copies(self) -> int:
        return max(self._request.best_of or 1, self._request.copies)

    async def _pieces(self, number: int) -> "AsyncGenerator[Piece, None]":
        async for piece in super()._pieces(number):
            if self._request.max_tokens != 0:
                yield piece
            elif (
                piece.finish_reason
            ):  # the prompt is only read: the one token that a generation has goes unsaid
                self._made = 0
                yield replace(piece, text="", token_ids=(), logprobs=(), finish_reason="length")

    async def _collect(self) -> JsonObject:
        choices: list[JsonObject] = []
        for number in range(self._count):
            answers = await self._answers(number)
            if len(answers) > self._request.copies:
                answers = sorted(answers, key=lambda one: -one.likelihood)[: self._request.copies]
            text, ids, scores = await self._echo(number)
            for one in answers:
                logprobs = self._logprobs(ids, [*scores, *one.scores])
                choices.append(_choice(len(choices), text + one.text, one.reason, logprobs))
        return {"object": "text_completion", "choices": choices} | self._ending()

    async def _echo(self, number: int) -> "tuple[str, list[int], list[TokenLogprob | None]]":
        """The prompt's text, and its tokens with their log-probabilities where these are asked for."""
        prompt = self._prompts[number]
        if not self._request.echo:
            return "", [], []
        text = (
            prompt
            if isinstance(prompt, str)
            else self._lm.tokenizer.decode(prompt, skip_special_tokens=False)
        )
        if self._request.logprobs is None:
            return text, [], []
        return text, *await self._score(prompt)

    def _logprobs(
        self, ids: list[int], scores: "Sequence[TokenLogprob | None]", before: int = 0
    ) -> PlainScores | None:
        if self._request.logprobs is None:
            return None
        return plain_scores(self._lm, ids[0] if ids else None, scores, before)

    async def _chunks(self) -> AsyncGenerator[JsonObject, None]:
        for number in range(self._count):
            text, ids, scores = await self._echo(number)
            written = [len(text)] * self._copies
            first = number * self._copies
            if text:
                for index in range(first, first + self._copies):
                    yield self._chunk(_choice(index, text, None, self._logprobs(ids, scores)))
            async for piece in self._pieces(number):
                logprobs = self._logprobs([], piece.logprobs or (), written[piece.index])
                if logprobs:
                    written[piece.index] += sum(map(len, logprobs["tokens"]))
                yield self._chunk(_choice(first + piece.index, piece.text, piece.finish_reason, logprobs))
        if self._request.wants_usage:
            yield {"object": self._chunk_kind, "choices": []} | self._ending()

    def _chunk(self, choice: JsonObject) -> JsonObject:
        usage = {"usage": None} if self._request.wants_usage else {}
        head: JsonObject = {"object": self._chunk_kind, "choices": [choice]}
        return head | usage


def _choice(index: int, text: str, reason: str | None, logprobs: PlainScores | None) -> JsonObject:
    return {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}

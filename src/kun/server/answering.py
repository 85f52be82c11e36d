"""From a request to an answer in OpenAI's shapes: whole, or as events while it is being written."""

import asyncio
import base64
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from kun.errors import BadInput, KunError
from kun.server.bodies import ChatMessage, ChatRequest, CompletionRequest, EmbeddingRequest, Sampled
from kun.server.service import Service

if TYPE_CHECKING:
    from kun.generation import Generation, LanguageModel, Piece, SamplingOptions
    from kun.generation.results import TokenLogprob
    from kun.knowledge.answer import AnswerStream

_MOST_INPUTS = 2048
_WATCH_SECONDS = 0.5


class Reply:
    """An answer that is being written: take it `whole`, or as `events`."""

    def __init__(self, name: str, kind: str) -> None:
        self._head = {"id": f"{kind}-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}

    async def whole(self, gone: Callable[[], Awaitable[bool]]) -> dict[str, Any]:
        """The whole body; what runs is cancelled when the client is `gone`."""
        watch = asyncio.create_task(self._watch(gone))
        try:
            return await self._collect()
        finally:
            watch.cancel()

    async def _watch(self, gone: Callable[[], Awaitable[bool]]) -> None:
        while not await gone():
            await asyncio.sleep(_WATCH_SECONDS)
        self.cancel()

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events; a client that leaves cancels what runs."""
        try:
            async for chunk in self._chunks():
                yield f"data: {json.dumps(self._head | chunk, ensure_ascii=False)}\n\n"
        except KunError as error:
            body = {"error": {"message": str(error), "type": error.http_type, "param": None, "code": None}}
            yield f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
        finally:
            self.cancel()
        yield "data: [DONE]\n\n"

    def cancel(self) -> None:
        raise NotImplementedError

    async def _collect(self) -> dict[str, Any]:
        raise NotImplementedError

    def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        raise NotImplementedError


class GenerationReply(Reply):
    """What a language model writes, as chat messages or as plain text."""

    def __init__(
        self, lm: "LanguageModel", generations: "list[Generation]", request: Sampled, chat: bool
    ) -> None:
        super().__init__(request.model or lm.name, "chatcmpl" if chat else "cmpl")
        self._lm, self._generations, self._request, self._chat = lm, generations, request, chat

    def cancel(self) -> None:
        for generation in self._generations:
            generation.cancel()

    async def _collect(self) -> dict[str, Any]:
        choices: list[dict[str, Any]] = []
        made = 0
        for number, generation in enumerate(self._generations):
            texts: dict[int, dict[str, Any]] = {}
            async for piece in generation:
                one = texts.setdefault(piece.index, {"text": "", "reason": None, "calls": [], "scores": []})
                one["text"] += piece.text
                one["reason"] = piece.finish_reason or one["reason"]
                one["calls"] += piece.tool_calls
                one["scores"] += piece.logprobs or ()
                made += len(piece.token_ids)
            for index in sorted(texts):
                choices.append(self._choice(number * self._request.n + index, texts[index], number))
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": self._usage(made)}

    def _choice(self, index: int, one: dict[str, Any], number: int) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "finish_reason": _reason(one["reason"]), "logprobs": None}
        if self._chat:
            message: dict[str, Any] = {
                "role": "assistant",
                "content": one["text"] or None if one["calls"] else one["text"],
            }
            if one["calls"]:
                message["tool_calls"] = one["calls"]
            if one["scores"]:
                choice["logprobs"] = {"content": [self._score(score) for score in one["scores"]]}
            return choice | {"message": message}
        assert isinstance(self._request, CompletionRequest)
        scores = [*self._echoed(number), *one["scores"]] if self._request.logprobs is not None else []
        text = one["text"]
        if self._request.echo:
            text = self._prompt_text(number) + text
        if scores:
            choice["logprobs"] = self._plain_scores(scores)
        return choice | {"text": text}

    def _echoed(self, number: int) -> "list[TokenLogprob | None]":
        assert isinstance(self._request, CompletionRequest)
        if not self._request.echo:
            return []
        prompt = _prompts(self._request.prompt)[number]
        self._ids = self._lm.encode(prompt)
        return self._lm.prompt_logprobs(prompt, self._request.logprobs or 0)

    def _prompt_text(self, number: int) -> str:
        assert isinstance(self._request, CompletionRequest)
        prompt = _prompts(self._request.prompt)[number]
        return (
            prompt
            if isinstance(prompt, str)
            else self._lm.tokenizer.decode(prompt, skip_special_tokens=False)
        )

    def _plain_scores(self, scores: "Sequence[TokenLogprob | None]") -> dict[str, Any]:
        first = self._ids[0] if scores[0] is None else None
        tokens = [self._text(first if score is None else score.token_id) for score in scores]
        offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
        return {
            "tokens": tokens,
            "token_logprobs": [None if score is None else score.logprob for score in scores],
            "top_logprobs": [
                None if score is None else {self._text(token): value for token, value in score.top}
                for score in scores
            ],
            "text_offset": offsets,
        }

    def _text(self, token: int | None) -> str:
        return "" if token is None else self._lm.token_bytes(token).decode("utf-8", "replace")

    def _score(self, score: "TokenLogprob") -> dict[str, Any]:
        def one(token: int, value: float) -> dict[str, Any]:
            data = self._lm.token_bytes(token)
            return {"token": data.decode("utf-8", "replace"), "logprob": value, "bytes": list(data)}

        top = [one(token, value) for token, value in score.top]
        return one(score.token_id, score.logprob) | {"top_logprobs": top}

    def _usage(self, made: int) -> dict[str, Any]:
        read = sum(generation.prompt_tokens for generation in self._generations)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        made = 0
        begun: set[int] = set()
        for number, generation in enumerate(self._generations):
            async for piece in generation:
                made += len(piece.token_ids)
                index = number * self._request.n + piece.index
                yield {"object": kind, "choices": [self._delta(index, piece, index not in begun)]}
                begun.add(index)
        if self._request.stream_options is not None and self._request.stream_options.include_usage:
            yield {"object": kind, "choices": [], "usage": self._usage(made)}

    def _delta(self, index: int, piece: "Piece", first: bool) -> dict[str, Any]:
        end = _reason(piece.finish_reason) if piece.finish_reason else None
        if not self._chat:
            return {"index": index, "text": piece.text, "finish_reason": end, "logprobs": None}
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if piece.text or not piece.finish_reason:
            delta["content"] = piece.text
        if piece.tool_calls:
            delta["tool_calls"] = [call | {"index": place} for place, call in enumerate(piece.tool_calls)]
        scores = {"content": [self._score(score) for score in piece.logprobs]} if piece.logprobs else None
        return {"index": index, "delta": delta, "finish_reason": end, "logprobs": scores}


class DocumentReply(Reply):
    """An answer from a knowledge base, with its citations."""

    def __init__(self, stream: "AnswerStream", request: ChatRequest) -> None:
        super().__init__(request.model, "chatcmpl")
        self._stream, self._request = stream, request

    def cancel(self) -> None:
        self._stream.cancel()

    async def _collect(self) -> dict[str, Any]:
        answer = await run_in_threadpool(self._stream.answer)
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        body = {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return body | self._extras(answer)

    def _extras(self, answer: Any) -> dict[str, Any]:
        citations = [
            {
                "index": place,
                "source": passage.source,
                "heading": passage.heading,
                "page": passage.page,
                "text": passage.text,
                "score": passage.score,
            }
            for place, passage in enumerate(answer.passages, 1)
        ]
        return {"citations": citations} | ({"prompt": answer.prompt} if self._request.return_prompt else {})

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        def chunk(delta: dict[str, Any], end: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}
            return {"object": "chat.completion.chunk", "choices": [choice]}

        yield chunk({"role": "assistant", "content": ""})
        async for text in _in_thread(self._stream):
            yield chunk({"content": text})
        yield chunk({}, "stop") | self._extras(await run_in_threadpool(self._stream.answer))


async def _in_thread(pieces: Any) -> AsyncIterator[str]:
    """A blocking iterator, read in a thread of its own."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[Any]()

    def read() -> None:
        try:
            for piece in pieces:
                loop.call_soon_threadsafe(arrived.put_nowait, piece)
            loop.call_soon_threadsafe(arrived.put_nowait, None)
        except BaseException as error:
            loop.call_soon_threadsafe(arrived.put_nowait, error)

    threading.Thread(target=read, name="kun-answer", daemon=True).start()
    while (piece := await arrived.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece


async def chat(service: Service, body: ChatRequest) -> Reply:
    """Begin to answer a conversation. Raises what generating raises."""
    return await run_in_threadpool(_chat, service, body)


def _chat(service: Service, body: ChatRequest) -> Reply:
    base, _, name = body.model.rpartition("@")
    lm = service.language_model(name or None)
    messages = [_message(message) for message in body.messages]
    options = _options(body, body.max_completion_tokens or body.max_tokens)
    if base:
        return _from_documents(service, base, lm, messages, body, options)
    tools = body.tools or None
    generation = lm.submit(messages, options, tools=tools, tool_choice=body.tool_choice if tools else None)
    return GenerationReply(lm, [generation], body, chat=True)


def _from_documents(
    service: Service,
    base: str,
    lm: "LanguageModel",
    messages: list[Any],
    body: ChatRequest,
    options: "SamplingOptions",
) -> Reply:
    if messages[-1]["role"] != "user":
        raise BadInput("A knowledge base answers questions: the last message must be the user's.")
    history = [message for message in messages[:-1] if message["role"] in ("user", "assistant")]
    given = {
        "max_tokens": options.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": body.seed,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    stream = service.knowledge_base(base).ask_stream(messages[-1]["content"], lm, history=history, **asked)
    return DocumentReply(stream, body)


def _message(message: ChatMessage) -> dict[str, Any]:
    content = message.content
    if isinstance(content, list):
        if any(part.get("type") not in ("text", "input_text") for part in content):
            raise BadInput("This model does not see pictures: send parts of type text only.")
        content = "".join(str(part.get("text", "")) for part in content)
    said: dict[str, Any] = {"role": message.role, "content": content or ""}
    for name in ("name", "tool_calls", "tool_call_id"):
        if getattr(message, name) is not None:
            said[name] = getattr(message, name)
    return said


async def complete(service: Service, body: CompletionRequest) -> Reply:
    """Begin to continue texts. Raises what generating raises."""
    return await run_in_threadpool(_complete, service, body)


def _complete(service: Service, body: CompletionRequest) -> Reply:
    if body.suffix:
        raise BadInput("suffix is not supported: leave it out.")
    if body.echo and body.stream:
        raise BadInput("echo and stream do not go together: leave one out.")
    lm = service.language_model(body.model or None)
    prompts = _prompts(body.prompt)
    # lm-eval asks for no new token at all; one is made and cut off, since a generation makes at least one
    options = _options(body, max(1, 16 if body.max_tokens is None else body.max_tokens))
    generations: list[Generation] = []
    try:
        for prompt in prompts:
            generations.append(lm.submit(prompt, options))
    except KunError:
        for generation in generations:
            generation.cancel()
        raise
    return GenerationReply(lm, generations, body, chat=False)


def _prompts(prompt: Any) -> list[Any]:
    """A text, token ids, or a list of either, as a list."""
    prompts = [prompt] if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) else list(prompt)
    if not prompts or len(prompts) > _MOST_INPUTS:
        raise BadInput(f"There are {len(prompts)} prompts; from 1 to {_MOST_INPUTS} can be sent at once.")
    return prompts


def _options(body: Sampled, max_tokens: int | None) -> "SamplingOptions":
    from kun.generation import SamplingOptions

    given: dict[str, Any] = {
        name: getattr(body, name)
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "n")
    }
    given |= {"max_tokens": max_tokens, "frequency_penalty": body.frequency_penalty}
    given |= {
        "presence_penalty": body.presence_penalty,
        "stop": body.stop,
        "logit_bias": _bias(body.logit_bias),
    }
    if isinstance(body, ChatRequest):
        given |= {
            "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
            "json_schema": _schema(body),
        }
    elif isinstance(body, CompletionRequest):
        given["logprobs"] = body.logprobs
    return SamplingOptions(**{name: value for name, value in given.items() if value is not None})


def _bias(bias: dict[str, float] | None) -> dict[int, float] | None:
    try:
        return None if bias is None else {int(token): value for token, value in bias.items()}
    except ValueError as error:
        raise BadInput("logit_bias has a key that is no token id.") from error


def _schema(body: ChatRequest) -> Any:
    wanted = body.response_format or {}
    kind = wanted.get("type", "text")
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema":
        schema = wanted.get("json_schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
            raise BadInput("response_format of type json_schema needs json_schema.schema.")
        return schema["schema"]
    if kind != "text":
        raise BadInput(f"response_format is {str(kind)[:50]!r}; it is text, json_object or json_schema.")
    return None


def embed(service: Service, body: EmbeddingRequest) -> dict[str, Any]:
    """Vectors of texts, in OpenAI's shape. Raises what the encoder raises."""
    encoder = service.encoder(body.model or None)
    inputs = _prompts(body.input)
    texts = [one if isinstance(one, str) else encoder.tokenizer.decode(one) for one in inputs]
    vectors = encoder.embed(texts, kind=body.input_type)
    used = sum(len(encoder.tokenizer.encode(text).ids) for text in texts)
    data = [
        {"object": "embedding", "index": i, "embedding": _encoded(v, body)} for i, v in enumerate(vectors)
    ]
    name = body.model or service.default_encoder
    return {
        "object": "list",
        "data": data,
        "model": name,
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _encoded(vector: Any, body: EmbeddingRequest) -> Any:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()


def _reason(reason: str | None) -> str:
    return "stop" if reason in (None, "cancelled") else reason

"""From requests to replies: what is asked of which model, checked, queued, and begun off the event loop."""

import base64
import json
import logging
from functools import partial
from typing import TYPE_CHECKING

from kun.errors import BadInput, ContextOverflow
from kun.server.bodies import (
    Body,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Prompt,
    Sampled,
    ScoreRequest,
    several,
)
from kun.server.documents import DocumentReply
from kun.server.failures import JsonObject
from kun.server.generated import ChatReply, CompletionReply
from kun.server.metrics import Metrics
from kun.server.replies import Reply
from kun.server.service import Service
from kun.server.toolboxes import Toolboxes
from kun.server.tools import ToolReply, check_tools
from kun.server.workers import Workers
from kun.settings import settings

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from kun.generation.options import SamplingOptions
    from kun.generation.results import Generation, TokenLogprob
    from kun.knowledge.answer import AnswerStream, SamplingChoice
    from kun.models.encoder import Encoder
    from kun.models.language_model import LanguageModel

log = logging.getLogger("kun.server")
_MOST_NAMED = 1000
_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
    "seed", "stop", "truncate",
)  # fmt: skip


class Answering:
    """Begins the replies to requests. Whatever blocks (loading, encoding, searching) runs in `Workers`."""

    def __init__(self, service: Service, metrics: Metrics, toolboxes: Toolboxes) -> None:
        waiting, running = settings().max_queue, settings().max_batch
        self._service, self._metrics = service, metrics
        self.quick = Workers("kun-list", 2, waiting)
        self._starting = Workers("kun-start", 8, waiting)
        self._embedding = Workers("kun-embed", 2, waiting)
        self._scoring = Workers("kun-score", 2, waiting)
        # a tool server that does not answer holds a thread until it is given up; chats without tools wait for none
        self._tools = Workers("kun-tools", 4, waiting)
        # an answer from documents holds a thread until its end, and there may be as many as the engine takes
        self._reading = Workers("kun-read", waiting + running, waiting)
        self._named: set[str] = set()
        self._toolboxes = toolboxes

    def close(self) -> None:
        every = self.quick, self._starting, self._embedding, self._scoring, self._tools, self._reading
        for workers in every:
            workers.close()

    async def chat(self, body: ChatRequest) -> Reply:
        """Begin to answer a conversation. Raises what generating and searching raise."""
        self._name_unknown(body)
        base, _, name = (body.model or "").rpartition("@")
        lm = await self._starting.run(self._service.language_model, name or None)
        if base:
            return await self._from_documents(base, lm, body)
        messages = [_message(message) for message in body.messages]
        options = await self._starting.run(_chat_options, body)
        if body.run_tools:
            check_tools(body)
            toolbox = await self._tools.run(self._toolboxes.chosen, body.run_tools)
            return ToolReply(lm, body, messages, toolbox, options, self._reading)
        submit = partial(
            lm.submit,
            messages,
            options,
            tools=body.tools,
            tool_choice=body.tool_choice,
            parallel_tool_calls=body.parallel_tool_calls is not False,
        )

        async def start(_: int) -> "Generation":
            return await self._starting.run(submit, abandoned=_cancel)

        return await ChatReply(lm, body, "chatcmpl", 1, start).begin()

    async def _from_documents(self, base: str, lm: "LanguageModel", body: ChatRequest) -> Reply:
        ask = partial(self._ask, base, lm, body)
        stream = await self._starting.run(ask, abandoned=_cancel)
        return DocumentReply(stream, lm, body, self._reading)

    def _ask(self, base: str, lm: "LanguageModel", body: ChatRequest) -> "AnswerStream":
        _check_documents(body)
        *earlier, last = body.messages
        if last.role != "user":
            raise BadInput("A knowledge base answers questions: the last message must be the user's.")
        history = [
            {"role": message.role, "content": _text(message)}
            for message in earlier
            if message.role in ("user", "assistant")
        ]
        options: SamplingChoice = {"top_p": body.top_p, "seed": body.seed}
        tokens = body.max_completion_tokens or body.max_tokens
        if tokens is not None:
            options["max_tokens"] = tokens
        if body.temperature is not None:
            options["temperature"] = body.temperature
        knowledge = self._service.knowledge_base(base)
        return knowledge.ask_stream(
            _text(last), lm, history=history, k=body.k, sources=body.sources, **options
        )

    async def complete(self, body: CompletionRequest) -> Reply:
        """Begin to continue texts. Raises what generating raises."""
        self._name_unknown(body)
        options = _completion_options(body)
        lm = await self._starting.run(self._service.language_model, body.model)
        prompts = several(body.prompt)

        async def start(number: int) -> "Generation":
            return await self._starting.run(lm.submit, prompts[number], options, abandoned=_cancel)

        async def score(prompt: Prompt) -> "tuple[list[int], list[TokenLogprob | None]]":
            return await self._reading.run(_scored, lm, prompt, body.logprobs or 0)

        return await CompletionReply(lm, body, prompts, start, score).begin()

    async def embed(self, body: EmbeddingRequest) -> JsonObject:
        """Vectors of texts. Raises what the encoder raises."""
        self._name_unknown(body)
        return await self._embedding.run(self._embed, body)

    def _embed(self, body: EmbeddingRequest) -> JsonObject:
        encoder = self._service.encoder(body.model)
        if body.dimensions not in (None, encoder.dimensions):
            raise BadInput(
                f"dimensions is {body.dimensions}; the vectors of {encoder.name} have {encoder.dimensions} "
                f"numbers, all of which matter: leave it out."
            )
        texts = [_as_text(encoder, one) for one in several(body.input)]
        used = sum(_counted(encoder, text, body) for text in texts)
        vectors = encoder.embed(texts, kind=body.input_type)
        self._metrics.embedded(used)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": place, "embedding": _vector(vector, body)}
                for place, vector in enumerate(vectors)
            ],
            "model": body.model or self._service.default_encoder,
            "usage": {"prompt_tokens": used, "total_tokens": used},
        }

    async def score(self, body: ScoreRequest) -> JsonObject:
        """Scores of conversations. Raises what the reward model raises."""
        self._name_unknown(body)
        return await self._scoring.run(self._score, body)

    def _score(self, body: ScoreRequest) -> JsonObject:
        judge = self._service.reward_model(body.model)
        limit = judge.config.context_length
        rows: list[list[int]] = []
        for place, talk in enumerate(body.talks):
            given = talk if isinstance(talk, str) else [_message(message) for message in talk]
            rows.append(judge.tokens(given))
            if len(rows[-1]) > limit and not body.truncate:
                raise ContextOverflow(
                    f"Conversation {place} has {len(rows[-1])} tokens or more; {judge.name} reads {limit}: send "
                    f'"truncate": true to have its beginning left out.'
                )
        used = sum(min(len(row), limit) for row in rows)
        scores = judge.score_tokens(rows).tolist()
        self._metrics.scored(used)
        return {
            "object": "list",
            "data": [
                {"object": "score", "index": place, "score": score} for place, score in enumerate(scores)
            ],
            "model": body.model or self._service.default_reward,
            "usage": {"prompt_tokens": used, "total_tokens": used},
        }

    def _name_unknown(self, body: Body) -> None:
        """Name fields that are ignored in the log, each once, so that no client floods it."""
        new = {name[:60] for name in body.model_extra or ()} - self._named
        if new and len(self._named) < _MOST_NAMED:
            self._named |= new
            log.warning("Ignored fields of a request: %s", ", ".join(map(repr, sorted(new)))[:1000])


def _cancel(begun: "Generation | AnswerStream") -> None:
    begun.cancel()


def _scored(lm: "LanguageModel", prompt: Prompt, top: int) -> "tuple[list[int], list[TokenLogprob | None]]":
    return lm.encode(prompt), lm.prompt_logprobs(prompt, top)


def _text(message: ChatMessage) -> str:
    """The content of a message as one text."""
    content = message.content
    if isinstance(content, list):
        if any(part.type not in ("text", "input_text", "refusal") for part in content):
            raise BadInput("This model does not see or hear: send content parts of type text only.")
        content = "\n".join(part.text or "" for part in content)
    return content or ""


def _message(message: ChatMessage) -> JsonObject:
    """A message as the chat template takes it: its content a text."""
    rest = {"name": message.name, "tool_calls": message.tool_calls, "tool_call_id": message.tool_call_id}
    given = {name: value for name, value in rest.items() if value is not None}
    return {"role": message.role, "content": _text(message), **given}


def _check_documents(body: ChatRequest) -> None:
    unsuited = {
        "n": body.copies > 1,
        "tools": bool(body.tools or body.run_tools),
        "logprobs": bool(body.logprobs),
        "stop": bool(body.stop),
        "response_format": body.response_format is not None and body.response_format.type != "text",
    }
    for name, given in unsuited.items():
        if given:
            raise BadInput(f"A knowledge base gives one answer in plain text: leave {name} out.")


def _chat_options(body: ChatRequest) -> "SamplingOptions":
    if body.top_logprobs is not None and not body.logprobs:
        raise BadInput("top_logprobs needs logprobs: set that to true.")
    return _options(
        body,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        json_schema=_schema(body),
        n=body.copies,
    )


def _completion_options(body: CompletionRequest) -> "SamplingOptions":
    if body.suffix:
        raise BadInput("suffix is not supported, since these models only write onwards: leave it out.")
    best_of = body.best_of or body.copies
    if best_of < body.copies:
        raise BadInput(f"best_of is {best_of} and n is {body.n}: best_of must be at least n.")
    if best_of > body.copies and body.stream:
        raise BadInput("best_of and stream do not go together: the best is known only at the end.")
    ranked = 0 if best_of > body.copies else None
    # who weighs a prompt counts its tokens from the end of the list, where one that was written always stands
    weighs = bool(body.echo) and body.logprobs is not None and body.max_tokens == 1
    return _options(
        body,
        ignore_eos=weighs,
        max_tokens=16 if body.max_tokens is None else max(1, body.max_tokens),
        logprobs=ranked if body.logprobs is None else body.logprobs,
        n=best_of,
    )


def _options(body: Sampled, **given: object) -> "SamplingOptions":
    from kun.generation.options import make_options

    given |= {name: getattr(body, name) for name in _SAMPLING}
    given["logit_bias"] = {int(token): value for token, value in (body.logit_bias or {}).items()}
    return make_options({name: value for name, value in given.items() if value is not None})


def _schema(body: ChatRequest) -> JsonObject | None:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    schema = (wanted.json_schema or {}).get("schema")
    if not isinstance(schema, dict):
        raise BadInput("response_format of type json_schema needs an object in json_schema.schema.")
    return _followed(schema, strict=(wanted.json_schema or {}).get("strict") is True)


def _followed(schema: JsonObject, strict: bool) -> JsonObject:
    """The schema without sound keywords that no text can be held to, unless all of it is asked for."""
    from kun.generation.options import LONGEST_CONSTRAINT
    from kun.generation.schemas import UNSUPPORTED, weakened

    if len(json.dumps(schema)) > LONGEST_CONSTRAINT:
        return schema  # refused with its size, before any of it is tried
    weaker, dropped = weakened(schema)
    if not dropped or not UNSUPPORTED.issuperset(dropped):
        return schema  # whoever makes the constraint says what is wrong with it
    names = ", ".join(dropped)
    if strict:
        raise BadInput(
            f'No text can be held to {names} in response_format: leave it out, or send "strict": false.'
        )
    log.warning("The answer is not held to %s in response_format.", names)
    return weaker


def _as_text(encoder: "Encoder", one: Prompt) -> str:
    """A text, or what its token ids stand for."""
    if isinstance(one, str):
        return one.encode("utf-8", "replace").decode()
    size = encoder.tokenizer.get_vocab_size()
    beyond = next((token for token in one if token >= size), None)
    if beyond is not None:
        raise BadInput(f"Token {beyond} is none of {encoder.name}, which has {size}: send text instead.")
    return encoder.tokenizer.decode(one)


def _counted(encoder: "Encoder", text: str, body: EmbeddingRequest) -> int:
    """The tokens of a text that are read. Raises `ContextOverflow` for too long a text, unless `truncate`."""
    from kun.models.ready import LONGEST_TOKEN

    prefix = encoder.recipe.prefixes.get(body.input_type, "") if body.input_type else ""
    tokens = len(encoder.tokenizer.encode((prefix + text)[: LONGEST_TOKEN * encoder.max_tokens]).ids)
    if (tokens > encoder.max_tokens or len(text) > LONGEST_TOKEN * encoder.max_tokens) and not body.truncate:
        raise ContextOverflow(
            f"A text has {tokens} tokens; {encoder.name} reads {encoder.max_tokens}: cut it into parts, or send "
            f'"truncate": true to have its beginning embedded.'
        )
    return min(tokens, encoder.max_tokens)


def _vector(vector: "NDArray[float32]", body: EmbeddingRequest) -> str | list[float]:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()

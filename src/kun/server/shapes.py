"""Answers of the API, in OpenAI's shapes: what `/openapi.json` promises."""

from typing import Literal

from pydantic import BaseModel

from kun.server.failures import JsonObject

FinishReason = Literal["stop", "length", "tool_calls"]


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: Error


class Health(BaseModel):
    status: Literal["ok"]
    version: str


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    object: Literal["list"]
    data: list[Model]


class PromptDetails(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None


class Function(BaseModel):
    name: str
    arguments: str


class ToolCall(BaseModel):
    id: str
    type: Literal["function"]
    function: Function


class Message(BaseModel):
    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCall] | None = None


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    content: list[TokenLogprob]


class ChatChoice(BaseModel):
    index: int
    message: Message
    finish_reason: FinishReason
    logprobs: Logprobs | None


class Citation(BaseModel):
    """A passage that an answer may cite as [index]; `page` counts from 1 where the document has pages."""

    index: int
    source: str
    heading: str
    page: int | None
    text: str
    score: float


class Calculation(BaseModel):
    """The steps of a calculation in words, and the program that was run over the rows of the cited passages."""

    calculation: str
    program: JsonObject


class MadeCall(BaseModel):
    """A call of a tool that the server ran; `result` is the fault in a sentence where it `failed`."""

    name: str
    arguments: JsonObject
    result: str
    failed: bool
    seconds: float


class ChatCompletion(BaseModel):
    """`truncated_tokens` says how much of the prompt was left out. A knowledge base adds `citations` and the rest.

    `declined`: the documents do not answer; `quoted`: the answer is sentences of theirs; `computed`: it is the result
    of a calculation. With `run_tools` there are the `calls` that were made.
    """

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    truncated_tokens: int | None = None
    citations: list[Citation] | None = None
    declined: bool | None = None
    quoted: bool | None = None
    computed: Calculation | None = None
    calls: list[MadeCall] | None = None
    question: str | None = None
    prompt: list[JsonObject] | None = None


class PlainLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(BaseModel):
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: PlainLogprobs | None


class TextCompletion(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    truncated_tokens: int | None = None


class Embedding(BaseModel):
    """`embedding` is a list of numbers, or little-endian float32 in base64, as was asked for."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Score(BaseModel):
    object: Literal["score"]
    index: int
    score: float


class Scores(BaseModel):
    """Only differences between answers to one prompt mean something."""

    object: Literal["list"]
    data: list[Score]
    model: str
    usage: EmbeddingUsage


_ERRORS = {
    400: "The request cannot be answered as it is",
    401: "The key is missing or wrong",
    403: "The request comes from a page of another site, or by a name that this server does not go by",
    404: "The model or knowledge base is not here",
    408: "The body did not arrive in time",
    409: "The knowledge base was made with another encoder",
    413: "The body is too large",
    422: "A stored file is damaged",
    429: "Too many requests are waiting; Retry-After says when to come back",
    500: "The server failed",
    503: "The server is stopping, or the answer took too long",
}


def answers(
    shape: type[BaseModel], *, streams: bool = False, errors: tuple[int, ...] = ()
) -> dict[int | str, JsonObject]:
    """The answers of a route, as FastAPI's `responses` takes them."""
    done: JsonObject = {"model": shape}
    if streams:
        # an event's data is a chunk of the answer, or [DONE]: what OpenAPI has no schema for
        done["content"] = {"text/event-stream": {"schema": {}}}
        done["description"] = "The whole answer, or server-sent events that end with [DONE]"
    told = (401, 403, 408, 413, 429, 500, 503, *errors)
    failed: dict[int | str, JsonObject] = {
        status: {"model": ErrorBody, "description": _ERRORS[status]} for status in sorted(told)
    }
    return {200: done} | failed

"""Requests of the API, in OpenAI's shapes. Fields that Kun does not know are ignored, and named in the log.

A field that is null is a field left out. The bounds are those of `kun.generation.SamplingOptions`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

MOST_INPUTS = 2048
_SEED = 2**63

Name = Annotated[str, Field(max_length=300)]
Stop = Annotated[str, Field(min_length=1, max_length=512)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
TokenName = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Biases = Annotated[
    dict[TokenName, Annotated[float, Field(ge=-1000, le=1000)]],
    Field(max_length=4096, json_schema_extra={"additionalProperties": False}),
]
Texts = Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS)]
Inputs = str | Texts | TokenIds | Annotated[list[TokenIds], Field(min_length=1, max_length=MOST_INPUTS)]
"""One text, several, the token ids of one, or of several."""
Prompt = str | list[int]
"""A text, or its token ids."""


def several(inputs: str | list[str] | list[int] | list[list[int]]) -> list[Prompt]:
    """A text, token ids, or a list of either, as a list."""
    if isinstance(inputs, str):
        return [inputs]
    ids = [one for one in inputs if isinstance(one, int)]
    return [ids] if ids else [one for one in inputs if not isinstance(one, int)]


class Body(BaseModel):
    """What has more than the fields below keeps the rest apart."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _with_whole_numbers(cls, given: object) -> object:
        """JSON has but one kind of numbers: 16.0 is the same as 16."""
        return {name: _whole(value) for name, value in given.items()} if isinstance(given, dict) else given


def _whole(value: object) -> object:
    """A number without a fraction as an integer; so too those of a list, or of lists in it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list) and value and isinstance(value[0], int | float | list):
        return [_whole(one) for one in value]
    return value


class Part(Body):
    type: str
    text: str | None = None


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[dict[str, object]] | None = None
    tool_call_id: str | None = None


class StreamOptions(Body):
    include_usage: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, object] | None = None


class Sampled(Body):
    """The fields that chat and plain completions share.

    `truncate` lets a prompt that is too long lose its beginning; with `return_progress` a stream has chunks with
    `prompt_progress` until its first words.
    """

    model: Name | None = None
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    frequency_penalty: float | None = Field(None, ge=-100, le=100)
    presence_penalty: float | None = Field(None, ge=-100, le=100)
    logit_bias: Biases | None = None
    seed: int | None = Field(None, ge=-_SEED, lt=_SEED)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    n: int | None = Field(None, ge=1, le=128)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    truncate: bool | None = None
    return_progress: bool | None = None
    user: str | None = None

    @property
    def copies(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Sampled):
    """For a knowledge base as a model, `k` and `sources` choose passages, and `return_prompt` shows the prompt."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=4096)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=100)
    response_format: ResponseFormat | None = None
    tools: list[dict[str, object]] | None = Field(None, max_length=64)
    run_tools: list[str] | None = Field(None, min_length=1, max_length=64)
    """Tools that the server runs itself: its own, those of servers that were added by their names,
    those of knowledge bases as "base:NAME", or "all"."""
    tool_choice: Literal["none", "auto", "required"] | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None
    return_prompt: bool | None = None
    k: int | None = Field(None, ge=1, le=100)
    sources: list[str] | None = Field(None, min_length=1, max_length=1000)


class CompletionRequest(Sampled):
    prompt: Inputs
    max_tokens: int | None = Field(None, ge=0, le=1_000_000)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=100)
    best_of: int | None = Field(None, ge=1, le=128)
    suffix: str | None = None


class EmbeddingRequest(Body):
    input: Inputs
    model: Name | None = None
    input_type: Literal["query", "passage"] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    truncate: bool | None = None
    user: str | None = None


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]


class Talk(Body):
    messages: Messages


def _shape(value: object) -> str:
    """The tag of what is scored: a text, an object with messages, messages, or several of these."""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, dict):
        return "an object"
    is_talk = isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "role" in value[0]
    return "some messages" if is_talk else "several talks"


_Text = Annotated[str, Tag("a text")]
_Talk = Annotated[Talk, Tag("an object")]
_Messages = Annotated[Messages, Tag("some messages")]
OneTalk = Annotated[
    _Text | _Talk | Annotated[Messages, Tag("several talks")] | _Messages, Discriminator(_shape)
]
Talks = Annotated[list[OneTalk], Field(min_length=1, max_length=MOST_INPUTS), Tag("several talks")]


class ScoreRequest(Body):
    """One conversation, or a list of them: messages, an object with `messages`, or a text that is read as it stands.

    `truncate` lets a conversation that is too long lose its beginning.
    """

    input: Annotated[_Text | _Talk | _Messages | Talks, Discriminator(_shape)]
    model: Name | None = None
    truncate: bool | None = None
    user: str | None = None

    @property
    def talks(self) -> list[str | list[ChatMessage]]:
        """What is scored, one by one."""
        given = self.input
        if isinstance(given, str | Talk):
            return [_plain(given)]
        messages = [one for one in given if isinstance(one, ChatMessage)]
        return [messages] if messages else [_plain(one) for one in given if not isinstance(one, ChatMessage)]


def _plain(one: str | Talk | list[ChatMessage]) -> str | list[ChatMessage]:
    return one.messages if isinstance(one, Talk) else one

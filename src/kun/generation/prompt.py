"""From what a caller gives (text, messages or token ids) to the tokens that the network reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

from tokenizers import Tokenizer

from kun.errors import BadInput, ContextOverflow
from kun.generation.options import Message, Messages, Prompt
from kun.generation.tools import call_key, call_text, instruction
from kun.text.chat import ChatTemplate
from kun.text.control import ControlTokens
from kun.text.tokenizer import before_the_end, sound

_LONGEST_TOKEN = 256
_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Encoded:
    """A prompt's token ids, and how many of its tokens were left out."""

    ids: list[int]
    truncated: int = 0


class Prompts:
    """Renders, encodes and, where that was asked for, shortens prompts for one model."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        *,
        vocabulary: int,
        limit: int,
        bos: int | None,
        name: str = "This model",
        open_ended: bool = True,
    ) -> None:
        """`open_ended`: the text is gone on with, so that no token which ends it is put behind it."""
        self.tokenizer, self.template, self.limit = tokenizer, template, limit
        self.vocabulary, self.name = vocabulary, name
        self._bos, self._open_ended = bos, open_ended
        self._control = ControlTokens.of(tokenizer, template.source if template else "")
        self._knows_tools = template is not None and "tools" in template.source

    def render(self, messages: Messages, tools: Sequence[Mapping[str, object]] | None = None) -> str:
        """The prompt as text, whose control tokens are the template's alone.

        Raises `BadInput` for a model without template, or messages that aren't.
        """
        if self.template is None:
            raise BadInput(
                f"{self.name} has no chat template, so it cannot take messages: give it a text, or use a model "
                f"that was tuned for chat (its name often ends in -instruct)."
            )
        plain = [cast(_Plain, self._control.as_text(_normal(message))) for message in messages]
        if not plain:
            raise BadInput("There are no messages: send at least one.")
        tools = self._control.tools_as_text(tools)
        if self._knows_tools:
            return self.template.render(plain, tools=tools)
        return self.template.render(_without_tools(plain, tools))

    def encode(
        self,
        prompt: Prompt,
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        room: int = 1,
        truncate: bool = False,
    ) -> Encoded:
        """Token ids that leave `room` for an answer. Raises `ContextOverflow` unless `truncate`, `BadInput`."""
        limit = max(1, self.limit - (room if truncate else 1))
        if isinstance(prompt, str):
            return self._fit(self._text(prompt, truncate), limit, truncate)
        kinds = {isinstance(one, Mapping) for one in _sequence(prompt)}
        if kinds == {True} or not prompt:
            return self._chat(list(prompt), tools, limit, truncate)  # type: ignore[arg-type]
        return self._fit(self._checked(prompt), limit, truncate)

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _text(self, text: str, truncate: bool) -> list[int]:
        longest = self.limit * _LONGEST_TOKEN
        if len(text) > longest:
            if not truncate:
                raise ContextOverflow(
                    f"The prompt has {len(text)} characters, far more than the {self.limit} tokens of the context."
                )
            text = text[-longest:]
        encoding = self.tokenizer.encode(sound(text))
        ids: list[int] = encoding.ids
        return ids[: before_the_end(encoding)] if self._open_ended else ids

    def _checked(self, ids: Sequence[object]) -> list[int]:
        checked: list[int] = []
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < self.vocabulary:
                raise BadInput(
                    f"A prompt is a text, a list of messages, or token ids from 0 to {self.vocabulary - 1}; "
                    f"this one holds {str(token)[:60]!r}."
                )
            checked.append(token)
        return checked

    def _fit(self, ids: list[int], limit: int, truncate: bool) -> Encoded:
        if not ids:
            if self._bos is None:
                raise BadInput(
                    "The prompt is empty, and this model has no token to begin with: write something."
                )
            ids = [self._bos]
        if len(ids) < self.limit and (len(ids) <= limit or not truncate):
            return Encoded(ids)
        if not truncate:
            raise ContextOverflow(
                f"The prompt has {len(ids)} tokens and needs room for one more; {self.name} takes {self.limit} "
                f"in all: shorten it, or ask for truncate."
            )
        return Encoded(ids[-limit:], len(ids) - limit)

    def _chat(
        self,
        messages: list[Message],
        tools: Sequence[Mapping[str, object]] | None,
        limit: int,
        truncate: bool,
    ) -> Encoded:
        ids = self._rendered(messages, tools)
        if len(ids) <= limit or not truncate:
            return self._fit(ids, limit, truncate)
        cuts = _cuts(messages)
        low, high = 0, len(cuts)
        while low < high:  # the fewest oldest turns that must go
            middle = (low + high) // 2
            if len(self._rendered(cuts[middle], tools)) <= limit:
                high = middle
            else:
                low = middle + 1
        kept = self._rendered(cuts[min(low, len(cuts) - 1)], tools) if cuts else ids
        return Encoded(kept[-limit:], len(ids) - min(len(kept), limit))

    def _rendered(self, messages: Messages, tools: Sequence[Mapping[str, object]] | None) -> list[int]:
        ids: list[int] = self.tokenizer.encode(
            sound(self.render(messages, tools)), add_special_tokens=False
        ).ids
        return ids


def _sequence(prompt: object) -> Sequence[object]:
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes):
        return prompt
    raise BadInput(f"A prompt is a text, a list of messages, or token ids, not {type(prompt).__name__}.")


def _cuts(messages: list[Message]) -> list[list[Message]]:
    """The conversation without its oldest turn, without its two oldest, …; what the system says stays."""
    head = [message for message in messages if message.get("role") in ("system", "developer")]
    rest = [message for message in messages if message.get("role") not in ("system", "developer")]
    starts = [place for place, message in enumerate(rest) if message.get("role") == "user" and place > 0]
    return [head + rest[start:] for start in starts]


class _Function(TypedDict):
    name: str
    arguments: object


class _Call(TypedDict):
    type: str
    function: _Function


class _Plain(TypedDict):
    """A message as templates expect it; other keys that a caller gave are kept."""

    role: str
    content: str
    tool_calls: NotRequired[list[_Call]]


def _normal(message: object) -> _Plain:
    """A message as templates expect it: content a text, arguments of calls an object."""
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        raise BadInput(f'Each message must have a "role": one of {", ".join(_ROLES)}.')
    plain: dict[str, object] = dict(message)  # in the caller's order, which a template may show
    plain["role"] = "system" if plain["role"] == "developer" else plain["role"]
    plain["content"] = _content(plain.get("content"))
    calls = plain.get("tool_calls")
    if calls:
        plain["tool_calls"] = [_call(call) for call in (calls if isinstance(calls, Sequence) else [calls])]
    else:
        plain.pop("tool_calls", None)
    return cast(_Plain, plain)


def _content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadInput(
            "The content of a message must be a text or a list of text parts: this model reads no other."
        )
    return "\n".join(text for text in texts if text is not None)


def _call(call: object) -> _Call:
    given: Mapping[str, object] = call if isinstance(call, Mapping) else {}
    function = given.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadInput('Each of tool_calls must be {"function": {"name": …, "arguments": …}}.')
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise BadInput(f"The arguments of the call to {function['name']} are not JSON.") from error
    made = {**given, "type": "function", "function": {**function, "arguments": arguments}}
    return cast(_Call, made)


def _without_tools(messages: list[_Plain], tools: Sequence[Mapping[str, object]] | None) -> list[_Plain]:
    """For a template without tools: they are offered in the system message, calls and results written out."""
    told = [_written_out(message) for message in messages]
    if not tools:
        return told
    if told[0]["role"] == "system":
        said = told[0]["content"]
        return [{"role": "system", "content": f"{said}\n\n{instruction(tools)}"}, *told[1:]]
    return [{"role": "system", "content": instruction(tools)}, *told]


def answered(messages: Sequence[object]) -> frozenset[str]:
    """The keys of the calls since the user's last message, where results stand below them."""
    keys: set[str] = set()
    asked: set[str] = set()
    for message in map(_normal, messages):
        if message["role"] == "user":
            keys, asked = set(), set()
        elif message["role"] == "tool":
            keys |= asked
        functions = [call["function"] for call in message.get("tool_calls", ())]
        asked |= {call_key(function["name"], function["arguments"]) for function in functions}
    return frozenset(keys)


def results_first(messages: Sequence[object]) -> list[_Plain]:
    """A conversation without calls: what they gave stands before the question that they were for."""
    told: list[_Plain] = []
    results: list[str] = []
    for message in reversed([_normal(message) for message in messages]):
        if message["role"] == "tool":
            results.append(_response(message))
        elif message["role"] == "user":
            told.append({**message, "content": "\n".join([*reversed(results), message["content"]])})
            results = []
        elif "tool_calls" not in message:
            told.append(message)
    orphans: list[_Plain] = [{"role": "user", "content": "\n".join(reversed(results))}] if results else []
    return [*reversed(told), *orphans]


def _response(message: _Plain) -> str:
    return f"<tool_response>\n{message['content']}\n</tool_response>"


def _written_out(message: _Plain) -> _Plain:
    if message["role"] == "tool":
        return {"role": "user", "content": _response(message)}
    if not message.get("tool_calls"):
        return message
    calls = [call_text(c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]]
    return {"role": "assistant", "content": "\n".join(filter(None, [message["content"], *calls]))}

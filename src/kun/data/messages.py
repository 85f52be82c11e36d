"""Messages of a conversation, out of the shapes in which records hold them: OpenAI's, ShareGPT's, Alpaca's."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from kun.data.record_fields import string
from kun.data.records import Record
from kun.data.rows import ChatMessage
from kun.errors import BadRow

T = TypeVar("T")

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def asked(record: Record, names: Mapping[str, object]) -> tuple[ChatMessage, ...]:
    """What Alpaca's fields ask: system, the turns of history, then instruction and input. Raises `BadRow`."""
    messages: list[ChatMessage] = []
    if names.get("system"):
        messages.append({"role": "system", "content": string(record, "system", names["system"])})
    history = names.get("history") or []
    for turn in history if isinstance(history, list) else [history]:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise BadRow(f"{record.where}: 'history' is no list of [question, answer]: mend or skip the row.")
        messages.append({"role": "user", "content": string(record, "history", turn[0])})
        messages.append({"role": "assistant", "content": string(record, "history", turn[1])})
    instruction = string(record, "instruction", names["instruction"])
    given = string(record, "input", names.get("input"), empty=True)
    text = f"{instruction}\n\n{given}" if given.strip() else instruction
    return (*messages, {"role": "user", "content": text})


def turns_of(record: Record, names: Mapping[str, object]) -> tuple[ChatMessage, ...]:
    """ShareGPT's turns, after a system message where there is one. Raises `BadRow`."""
    messages: list[ChatMessage] = []
    if names.get("system"):
        messages.append({"role": "system", "content": string(record, "system", names["system"])})
    turns = names["conversations"]
    assert isinstance(turns, list)
    return (*messages, *(turn_of(record, number, turn) for number, turn in enumerate(turns, 1)))


def turn_of(record: Record, number: int, turn: object, empty: bool = False) -> ChatMessage:
    """One of ShareGPT's turns, whose text may be `empty` where that is allowed. Raises `BadRow`."""
    speaker = turn.get("from") if isinstance(turn, dict) else None
    if not isinstance(turn, dict) or speaker not in _SPEAKERS:
        raise BadRow(
            f"{record.where}: turn {number} is from {speaker!r}, but turns are from human, gpt, system or"
            " observation: mend or skip the row."
        )
    return {"role": _SPEAKERS[speaker], "content": string(record, "value", turn.get("value"), empty)}


def messages_of(record: Record, found: Sequence[object], empty: bool = False) -> tuple[ChatMessage, ...]:
    """OpenAI's messages, whose texts may be `empty` where that is allowed. Raises `BadRow`."""
    return tuple(_message(record, number, message, empty) for number, message in enumerate(found, 1))


def tools_of(record: Record, names: Mapping[str, object]) -> tuple[Mapping[str, object], ...] | None:
    """The tools that could be called. Raises `BadRow`."""
    tools = names.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadRow(f"{record.where}: 'tools' is no list of objects: mend or skip the row.")
    return tuple(_as_json(tools)) if tools else None


def _message(record: Record, number: int, message: object, empty: bool) -> dict[str, object]:
    given: dict[str, object] = message if isinstance(message, dict) else {}
    role = given.get("role")
    if role not in _ROLES:
        raise BadRow(
            f"{record.where}: message {number} has the role {role!r}, but roles are {', '.join(sorted(_ROLES))}:"
            " mend or skip the row."
        )
    calls, content = given.get("tool_calls"), given.get("content")
    if isinstance(content, list):  # OpenAI's parts, of which only text is read
        content = _parts(record, content)
    text = string(record, "content", content, empty=empty or bool(calls))
    # Parquet gives every message every field, with None where it has none
    others = {name: value for name, value in given.items() if value is not None and name != "content"}
    return {**_as_json(others), "role": role, "content": text}


def _as_json(value: T) -> T:
    """With what JSON has no word for, such as Parquet's dates, as text."""
    made: T = json.loads(json.dumps(value, default=str))
    return made


def _parts(record: Record, parts: list[object]) -> str:
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadRow(f"{record.where}: a message holds something other than text: mend or skip the row.")
    return "\n".join(map(str, texts))

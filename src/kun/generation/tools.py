"""Tools: how they are offered to a model, and the grammar of its calls; `calls.py` reads these from an answer.

The form is that of Hermes and Qwen: `<tool_call>`, a JSON object with name and arguments, `</tool_call>`.
A template that has no place for tools gets the same instruction in the system message.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from kun.errors import BadInput
from kun.generation.options import LONGEST_CONSTRAINT
from kun.generation.schemas import nested, weakened

log = logging.getLogger("kun.generation")

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MOST_TOOLS = 64
MOST_CALLS = 8
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_INSTRUCTION = """# Tools

You may call one or more functions to help with the user's request. They are described here, in <tools>:
<tools>
{tools}
</tools>

To call a function, answer with a JSON object of its name and arguments, in <tool_call>:
<tool_call>
{{"name": <name>, "arguments": <arguments>}}
</tool_call>"""


@dataclass(frozen=True)
class Tool:
    """A function that the model may ask for; `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, object]
    described: Mapping[str, object]


@dataclass(frozen=True)
class ToolUse:
    """The tools of a request, and whether it may (auto) or must (required) use them.

    `answered` are the keys (`call_key`) of calls whose results the conversation holds already.
    """

    tools: tuple[Tool, ...]
    mode: Literal["auto", "required"]
    single: bool = False
    answered: frozenset[str] = frozenset()

    @property
    def described(self) -> list[Mapping[str, object]]:
        return [tool.described for tool in self.tools]


def tool_use(
    tools: Sequence[Mapping[str, object]] | None, choice: object, parallel: bool = True
) -> ToolUse | None:
    """What OpenAI's `tools`, `tool_choice` and `parallel_tool_calls` ask for; None for no tools. Raises `BadInput`."""
    if not tools:
        if choice in (None, "none", "auto"):
            return None
        raise BadInput("tool_choice asks for a tool, yet there are no tools: send some, or leave it out.")
    if len(tools) > MOST_TOOLS:
        raise BadInput(f"There are {len(tools)} tools; {MOST_TOOLS} are the most.")
    known = tuple(_tool(one) for one in tools)
    _check_size(known)
    if choice == "none":
        return None
    if choice in (None, "auto"):
        return ToolUse(known, "auto", single=not parallel)
    if choice == "required":
        return ToolUse(known, "required", single=not parallel)
    name = _chosen_name(choice)
    named = tuple(tool for tool in known if tool.name == name)
    if not named:
        raise BadInput(f"tool_choice names {name!r}, which is not among the tools.")
    return ToolUse(named, "required", single=True)


def _tool(value: object) -> Tool:
    tool: Mapping[str, object] = value if isinstance(value, Mapping) else {}
    function = tool.get("function")
    if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
        raise BadInput('Each tool must be {"type": "function", "function": {"name": …, "parameters": …}}.')
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput("A tool's name must be 1 to 64 letters, digits, points, hyphens or underscores.")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise BadInput(f"The parameters of the tool {name} must be a JSON schema.")
    return Tool(name, parameters or {"type": "object", "properties": {}}, tool)


def _check_size(tools: tuple[Tool, ...]) -> None:
    try:
        size = len(json.dumps([tool.described for tool in tools]))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(
            "The tools cannot be written as JSON: use plain objects, lists and numbers."
        ) from error
    if size > LONGEST_CONSTRAINT:
        raise BadInput(f"The tools take {size} characters; {LONGEST_CONSTRAINT} are the most.")


def _chosen_name(choice: object) -> str:
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise BadInput(
            'tool_choice must be "none", "auto", "required" or {"type": "function", "function": {"name": …}}.'
        )
    return name


def instruction(tools: Sequence[Mapping[str, object]]) -> str:
    """The system text that offers tools to a model whose template has no place for them."""
    return _INSTRUCTION.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def call_key(name: str, arguments: object) -> str:
    """The same for two calls of the same function with the same arguments, an object or its JSON."""
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # what is no JSON is itself
            arguments = json.loads(arguments or "{}")
    return json.dumps([name, arguments], sort_keys=True)


def call_text(name: str, arguments: object) -> str:
    """A call as the model would have written it."""
    return f"{OPEN}\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n{CLOSE}"


def grammar(use: ToolUse, marks: tuple[int | None, int | None] = (None, None)) -> str:
    """The Lark grammar (in llguidance's dialect) that holds an answer to well-formed calls.

    `marks` are the ids of the two marks where the tokenizer has them as tokens of their own, as Qwen's has: such
    a token is no text to the parser. Where calls are required a model may write them between the marks or bare:
    one that never learnt the marks, and is held to them, does not know when to end.
    """
    several = len(use.tools) > 1
    calls = [_call_schema(tool, f"/anyOf/{place}" if several else "") for place, tool in enumerate(use.tools)]
    schema = json.dumps({**_COMPACT, "anyOf": calls} if several else {**_COMPACT, **calls[0]})
    opened, closed = (
        f'"{text}"' if mark is None else f"<[{mark}]>"
        for text, mark in zip((OPEN, CLOSE), marks, strict=True)
    )
    body = f'"\\n" bare "\\n" {closed}'
    most = 1 if use.single else MOST_CALLS
    if use.mode == "required":
        answers = {
            one: f'{one} ("\\n" {one}){{0,{most - 1}}}' if most > 1 else one for one in ("call", "bare")
        }
        return (
            f"%llguidance {{}}\nstart: {answers['call']} | {answers['bare']}\n"
            f"call: {opened} {body}\nbare: %json {schema}\n"
        )
    head = f"head[lazy]: TEXT {opened}" if marks[0] is None else f"head: TEXT {opened}"
    return (
        f"%llguidance {{}}\nstart: call{{0,{most}}} TEXT\ncall: head {body}\nbare: %json {schema}\n{head}\n"
        f"TEXT: /(.|\\n)*/\n"
    )


_COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


_OPEN_ENDED = {
    "additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref",
}  # fmt: skip


def weaker(use: ToolUse, bare: bool = False) -> ToolUse:
    """The tools with what a constraint can hold of their schemas, of which the log names the rest.

    With `bare` any object will do as arguments, for schemas that are too large together.
    """
    return replace(use, tools=tuple(_weaker(tool, bare) for tool in use.tools))


def _weaker(tool: Tool, bare: bool) -> Tool:
    parameters, dropped = ({"type": "object"}, ["its schema"]) if bare else weakened(tool.parameters)
    if not dropped:
        return tool
    log.warning("The arguments of the tool %s are not held to %s.", tool.name, ", ".join(dropped)[:300])
    return replace(tool, parameters=parameters)


def _call_schema(tool: Tool, place: str) -> dict[str, object]:
    arguments = nested(_closed(tool.parameters), f"{place}/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _closed(parameters: Mapping[str, object]) -> Mapping[str, object]:
    """No arguments beyond those that a schema lists, where it does not say how it is about them."""
    if "properties" in parameters and not _OPEN_ENDED & parameters.keys():
        return {**parameters, "additionalProperties": False}
    return parameters

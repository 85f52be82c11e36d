"""Tools that a model may call: a name, a schema, a function and its limits; each call is run, timed and kept."""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kun.errors import BadInput, KunError

SECONDS = 20.0
"""Time that a call may take unless the tool says otherwise."""
LONGEST_INPUT = 20_000
LONGEST_OUTPUT = 8_000
"""Characters of a call's arguments, and of its result that a model is shown."""
_LOOK_SECONDS = 0.1
"""Time after which a person's stop is seen."""
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Tool:
    """One tool. `parameters` is the JSON schema of its arguments; `function` gets them as an object, returns text.

    `is_own`: it reads nothing from outside (arithmetic, dates). The result of any other tool is text of strangers,
    after which only own tools are called until the person speaks again: a document never starts a call.
    """

    name: str
    description: str
    parameters: Mapping[str, object]
    function: Callable[[Mapping[str, object]], str] = field(repr=False)
    seconds: float = SECONDS
    longest: int = LONGEST_OUTPUT
    is_own: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(
                f"{self.name[:80]!r} cannot name a tool: use 1 to 64 letters, digits, points, hyphens or underscores."
            )

    @property
    def described(self) -> dict[str, object]:
        """The tool as OpenAI's API offers it to a model."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class BegunCall:
    """A call that is being made, and the seconds that it may take."""

    name: str
    arguments: Mapping[str, object]
    limit: float


@dataclass(frozen=True)
class ToolCall:
    """A call that was made: its arguments, its result or the fault in a sentence, and how long it took."""

    name: str
    arguments: Mapping[str, object]
    result: str
    failed: bool
    seconds: float

    @property
    def shown(self) -> str:
        """The call on one line, for a person."""
        arguments = ", ".join(
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.arguments.items()
        )
        return f"{self.name}({_cut(arguments, 300)}) → {_cut(' '.join(self.result.split()), 300)}"


class Toolbox:
    """The tools that a conversation has, by name."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        if len(self._tools) < len(tools):
            raise BadInput("Two tools have one name: give one of their servers another name.")

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def names(self) -> list[str]:
        return list(self._tools)

    def described(self, own_only: bool = False) -> list[dict[str, object]]:
        """The tools as a model is offered them."""
        return [tool.described for tool in self._tools.values() if tool.is_own or not own_only]

    def is_own(self, name: str) -> bool:
        return name in self._tools and self._tools[name].is_own

    def begun(self, name: str, arguments: str | Mapping[str, object]) -> BegunCall:
        """The call as it can be shown before it is run; arguments that cannot be read are none."""
        try:
            given = _arguments(name, arguments)
        except BadInput:
            given = {}
        return BegunCall(name, given, self._tools[name].seconds if name in self._tools else 0.0)

    def call(
        self, name: str, arguments: str | Mapping[str, object], stop: threading.Event | None = None
    ) -> ToolCall:
        """Run a tool; what goes wrong becomes a result that says so, for the model and the person to read.

        Once `stop` is set, the call is left to itself at once.
        """
        start = time.monotonic()
        given: Mapping[str, object] = {}
        try:
            given = _arguments(name, arguments)
            tool = self._tools.get(name)
            if tool is None:
                raise BadInput(
                    f"There is no tool {name[:80]!r}; there are {', '.join(self._tools) or 'none'}."
                )
            _check(tool, given)
            result, failed = _limited(tool, given, stop or threading.Event()), False
        except KunError as error:
            result, failed = str(error), True
        return ToolCall(name, given, result, failed, time.monotonic() - start)


def _arguments(name: str, arguments: str | Mapping[str, object]) -> Mapping[str, object]:
    if not isinstance(arguments, str):
        return arguments
    if len(arguments) > LONGEST_INPUT:
        raise BadInput(
            f"The arguments of {name[:80]} have {len(arguments):,} characters; {LONGEST_INPUT:,} are the most."
        )
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The arguments of {name[:80]} are no JSON object.") from error
    if not isinstance(given, dict):
        raise BadInput(f"The arguments of {name[:80]} are no JSON object.")
    return given


def _check(tool: Tool, given: Mapping[str, object]) -> None:
    required = tool.parameters.get("required")
    missing = [key for key in required if key not in given] if isinstance(required, list) else []
    if missing:
        raise BadInput(f"{tool.name} needs {', '.join(map(str, missing))}.")


def _limited(tool: Tool, given: Mapping[str, object], stop: threading.Event) -> str:
    """The tool's result within its time; a call that goes on is left to itself, and its result is dropped."""
    done: list[str | BaseException] = []
    over = threading.Event()

    def work() -> None:
        try:
            done.append(tool.function(given))
        except Exception as error:
            done.append(error)
        finally:
            over.set()

    end = time.monotonic() + tool.seconds
    threading.Thread(target=work, name=f"kun-tool-{tool.name}", daemon=True).start()
    while not over.wait(max(0.0, min(_LOOK_SECONDS, end - time.monotonic()))):
        if stop.is_set():
            raise BadInput(f"{tool.name} was stopped.")
        if time.monotonic() >= end:
            raise BadInput(
                f"{tool.name} took longer than {tool.seconds:g} seconds and was left: ask for less."
            )
    result = done[0] if done else BadInput(f"{tool.name} ended without a result.")
    if isinstance(result, KunError):
        raise result
    if isinstance(result, BaseException):
        raise BadInput(
            f"{tool.name} failed: {_cut(' '.join(str(result).split()), 200) or type(result).__name__}."
        )
    return _cut(result, tool.longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text):,} characters, cut)"

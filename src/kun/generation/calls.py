"""Tool calls as they are read from an answer: between marks, bare, or in a fenced block of JSON.

The marks are what models are taught; small ones leave them out, or fence a call as they fence code.
"""

import json
import re
import secrets
from typing import Any

from kun.generation.tools import MOST_CALLS, OPEN, ToolUse, call_key

#: without their whitespace, since models lay JSON out in many ways
_BEGINNINGS = (OPEN, '{"name":', '[{"name":', '```json{"name":', '```json[{"name":', '```{"name":')
_LONGEST_BEGINNING = 64
_MARKS = {"<": OPEN, "`": "```"}
_WITHIN_TEXT = re.compile(f"[{''.join(_MARKS)}]")


class ToolCalls:
    """Lets an answer's text through and keeps its tool calls for the end.

    What may become a call (at the answer's beginning, at a mark, at a fence) is held back until it cannot be one.
    A call whose result is known already is none: it ends the answer.
    """

    def __init__(self, use: ToolUse) -> None:
        self._names = {tool.name for tool in use.tools}
        self._answered = use.answered
        self._most = 1 if use.single else MOST_CALLS
        self._held = ""
        self._at_beginning = True
        self._read = 0
        self._functions: list[dict[str, str]] = []
        #: whether there are as many calls as there may be, or one came that was there already: a small model goes on so
        self.ended = False
        #: whether the answer is nothing but a call whose result is known already
        self.only_repeats = False

    def push(self, text: str) -> str:
        """The text that is no part of a call."""
        self._held += text
        place = self._candidate()
        seen, self._held = self._held[:place], self._held[place:]
        self._at_beginning = self._at_beginning and not place
        if "}" in text:
            self._read_calls()
        return seen

    def _candidate(self) -> int:
        """Where something begins that is a call, or may become one."""
        if self._at_beginning and _may_be_call(self._held):
            return 0
        places = (mark.start() for mark in _WITHIN_TEXT.finditer(self._held))
        return next((place for place in places if _may_be_call(self._held[place:])), len(self._held))

    def _read_calls(self) -> None:
        while not self.ended and (start := self._held.find("{", self._read)) >= 0:
            try:
                value, self._read = json.JSONDecoder().raw_decode(self._held, start)
            except (ValueError, RecursionError):
                return  # not complete yet
            function = self._function(value)
            if function is not None and call_key(**function) in self._answered:
                self.ended = True
                self.only_repeats = self._at_beginning and not self._functions
            elif function in self._functions:
                self.ended = True
            elif function is not None:
                self._functions.append(function)
                self.ended = len(self._functions) == self._most

    def _function(self, value: Any) -> dict[str, str] | None:
        if not isinstance(value, dict) or value.get("name") not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return {"name": value["name"], "arguments": written}

    def finish(self) -> tuple[str, list[dict[str, Any]]]:
        """The text left over, and the calls as OpenAI's API has them. What is no sound call stays text."""
        calls = [
            {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
            for function in self._functions
        ]
        return ("" if calls or self.ended else self._held), calls


def _may_be_call(text: str) -> bool:
    """Whether a text begins as a call does, as far as it goes."""
    start = text.lstrip()[:_LONGEST_BEGINNING]
    if start[:1] in _MARKS and not _MARKS[start[0]].startswith(start[: len(_MARKS[start[0]])]):
        return False
    start = "".join(start.split())
    return any(start.startswith(one) or one.startswith(start) for one in _BEGINNINGS)

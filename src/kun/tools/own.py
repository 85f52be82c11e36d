"""Kun's own tools: arithmetic with units, and dates. They read nothing but their arguments."""

from collections.abc import Mapping
from datetime import date

from kun.errors import BadInput
from kun.tools.arithmetic import calculate
from kun.tools.dates import lengths_in, shifted
from kun.tools.tool import Tool
from kun.tools.values import when_of

_SECONDS = 5.0
_LONGEST_SHOWN = 400


def own_tools() -> list[Tool]:
    """All of them, the same in the chat, on the page and on the server."""
    return [
        Tool(
            "calculate",
            'Calculate exactly: + - * / **, sum, min, max, mean, sqrt, round, or convert units ("26 weeks in days").',
            {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
            },
            _calculate,
            seconds=_SECONDS,
            is_own=True,
        ),
        Tool(
            "date",
            "Dates: the day a length of time after or before a day, or the days between two; without `from`, today.",
            {
                "type": "object",
                "properties": {
                    "from": {"type": "string", "description": "a day, such as 2026-03-09"},
                    "add": {"type": "string", "description": "a length, such as 45 days or 3 months"},
                    "subtract": {"type": "string", "description": "a length to go back"},
                    "until": {"type": "string", "description": "another day: the days to it are counted"},
                },
            },
            _date,
            seconds=_SECONDS,
            is_own=True,
        ),
    ]


def _calculate(given: Mapping[str, object]) -> str:
    """The expression with its value: a small model copies what it reads as a whole. A long one is shown in part."""
    expression = _text(given, "expression").strip()
    shown = expression if len(expression) <= _LONGEST_SHOWN else f"{expression[:_LONGEST_SHOWN]} …"
    return f"{shown} = {calculate(expression)}"


def _text(given: Mapping[str, object], key: str) -> str:
    value = given.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{key} is missing, or no text.")
    return value


def _date(given: Mapping[str, object]) -> str:
    day = _day(_text(given, "from")) if given.get("from") else date.today()
    start = day
    if given.get("until"):
        other = _day(_text(given, "until"))
        return f"{(other - day).days} days from {day.isoformat()} to {other.isoformat()}"
    for key, back in (("add", False), ("subtract", True)):
        if given.get(key):
            text = _text(given, key)
            length = next(lengths_in(text), None)
            if length is None:
                raise BadInput(
                    f"{text[:60]!r} is no length of time: write it as 45 days, 3 weeks or 2 months."
                )
            day = shifted(day, length, back=back)
    shift = " ".join(f"{key} {given[key]}" for key in ("add", "subtract") if given.get(key))
    return (
        f"{start.isoformat()} {shift} = {day.isoformat()}, {day:%A}"
        if shift
        else f"{day.isoformat()}, {day:%A}"
    )


def _day(text: str) -> date:
    when = when_of(text)
    if when is None or when.date is None:
        raise BadInput(f"{text[:60]!r} is no day: write it as 2026-03-09.")
    return when.date

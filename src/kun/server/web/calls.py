"""The calls of tools in an answer: each on a line that opens, with its arguments, its result and its time."""

import json
from collections.abc import Mapping, Sequence

from nicegui import ui

from kun.server.conversations import PlainCall
from kun.server.web.words import Words

_LONGEST_PREVIEW = 120


class CallList:
    """The calls of one answer; one that a person opened stays open while others come."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._shown: list[tuple[PlainCall, bool]] = []
        self._list = (
            ui.element("div").classes("calls").props(f'role="list" aria-label="{words("tool_calls")}"')
        )
        self._list.set_visibility(False)

    def show(self, calls: Sequence[PlainCall], is_over: bool) -> None:
        """Show `calls`; when the answer `is_over`, one without a result was stopped."""
        self._list.set_visibility(bool(calls))
        wanted = [(call, is_over) for call in calls]
        children = self._list.default_slot.children
        for place, one in enumerate(wanted):
            if place < len(self._shown) and not _differs(self._shown[place], one):
                continue
            if place < len(children):
                children[place].delete()
            with self._list:
                self._call(*one)
                if place < len(children) - 1:
                    children[-1].move(target_index=place)
        self._shown = wanted

    def _call(self, call: PlainCall, is_over: bool) -> None:
        words = self._words
        icon, state = self._state(call, is_over)
        kind = (
            "failed-call" if call["failed"] else "running-call" if call["is_running"] and not is_over else ""
        )
        with ui.element("details").classes(f"call {kind}").props('role="listitem"'):
            with ui.element("summary"):
                ui.icon(icon)
                ui.label(call["name"]).classes("call-name mono")
                ui.label(_preview(call["arguments"])).classes("call-arguments")
                ui.label(state).classes("call-state")
            ui.label(words("tool_arguments")).classes("call-heading")
            ui.label(json.dumps(call["arguments"], ensure_ascii=False, indent=2)).classes("call-text mono")
            if call["result"]:
                ui.label(words("tool_fault") if call["failed"] else words("tool_result")).classes(
                    "call-heading"
                )
                ui.label(call["result"]).classes("call-text")
            if call["limit"]:
                ui.label(words("tool_limit", s=f"{call['limit']:g}")).classes("call-heading")

    def _state(self, call: PlainCall, is_over: bool) -> tuple[str, str]:
        words = self._words
        if call["is_running"]:
            return ("stop_circle", words("tool_stopped")) if is_over else ("sync", words("tool_running"))
        if call["failed"]:
            return "error_outline", words("tool_failed")
        return "check", words("tool_took", s=f"{call['seconds']:.1f}")


def _differs(one: tuple[PlainCall, bool], other: tuple[PlainCall, bool]) -> bool:
    """True for another call; the end of the answer changes only one that still runs."""
    return one[0] != other[0] or (one[1] != other[1] and other[0]["is_running"])


def _preview(arguments: Mapping[str, object]) -> str:
    """The arguments on one line; the names are left out where there is only one."""
    values = [
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in arguments.values()
    ]
    named = (
        values
        if len(values) < 2
        else [f"{key}: {value}" for key, value in zip(arguments, values, strict=True)]
    )
    text = " ".join(" · ".join(named).split())
    return text if len(text) <= _LONGEST_PREVIEW else f"{text[:_LONGEST_PREVIEW]}…"

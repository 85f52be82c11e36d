"""The header of the pages on feedback: which of them this is, and who rates."""

from collections.abc import Sequence

from nicegui import ui

from kun.data.rows import ChatMessage
from kun.server.web.frame import frame, remember
from kun.server.web.markdown import render
from kun.server.web.state import LONGEST_RATER, RATER_COOKIE, Visit, rater_cookie


def feedback_frame(visit: Visit, here: str) -> None:
    """The frame of the page at /feedback`here`."""
    words = visit.words
    places = {"": words("feedback"), "/rate": words("rate"), "/write": words("write")}
    with frame(visit, places[here]) as header:
        pass
    with header:
        for path, name in places.items():
            link = ui.link(name, f"/feedback{path}").classes("tab")
            if path == here:
                link.props('aria-current="page"')
        ui.space()
        name = visit.rater.removesuffix(f" ({visit.owner[:8]})") if visit.owner else visit.rater
        field = ui.input(words("rater"), value=name).props(f"dense outlined maxlength={LONGEST_RATER}")
        field.classes("rater")
        for event in ("keydown.enter", "blur"):  # a name that is half typed is nobody's
            field.on(event, lambda: _rename(field.value, name))


def _rename(text: str | None, before: str) -> None:
    if (text or "").strip() and text != before:
        remember(RATER_COOKIE, rater_cookie(text or ""), "location.reload();")


def show_prompt(visit: Visit, messages: Sequence[ChatMessage]) -> None:
    """The conversation up to where an answer is wanted."""
    words = visit.words
    with ui.element("section").classes("rated-prompt").props(f'aria-label="{words("rated_prompt")}"'):
        for message in messages:
            role = str(message["role"])
            text = str(message.get("content") or "")
            with ui.element("div").classes("rated-turn"):
                ui.label(words("you") if role == "user" else role).classes("note")
                if role == "user":
                    ui.label(text).classes("plain-text")
                else:
                    show_markdown(visit, text)


def show_markdown(visit: Visit, text: str) -> None:
    """A text as it is shown in a chat."""
    ui.html(render(text, 0, visit.words("copy")), sanitize=False).classes("prose")

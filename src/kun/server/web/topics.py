"""The topics of a knowledge base on its page: groups of passages by their names, and a picture."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nicegui import ui

from kun.server.web.frame import main_button, off_loop, say_kindly
from kun.server.web.inside import show_picture
from kun.server.web.passages import open_passage
from kun.server.web.state import Visit
from kun.server.web.turns import plain_passage

if TYPE_CHECKING:
    from kun.knowledge.base import KnowledgeBase
    from kun.knowledge.topics import Topic, Topics

_SHOWN_TEXT = 120


def topics_area(visit: Visit, name: str, base: "Callable[[], Awaitable[KnowledgeBase]]") -> None:
    """A panel that finds the topics when they are asked for: groups of a large base take a second."""
    words = visit.words

    @say_kindly
    async def show(_: object = None) -> None:
        button.props("loading")
        try:
            opened = await base()
            found, picture = await off_loop(_topics, opened)
        finally:
            button.props(remove="loading")
        listed.clear()
        with listed:
            ui.label(words("n_topics", n=len(found.topics), passages=found.passages)).classes("note")
            for topic in found.topics:
                _topic(visit, name, topic)
            show_picture(picture, words("topics"))

    with ui.element("section").classes("panel"):
        with ui.row(wrap=False).classes("panel-line"):
            ui.label(words("topics")).classes("section-title")
            ui.space()
            button = main_button(words("topics_show"), show, "bubble_chart").classes("show-topics")
        ui.label(words("topics_help")).classes("note")
        listed = ui.element("div").classes("found").props('aria-live="polite"')


def _topics(base: "KnowledgeBase") -> "tuple[Topics, bytes]":
    found = base.topics()
    return found, found.picture("svg")


def _topic(visit: Visit, base: str, topic: "Topic") -> None:
    """A topic as a card that opens the passage nearest to its middle."""
    with ui.element("button").classes("found-card").props('type="button"') as card:
        with ui.row(wrap=False).classes("found-head"):
            ui.label(str(topic.passages)).classes("source-number")
            ui.label(topic.name).classes("found-source")
        nearest = topic.examples[0]
        ui.label(f"{nearest.source}: {nearest.text[:_SHOWN_TEXT]}…").classes("found-text")
    card.on("click", lambda: open_passage(visit, base, plain_passage(nearest), 1))

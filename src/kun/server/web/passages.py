"""Passages as people see them: the panel that opens one in its document, and why it was found."""

from collections.abc import Mapping
from html import escape

from nicegui import ui

from kun.errors import KunError
from kun.knowledge.orders import without_orders
from kun.server.conversations import PlainPassage
from kun.server.web.frame import icon_button, off_loop
from kun.server.web.state import Visit
from kun.server.web.words import Words

_AROUND = 700


async def open_passage(visit: Visit, knowledge: str, passage: PlainPassage, number: int) -> None:
    """A panel at the side: where the passage stands, and the text around it with the passage marked."""
    words = visit.words
    before, after, is_there = await off_loop(surroundings, visit, knowledge, passage)
    with ui.dialog().props("position=right full-height") as dialog, ui.card().classes("passage-panel"):
        with ui.row(wrap=False).classes("panel-head"):
            ui.label(words("passage", n=number)).classes("panel-title")
            ui.space()
            icon_button("close", words("close"), dialog.close).props("autofocus").classes("panel-close")
        ui.label(passage["source"]).classes("panel-source")
        place(words, passage)
        chips(words, passage.get("reasons"))
        if not is_there:
            ui.label(words("document_gone")).classes("panel-gone")
        html = (
            f'<span class="around">{escape(before)}</span><mark>{escape(passage["text"])}</mark>'
            f'<span class="around">{escape(after)}</span>'
        )
        ui.html(html, sanitize=False).classes("panel-text").props("tabindex=0 role=document")
    dialog.on("hide", dialog.delete)
    dialog.open()
    ui.run_javascript(
        "setTimeout(() => document.querySelector('.panel-text mark')?.scrollIntoView({block: 'center'}), 350)"
    )


def surroundings(visit: Visit, knowledge: str, passage: PlainPassage) -> tuple[str, str, bool]:
    """The text before and after a passage in its document, and whether it still stands there."""
    try:
        document = visit.web.service.knowledge_base(knowledge).document(passage["source"])
    except KunError:
        return "", "", False
    start, end = passage.get("start", 0), passage.get("end", 0)
    if passage["text"] not in (
        document[start:end],
        without_orders(document, start, end),
    ):
        start = document.find(passage["text"])
        end = start + len(passage["text"])
    if start < 0:
        return "", "", False
    before = ("…" if start > _AROUND else "") + document[max(0, start - _AROUND) : start]
    after = document[end : end + _AROUND] + ("…" if end + _AROUND < len(document) else "")
    return before, after, True


def place(words: Words, passage: PlainPassage) -> None:
    """Heading and page, where it has them."""
    parts = [passage.get("heading") or "", words("page", n=passage["page"]) if passage.get("page") else ""]
    if any(parts):
        ui.label(" · ".join(part for part in parts if part)).classes("passage-place")


def chips(words: Words, reasons: Mapping[str, float] | None) -> None:
    """The reasons of a find: word for word or within words, by its words, by its meaning, token by token."""
    if reasons is None:
        return
    with ui.row().classes("chips"):
        if reasons["exact"]:
            _chip(words("reason_exact"), words("reason_exact_help"), None, "exact")
        if reasons.get("within"):
            _chip(words("reason_within"), words("reason_within_help"), None, "within")
        _chip(words("reason_words"), words("reason_words_help"), reasons["words"], "words")
        _chip(words("reason_meaning"), words("reason_meaning_help"), reasons["meaning"], "meaning")
        if reasons.get("tokens"):
            _chip(words("reason_tokens"), words("reason_tokens_help"), reasons["tokens"], "tokens")


def _chip(name: str, help: str, value: float | None, kind: str) -> None:
    with ui.element("span").classes(f"chip {kind}") as chip:
        chip.props["title"] = help
        ui.label(name)
        if value is not None:
            share = round(100 * min(max(value, 0.0), 1.0))
            bar = ui.element("span").classes("bar").style(f"--share: {share}%")
            bar.props["role"], bar.props["aria-label"] = "img", f"{name} {share} %"

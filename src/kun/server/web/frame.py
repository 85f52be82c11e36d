"""The frame around every page: the drawer with the conversations, the language, the colours, errors said kindly."""

import functools
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from kun.errors import KunError
from kun.server.conversations import Conversation
from kun.server.web.state import KEPT_S, Visit
from kun.server.web.words import Words
from kun.server.workers import Workers

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_THEMES = {
    "auto": ("brightness_auto", "light"),
    "light": ("light_mode", "dark"),
    "dark": ("dark_mode", "auto"),
}
_WATCH_S = 0.15
_LATEST_S = 60.0
"""A page that is late is better than none: nicegui's own limit is three seconds."""
_blocking = Workers("kun-page", 64, 1000)
"""More threads than those that may be busy for long, with adding documents or loading a model."""

T = TypeVar("T")
P = ParamSpec("P")
Page = Callable[..., Awaitable[None]]


def register(pages: Sequence[tuple[str, Page]]) -> None:
    for path, page in pages:
        ui.page(path, title="Kun", favicon=STATIC / "mark.svg", response_timeout=_LATEST_S)(page)


async def off_loop(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Run blocking work in a thread, so that other pages go on."""
    return await _blocking.run(functools.partial(work, *args, **options))


def say_kindly(page: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """An event handler whose `KunError`s are shown to the person instead of the log."""

    @functools.wraps(page)
    async def guarded(*args: P.args, **options: P.kwargs) -> None:
        try:
            await page(*args, **options)
        except KunError as error:
            ui.notify(str(error), type="warning", multi_line=True, close_button="✕", timeout=8000)

    return guarded


@contextmanager
def frame(visit: Visit, title: str) -> Iterator[ui.row]:
    """Everything but the page's own content; gives the row of the header that the page may fill."""
    words = visit.words
    _head(visit, title)
    with (
        ui.left_drawer(top_corner=True, bottom_corner=True)
        .props('width=288 breakpoint=900 aria-label="Kun"')
        .classes("kun-drawer") as drawer
    ):
        _drawer(visit)
    with ui.header(elevated=False).classes("kun-header"):
        icon_button("menu", words("menu"), drawer.toggle).classes("menu-button")
        header = ui.row(wrap=False).classes("header-row")
    yield header


def _head(visit: Visit, title: str) -> None:
    ui.page_title(f"{title} · {visit.words('app')}" if title else visit.words("app"))
    ui.dark_mode({"light": False, "dark": True}.get(visit.theme))
    ui.colors(primary="#0b6e8a", secondary="#1788a8", accent="#2bb3a9", dark="#0b2432", dark_page="#061822")
    texts = {key: visit.words(key) for key in ("copy", "copied")}
    ui.add_head_html(
        '<link rel="stylesheet" href="/kun-static/kun.css">'
        f'<script>document.documentElement.lang = "{visit.words.language}";'
        f" window.kunWords = {json.dumps(texts)};</script>"
        '<script defer src="/kun-static/kun.js"></script>'
    )


def _drawer(visit: Visit) -> None:
    words = visit.words
    with ui.row(wrap=False).classes("brand"):
        ui.element("img").props('src="/kun-static/mark.svg" alt="" width="40" height="40"')
        with ui.column().classes("brand-text"):
            ui.label("鲲 Kun").classes("brand-name")
            ui.label(words("tagline")).classes("brand-line")
    with ui.element("nav").classes("places").props(f'aria-label="{words("menu")}"'):
        _place("/", "edit_square", words("new_chat")).props('id="new-chat" aria-keyshortcuts="Control+K"')
        _place("/knowledge", "menu_book", words("knowledge"))
        _place("/feedback", "thumbs_up_down", words("feedback"))
        _place("/inside", "biotech", words("inside"))
        _place("/vectors", "scatter_plot", words("vectors"))
    _conversation_list(visit)
    with ui.row(wrap=False).classes("drawer-foot"):
        other = "en" if words.language == "zh" else "zh"
        ui.button(
            "中文" if other == "zh" else "English", on_click=lambda: _switch("kun_language", other)
        ).props(f'flat no-caps dense icon=translate id="language" aria-label="{words("language")}"')
        ui.space()
        icon, following = _THEMES[visit.theme]
        label = f"{words('theme')}: {words('theme_' + visit.theme)}"
        icon_button(icon, label, lambda: _switch("kun_theme", following)).props('id="theme"')
        if visit.has_login:
            with ui.element("form").props('method="post" action="/logout"'):
                icon_button("logout", words("log_out")).props('type="submit"')


def _place(target: str, icon: str, text: str) -> ui.link:
    with ui.link(target=target).classes("place") as link:
        ui.icon(icon)
        ui.label(text)
    return link


def remember(name: str, value: str, then: str = "") -> None:
    """Keep a choice in the browser for a year: `value` has none of the characters that end a cookie."""
    kept = f"path=/; max-age={KEPT_S}; SameSite=Lax"  # a link from elsewhere leads to the same choices
    ui.run_javascript(f'document.cookie = "{name}={value}; {kept}"; {then}')


def _switch(name: str, value: str) -> None:
    remember(name, value, "location.reload();")


def _conversation_list(visit: Visit) -> None:
    words, turns = visit.words, visit.web.turns
    query, shown = "", turns.revision(f"list:{visit.owner}")

    @ui.refreshable
    async def listing() -> None:
        found = await off_loop(visit.web.conversations.list, visit.owner, query)
        if not found:
            ui.label(words("no_chats_found" if query else "no_chats")).classes("no-chats")
        for heading, group in _by_age(found, words):
            ui.label(heading).classes("age")
            for conversation in group:
                _conversation_row(visit, conversation)

    async def search(event: ValueChangeEventArguments) -> None:
        nonlocal query
        query = event.value or ""
        await listing.refresh()

    async def watch() -> None:
        nonlocal shown
        revision = turns.revision(f"list:{visit.owner}")
        if revision != shown:
            shown = revision
            await listing.refresh()

    ui.input(placeholder=words("search_chats"), on_change=search).props(
        f'dense outlined rounded clearable debounce=250 aria-label="{words("search_chats")}"'
    ).classes("search-chats")
    with ui.element("div").classes("chats"):
        ui.timer(0, listing, once=True)
    ui.timer(_WATCH_S * 2, watch)


def _by_age(found: list[Conversation], words: Words) -> list[tuple[str, list[Conversation]]]:
    now = datetime.now(UTC)
    groups: dict[str, list[Conversation]] = {"today": [], "this_week": [], "earlier": []}
    for conversation in found:
        age = now - datetime.fromisoformat(conversation.updated_at)
        key = "today" if age < timedelta(days=1) else "this_week" if age < timedelta(days=7) else "earlier"
        groups[key].append(conversation)
    return [(words(key), group) for key, group in groups.items() if group]


def _conversation_row(visit: Visit, conversation: Conversation) -> None:
    words = visit.words
    title = conversation.title or words("new_chat")
    with ui.row(wrap=False).classes("chat-row"):
        with ui.link(target=f"/c/{conversation.id}").classes("chat-link"):
            ui.label(title).classes("chat-title")
        with (
            icon_button("more_horiz", words("more", name=title)).classes("chat-more"),
            ui.menu().props("auto-close"),
        ):
            ui.menu_item(words("rename"), on_click=lambda: _rename(visit, conversation))
            ui.menu_item(words("delete"), on_click=lambda: _delete(visit, conversation)).classes("danger")


async def _rename(visit: Visit, conversation: Conversation) -> None:
    words = visit.words
    with ui.dialog() as dialog, ui.card().classes("ask-card"):
        field = ui.input(words("title"), value=conversation.title).props("outlined autofocus maxlength=120")
        field.on(
            "keydown.enter",
            js_handler="(e) => { if (!e.isComposing) emit(e.target.value) }",
            handler=lambda e: dialog.submit(e.args),
        )
        with ui.row().classes("ask-buttons"):
            ui.button(words("cancel"), on_click=lambda: dialog.submit(None)).props("flat no-caps")
            main_button(words("save"), lambda: dialog.submit(field.value))
    title = await dialog
    dialog.delete()
    if title is not None and title.strip():
        await off_loop(visit.web.conversations.change, visit.owner, conversation.id, title=title)
        visit.web.turns.changed(visit.owner, conversation.id)


async def _delete(visit: Visit, conversation: Conversation) -> None:
    words = visit.words
    if not await confirmed(words, words("delete_chat", name=conversation.title), words("delete")):
        return
    visit.web.turns.cancel(conversation.id)
    await off_loop(visit.web.conversations.delete, visit.owner, conversation.id)
    visit.web.turns.changed(visit.owner, conversation.id)


async def confirmed(words: Words, question: str, action: str) -> bool:
    """Ask before something is lost."""
    with ui.dialog() as dialog, ui.card().classes("ask-card").props('role="alertdialog"'):
        ui.label(question).classes("ask-text")
        with ui.row().classes("ask-buttons"):
            ui.button(words("cancel"), on_click=lambda: dialog.submit(False)).props("flat no-caps autofocus")
            ui.button(action, on_click=lambda: dialog.submit(True)).props(
                "unelevated no-caps color=negative"
            ).classes("confirm")
    answer = await dialog
    dialog.delete()
    return bool(answer)


def main_button(text: str, on_click: Callable[..., object], icon: str | None = None) -> ui.button:
    """The button for what one came to do."""
    return (
        ui.button(text, icon=icon, on_click=on_click, color=None)
        .props("unelevated no-caps")
        .classes("main-button")
    )


def icon_button(icon: str, label: str, on_click: Callable[..., object] | None = None) -> ui.button:
    """A round button with an icon; what it does is its tooltip and its name for screen readers."""
    button = (
        ui.button(icon=icon, on_click=on_click, color=None).props("flat round dense").classes("icon-button")
    )
    button.props["aria-label"] = label
    button.props["title"] = label
    return button


async def missing(visit: Visit) -> None:
    """The page for what is not there."""
    with frame(visit, visit.words("not_found")):
        pass
    with ui.column().classes("nothing"):
        ui.label(visit.words("not_found"))
        ui.link(visit.words("home"), "/")

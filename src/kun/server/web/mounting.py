"""The web app: Chat, Knowledge, Feedback, Inside and Words, in English and Chinese, next to the API in one process."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kun.settings import settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from kun.server.service import Service
    from kun.server.toolboxes import Toolboxes


def mount(
    app: "FastAPI",
    service: "Service",
    api_keys: Sequence[str] = (),
    toolboxes: "Toolboxes | None" = None,
) -> None:
    """Serve the web app on every path of `app` that has no route yet: call it after the routes of the API.

    With `api_keys`, people log in with one of them, and the conversations of each key are its own. The chats' tools
    are those of `toolboxes`, or of its own.
    """
    from nicegui import app as pages
    from nicegui import core, ui

    from kun.server.web import chat, feedback, inside, knowledge, rating, vectors, writing
    from kun.server.web.frame import STATIC, register
    from kun.server.web.gate import Gate, Sessions, session_secret
    from kun.server.web.state import Web

    web = Web.open(service, toolboxes)
    for module in (chat, knowledge, feedback, rating, writing, inside, vectors):
        register(module.PAGES)
    if not any(getattr(route, "path", "") == "/kun-static" for route in pages.routes):
        pages.add_static_files("/kun-static", STATIC)
    pages.on_shutdown(web.close)
    core.app.user_middleware.clear()  # nicegui's app is one a process: a second mount begins anew
    core.app.middleware_stack = None
    # when it starts it looks at every object there is, at torch's deprecated ones too
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"nicegui\.")
    ui.run_with(
        app,
        title="Kun",
        favicon=STATIC / "mark.svg",
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=30.0,
    )
    app.add_middleware(Gate, web=web, sessions=Sessions(tuple(api_keys), session_secret(settings().home)))

"""State that all pages of one mounted web app share."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nicegui import ui

from kun.server.conversations import Conversations
from kun.server.toolboxes import Toolboxes
from kun.server.web.turns import Turns
from kun.server.web.words import Words, preferred_language
from kun.settings import settings

if TYPE_CHECKING:
    from kun.server.service import Service

TOOLS_COOKIE = "kun_tools"
MOST_TOOLS = 12
"""Tools that a person may choose at a time: more are too many for a small model, and for a cookie."""

_LONGEST_COOKIE = 3_500
"""Characters: browsers drop a cookie of more than 4,096 without a word."""


@dataclass
class Web:
    """The service behind the pages, the conversations, the answers being written, and the tools that they may use."""

    service: "Service"
    conversations: Conversations
    turns: Turns
    toolboxes: Toolboxes

    @classmethod
    def open(cls, service: "Service", toolboxes: Toolboxes | None = None) -> "Web":
        conversations = Conversations(settings().database)
        conversations.stop_running()
        toolboxes = toolboxes or Toolboxes(service)
        return cls(service, conversations, Turns(service, conversations, toolboxes), toolboxes)

    def close(self) -> None:
        self.turns.close()
        self.toolboxes.close()
        self.conversations.close()


@dataclass(frozen=True)
class Visit:
    """One page opened by one person: whose it is, in which language, in which colours."""

    web: Web
    owner: str
    words: Words
    theme: str
    has_login: bool
    tools: tuple[str, ...] = ()

    @classmethod
    def current(cls) -> "Visit":
        """The visit of the page that is being built."""
        request = ui.context.client.request
        cookies = request.cookies
        language = preferred_language(cookies.get("kun_language"), request.headers.get("accept-language", ""))
        theme = cookies.get("kun_theme", "auto")
        scope = request.scope
        return cls(
            scope["kun.web"],
            scope["kun.owner"],
            Words(language),
            theme if theme in ("light", "dark") else "auto",
            bool(scope["kun.owner"]),
            chosen_names(cookies.get(TOOLS_COOKIE)),
        )


def tools_cookie(names: Sequence[str]) -> str:
    """The names of chosen tools as they are kept in the browser: the newest of them, where all are too long."""
    plain = json.dumps(list(names), ensure_ascii=False, separators=(",", ":"))
    value = base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")
    return value if len(value) <= _LONGEST_COOKIE else tools_cookie(names[1:])


def chosen_names(cookie: str | None) -> tuple[str, ...]:
    """The names in a cookie; none where it is missing, or somebody else's."""
    try:
        names = json.loads(base64.urlsafe_b64decode(f"{cookie or ''}==="))
    except (ValueError, RecursionError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(dict.fromkeys(names))[:MOST_TOOLS]

"""State that all pages of one mounted web app share."""

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from nicegui import ui

from kun.alignment.feedback.store import FeedbackStore
from kun.server.conversations import Conversations
from kun.server.toolboxes import Toolboxes
from kun.server.web.turns import Turns
from kun.server.web.words import Words, preferred_language
from kun.settings import settings

if TYPE_CHECKING:
    from kun.server.service import Service

TOOLS_COOKIE = "kun_tools"
RATER_COOKIE = "kun_rater"
KEPT_S = 365 * 24 * 3600
"""Seconds that a browser keeps a choice."""
MOST_TOOLS = 12
"""Tools that a person may choose at a time: more are too many for a small model, and for a cookie."""

LONGEST_RATER = 40
"""Characters of the name of a person who rates."""

_LONGEST_COOKIE = 3_500
"""Characters: browsers drop a cookie of more than 4,096 without a word."""


@dataclass
class Web:
    """The service behind the pages, the conversations, the answers being written, their tools, and the feedback."""

    service: "Service"
    conversations: Conversations
    turns: Turns
    toolboxes: Toolboxes
    feedback: FeedbackStore

    @classmethod
    def open(cls, service: "Service", toolboxes: Toolboxes | None = None) -> "Web":
        conversations = Conversations(settings().database_place)
        conversations.stop_running()
        toolboxes = toolboxes or Toolboxes(service)
        turns = Turns(service, conversations, toolboxes)
        return cls(service, conversations, turns, toolboxes, FeedbackStore.open())

    def close(self) -> None:
        self.turns.close()
        self.toolboxes.close()
        self.conversations.close()
        self.feedback.close()


@dataclass(frozen=True)
class Visit:
    """One page opened by one person: whose it is, in which language, in which colours."""

    web: Web
    owner: str
    words: Words
    theme: str
    has_login: bool
    tools: tuple[str, ...] = ()
    rater: str = "me"
    """Who rates here: a name that the person chose or that marks the browser, apart by key where there are keys."""

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
            rater_of(scope["kun.rater"], scope["kun.owner"]),
        )


def tools_cookie(names: Sequence[str]) -> str:
    """The names of chosen tools as they are kept in the browser: the newest of them, where all are too long."""
    plain = json.dumps(list(names), ensure_ascii=False, separators=(",", ":"))
    value = base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")
    return value if len(value) <= _LONGEST_COOKIE else tools_cookie(names[1:])


def rater_cookie(name: str) -> str:
    """A person's name as it is kept in the browser."""
    return quote(" ".join(name.split())[:LONGEST_RATER], safe="")


def known_rater(cookie: str | None) -> str | None:
    """The name in a cookie; None where there is none, or none that can be shown."""
    name = " ".join(unquote(cookie or "").split())[:LONGEST_RATER]
    return name if name and name.isprintable() else None


def new_rater() -> str:
    """Who rates in a browser that has told no name: "me", and a mark that tells it from other browsers."""
    return f"me-{secrets.token_hex(3)}"


def rater_of(name: str, owner: str) -> str:
    """Who rates: a name, with keys a mark of the key behind it, which keeps people apart."""
    return f"{name} ({owner[:8]})" if owner else name


def chosen_names(cookie: str | None) -> tuple[str, ...]:
    """The names in a cookie; none where it is missing, or somebody else's."""
    try:
        names = json.loads(base64.urlsafe_b64decode(f"{cookie or ''}==="))
    except (ValueError, RecursionError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(dict.fromkeys(names))[:MOST_TOOLS]

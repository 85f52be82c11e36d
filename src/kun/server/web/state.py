"""State that all pages of one mounted web app share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nicegui import ui

from kun.server.conversations import Conversations
from kun.server.web.turns import Turns
from kun.server.web.words import Words, preferred_language
from kun.settings import settings

if TYPE_CHECKING:
    from kun.server.service import Service


@dataclass
class Web:
    """The service behind the pages, the conversations, and the answers being written."""

    service: "Service"
    conversations: Conversations
    turns: Turns

    @classmethod
    def open(cls, service: "Service") -> "Web":
        conversations = Conversations(settings().database)
        conversations.stop_running()
        return cls(service, conversations, Turns(service, conversations))

    def close(self) -> None:
        self.turns.close()
        self.conversations.close()


@dataclass(frozen=True)
class Visit:
    """One page opened by one person: whose it is, in which language, in which colours."""

    web: Web
    owner: str
    words: Words
    theme: str
    has_login: bool

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
        )

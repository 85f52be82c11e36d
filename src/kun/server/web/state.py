"""State that all pages of one mounted web app share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nicegui import ui

from kun.server.conversations import Conversations
from kun.server.web.turns import Models, Turns
from kun.server.web.words import Words, preferred_language
from kun.settings import settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from kun.inspection.opened import Opened
    from kun.knowledge.base import KnowledgeBase
    from kun.server.service import ModelInfo


class Backend(Models, Protocol):
    """The part of `kun.server.service.Service` that the web app uses."""

    def models(self) -> "Sequence[ModelInfo]": ...

    def readable(self) -> "Sequence[ModelInfo]": ...

    def opened(self, name: str) -> "Opened": ...

    def tokenizer(self, name: str) -> "Tokenizer": ...

    def knowledge_bases(self) -> list[str]: ...

    def create_knowledge_base(self, name: str) -> "KnowledgeBase": ...

    def delete_knowledge_base(self, name: str) -> None: ...


@dataclass
class Web:
    """The service behind the pages, the conversations, and the answers being written."""

    service: Backend
    conversations: Conversations
    turns: Turns

    @classmethod
    def open(cls, service: Backend) -> "Web":
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

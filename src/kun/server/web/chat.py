"""The Chat page: a conversation, its model and knowledge base, and the answers as they are written."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from kun.alignment.feedback.votes import Thumb
from kun.errors import Busy, KunError, NotFound
from kun.server.conversations import Conversation, StoredMessage
from kun.server.web.frame import frame, icon_button, missing, off_loop, say_kindly
from kun.server.web.message import Actions, AnswerView, show_question
from kun.server.web.state import Visit
from kun.server.web.toolbelt import Toolbelt
from kun.server.web.turns import prompt_messages

if TYPE_CHECKING:
    from kun.server.service import ModelInfo

_WATCH_S = 0.1
_HANDBOOK = "handbook"
# The field is emptied where it is, in the browser: what is typed on the way to the server and back stays in it.
_SEND = """(e) => {
  const field = document.querySelector('#message'), stop = document.querySelector('#stop')
  const text = field.value
  if (!text.trim() || (stop && stop.offsetParent !== null)) return
  field.value = ''
  field.dispatchEvent(new Event('input', {bubbles: true}))
  emit(text)
}"""
_SEND_ON_ENTER = f"""(e) => {{
  if (e.key === 'Enter' && !e.shiftKey && !e.isComposing && e.keyCode !== 229) {{
    e.preventDefault();
    ({_SEND})(e)
  }}
}}"""


async def new_chat(base: str = "") -> None:
    await ChatPage(Visit.current(), None, base).build()


async def old_chat(id: str) -> None:
    visit = Visit.current()
    try:
        conversation = await off_loop(visit.web.conversations.get, visit.owner, id)
    except NotFound:
        await missing(visit)
        return
    await ChatPage(visit, conversation).build()


PAGES = [("/", new_chat), ("/c/{id}", old_chat)]


class ChatPage:
    """One open conversation, or a new one that begins with its first message."""

    def __init__(self, visit: Visit, conversation: Conversation | None, base: str = "") -> None:
        self.visit, self.words = visit, visit.words
        self.web, self.turns = visit.web, visit.web.turns
        self.conversation = conversation
        self.model, self.base = "", base
        self.revision = 0
        self.running: AnswerView | None = None
        self.sending = False
        self.messages: list[StoredMessage] = []
        self.thumbs: dict[str, int] = {}
        self.actions = Actions(
            say_kindly(self.again), say_kindly(self.edit), say_kindly(self.elsewhere), self.thumb, self.thumbs
        )

    async def build(self) -> None:
        models, bases = await off_loop(self._choices)
        if self.conversation is not None:
            self.model, self.base = self.conversation.model, self.conversation.knowledge
        elif self.base not in bases:
            self.base = _HANDBOOK if _HANDBOOK in bases else ""
        title = self.conversation.title if self.conversation else ""
        with frame(self.visit, title) as header:
            pass
        with header:
            self._selects(models, bases)
        self.main = ui.element("main").classes("chat").props('id="chat"')
        self._composer()
        await self.show()
        ui.timer(_WATCH_S, self._watch)

    def _choices(self) -> tuple[list[str], list[str]]:
        service = self.web.service
        return language_models(service.models()), service.knowledge_bases()

    # What stands in it

    def _selects(self, models: list[str], bases: list[str]) -> None:
        if self.model and self.model not in models:
            models = [*models, self.model]
        names = {"": models[0] if models else self.words("model")} | {name: name for name in models[1:]}
        chosen = self.model if self.model in names else ""
        self._select(names, chosen, "model", "memory", self._choose_model)
        books = {"": self.words("no_base")} | {name: name for name in bases}
        if self.base and self.base not in books:
            books[self.base] = self.base
        self._select(books, self.base, "base", "menu_book", self._choose_base)

    def _select(
        self, options: dict[str, str], value: str, key: str, icon: str, on_change: Callable[..., object]
    ) -> None:
        select = ui.select(options, value=value, on_change=on_change).props("dense borderless options-dense")
        select.classes(f"choice choice-{key}").props["aria-label"] = self.words(key)
        with select.add_slot("prepend"):
            ui.icon(icon)

    async def _choose_model(self, event: ValueChangeEventArguments) -> None:
        self.model = event.value
        await self._keep_choice(model=self.model)

    async def _choose_base(self, event: ValueChangeEventArguments) -> None:
        self.base = event.value
        self._set_placeholder()
        self.toolbelt.update()
        await self._keep_choice(knowledge=self.base)
        if self.conversation is None:
            await self.show()

    async def _keep_choice(self, **choice: str) -> None:
        if self.conversation is not None:
            self.conversation = await off_loop(
                self.web.conversations.change, self.visit.owner, self.conversation.id, **choice
            )

    def _composer(self) -> None:
        words = self.words
        with ui.footer(elevated=False).classes("kun-footer"), ui.column().classes("composer-column"):
            with ui.row(wrap=False).classes("composer"):
                self.toolbelt = Toolbelt(self.visit, lambda: bool(self.base))
                self.field = ui.textarea().props(
                    "borderless autogrow autofocus rows=1 for=message maxlength=200000"
                )
                self.field.classes("composer-field").props["aria-label"] = words("message")
                self.field.on("keydown", js_handler=_SEND_ON_ENTER, handler=lambda e: self._send(e.args))
                self.stop_button = (
                    icon_button("stop", words("stop"), self._stop).props('id="stop"').classes("stop")
                )
                self.send_button = (
                    icon_button("arrow_upward", words("send")).props('id="send"').classes("send")
                )
                self.send_button.on("click", js_handler=_SEND, handler=lambda e: self._send(e.args))
            ui.label(words("hint")).classes("hint")
        self._set_placeholder()

    def _set_placeholder(self) -> None:
        words = self.words
        text = words("placeholder_knowledge", name=self.base) if self.base else words("placeholder")
        self.field.props["placeholder"] = text
        self.field.update()

    async def show(self) -> None:
        """All messages, as they are stored now."""
        conversation = self.conversation
        messages: list[StoredMessage] = []
        if conversation is not None:
            self.revision = self.turns.revision(conversation.id)
            messages = await off_loop(self.web.conversations.messages, self.visit.owner, conversation.id)
            given = await off_loop(self.web.feedback.thumbs, self.visit.rater)
            self.thumbs |= {thumb.message: thumb.value for thumb in given}
        self.messages = messages
        self.running = None
        self.main.clear()
        with self.main:
            if not messages:
                self._welcome()
            for message in messages:
                if message.role == "user":
                    show_question(self.visit, message, self.actions)
                else:
                    view = AnswerView(self.visit, message, self.actions)
                    self.running = view if message.status == "running" else self.running
        self._watch_running()
        ui.run_javascript("window.kunScroll && kunScroll(true)")

    def _welcome(self) -> None:
        words = self.words
        with ui.column().classes("welcome"):
            ui.element("img").props('src="/kun-static/mark.svg" alt="" width="112" height="112"').classes(
                "welcome-mark"
            )
            ui.label(words("welcome")).classes("welcome-title").props('role="heading" aria-level="1"')
            text = words("welcome_knowledge", name=self.base) if self.base else words("welcome_plain")
            ui.label(text).classes("welcome-text")
            if self.base and self.base != _HANDBOOK:
                return
            prefix = "example" if self.base else "plain_example"
            with ui.element("div").classes("examples"):
                for number in range(1, 5):
                    question = words(f"{prefix}_{number}")
                    button = (
                        ui.button(question, color=None).props("flat no-caps align=left").classes("example")
                    )
                    button.on_click(lambda q=question: self._send(q))

    # What happens in it

    async def _send(self, text: str) -> None:
        await say_kindly(self._ask_or_put_back)(text)

    async def _ask_or_put_back(self, text: str) -> None:
        """Send a message; one that cannot be sent is in the field again."""
        try:
            await self.ask(text)
        except KunError:
            self.field.value = self.field.value or text
            raise

    async def ask(self, text: str) -> None:
        """Send a message; the first one makes the conversation. Raises `Busy` while another is sent or answered."""
        if not isinstance(text, str) or not text.strip():
            return
        if self.running is not None or self.sending:
            raise Busy(self.words("still_answering"))
        self.sending = True
        try:
            if self.conversation is None:
                self.conversation = await off_loop(
                    self.web.conversations.create, self.visit.owner, text, self.model, self.base
                )
                ui.navigate.history.replace(f"/c/{self.conversation.id}")
            await off_loop(
                self.turns.ask, self.visit.owner, self.conversation, text.strip(), self.toolbelt.chosen
            )
            await self.show()
        finally:
            self.sending = False

    async def again(self, message: str) -> None:
        assert self.conversation is not None
        await off_loop(
            self.turns.ask_again, self.visit.owner, self.conversation, message, None, self.toolbelt.chosen
        )
        await self.show()

    async def elsewhere(self, message: str, knowledge: str) -> None:
        """Answer this message anew from another knowledge base, or ("") from none."""
        assert self.conversation is not None
        await off_loop(self.turns.ask_again, self.visit.owner, self.conversation, message, knowledge)
        await self.show()

    async def thumb(self, message: StoredMessage, value: int) -> None:
        """Keep a thumb (1, -1, 0: none) with what it is about as it is on this page: it may be deleted by now."""
        answer = message.text
        prompt = tuple(prompt_messages(self.messages, message.id))
        model = message.details.get("model", "")
        given = Thumb(message.id, self.visit.rater, value, prompt, answer, model)
        await off_loop(self.web.feedback.thumb, given)
        self.thumbs[message.id] = value

    async def edit(self, message: str, text: str) -> None:
        assert self.conversation is not None
        await off_loop(
            self.turns.edit, self.visit.owner, self.conversation, message, text, self.toolbelt.chosen
        )
        await self.show()

    async def _stop(self) -> None:
        if self.conversation is not None:
            await off_loop(self.turns.cancel, self.conversation.id)

    async def _watch(self) -> None:
        """Follow the running answer, and what other tabs did."""
        if self.conversation is None:
            return
        if self.turns.revision(self.conversation.id) == self.revision:
            self._watch_running()
            return
        try:
            self.conversation = await off_loop(
                self.web.conversations.get, self.visit.owner, self.conversation.id
            )
            await self.show()
        except NotFound:
            ui.navigate.to("/")

    def _watch_running(self) -> None:
        turn = self.turns.running(self.conversation.id) if self.conversation else None
        if turn is not None and self.running is not None and turn.message == self.running.message.id:
            self.running.update(turn)
        is_running = self.running is not None
        self.stop_button.set_visibility(is_running)
        self.send_button.set_visibility(not is_running)


def language_models(models: "Sequence[ModelInfo]") -> list[str]:
    """The names of those that write text, as the service lists them: its default one first."""
    return [model.name for model in models]

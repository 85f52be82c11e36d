"""One message of a conversation on the page."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from nicegui import ui

from kun.server.conversations import AnswerDetails, AnswerError, StoredMessage
from kun.server.web.calls import CallList
from kun.server.web.frame import icon_button, main_button, say_kindly
from kun.server.web.markdown import render
from kun.server.web.passages import open_passage
from kun.server.web.state import Visit
from kun.server.web.turns import Turn
from kun.server.web.words import Words

if TYPE_CHECKING:
    from kun.generation.results import Progress

_LONG_PROMPT = 500
"""Tokens from which reading takes long enough to be followed."""
_ON_CITE = "(e) => { const b = e.target.closest('.cite'); if (b) emit(Number(b.dataset.n)) }"
_MOST_OFFERS = 4
"""Other knowledge bases that are named as a way on."""
SUBMIT_ON_ENTER = """(e) => {
  if (e.key === 'Enter' && !e.shiftKey && !e.isComposing && e.keyCode !== 229) {
    e.preventDefault()
    emit(e.target.value)
  }
}"""


@dataclass(frozen=True)
class Actions:
    """The actions on messages; the page carries them out."""

    again: Callable[[str], Awaitable[None]]
    edit: Callable[[str, str], Awaitable[None]]
    elsewhere: Callable[[str, str], Awaitable[None]]
    thumb: Callable[[StoredMessage, int], Awaitable[None]]
    thumbs: Mapping[str, int]
    """Those of this person: 1 or -1 by the message."""


def show_question(visit: Visit, message: StoredMessage, actions: Actions) -> None:
    words = visit.words
    with ui.element("article").classes("message question").props(f'aria-label="{words("you")}"') as article:
        with ui.element("div").classes("bubble"):
            ui.label(message.text).classes("plain-text")
        with ui.row().classes("actions"):
            icon_button("edit", words("edit"), lambda: _edit(visit, message, article, actions)).classes(
                "edit"
            )
            _copy_button(words("copy"), message.text)


def _edit(visit: Visit, message: StoredMessage, article: ui.element, actions: Actions) -> None:
    words = visit.words
    article.clear()
    article.classes(add="editing")

    async def send(text: str) -> None:
        if text.strip():
            await actions.edit(message.id, text)

    with article:
        field = ui.textarea(value=message.text).props("outlined autogrow autofocus").classes("edit-field")
        field.props["aria-label"] = words("edit")
        field.on("keydown", js_handler=SUBMIT_ON_ENTER, handler=lambda e: send(e.args))
        with ui.row().classes("ask-buttons"):
            ui.label(words("edit_note")).classes("note")
            ui.space()

            def put_back() -> None:
                slot = article.parent_slot
                assert slot is not None
                parent, place = slot.parent, slot.children.index(article)
                article.delete()
                with parent:
                    show_question(visit, message, actions)
                    parent.default_slot.children[-1].move(target_index=place)

            ui.button(words("cancel"), on_click=put_back).props("flat no-caps")
            main_button(words("send_again"), lambda: send(field.value)).classes("send-again")


class AnswerView:
    """An answer, which `update` keeps at the state of its running turn."""

    def __init__(self, visit: Visit, message: StoredMessage, actions: Actions) -> None:
        self.visit, self.message, self.actions = visit, message, actions
        self._shown = -1
        with ui.element("article").classes("message answer") as self.article:
            self.article.props["aria-label"] = visit.words("app")
            self.head = ui.element("div").classes("answer-head")
            self.calls = CallList(visit.words)
            self.status = ui.label().classes("stage").props('role="status"')
            self.body = ui.html("", sanitize=False).classes("prose")
            self.body.on("click", js_handler=_ON_CITE, handler=lambda e: self._cite(e.args))
            self.foot = ui.element("div").classes("answer-foot")
        self._show(message.text, message.details)
        if message.status != "running":
            self._finish()
        else:
            self.status.text = visit.words("thinking")

    def update(self, turn: Turn) -> None:
        """Show what came since the last call."""
        if turn.stage == "thinking" and turn.generation is not None:
            self.status.text = _progress(self.visit.words, turn.generation.progress)
        if turn.version == self._shown:
            return
        self._shown = turn.version
        words = self.visit.words
        stages = {"loading": words("loading_model"), "thinking": words("thinking"), "writing": ""}
        stages["searching"] = words("searching", name=turn.conversation.knowledge)
        stages["starting"] = words("starting_tools")
        stages["calling"] = words("calling_tool")
        self.status.text = stages[turn.stage]
        self._show(turn.text, turn.details)

    def _show(self, text: str, details: AnswerDetails) -> None:
        self.message = StoredMessage(self.message.id, "assistant", text, self.message.status, details.copy())
        self.calls.show(details.get("calls", ()), is_over=self.message.status != "running")
        self.body.content = (
            render(text, len(details.get("passages", ())), self.visit.words("copy")) if text else ""
        )

    def _finish(self) -> None:
        self.status.delete()
        words, details = self.visit.words, self.message.details
        with self.head:
            if details.get("declined"):
                _label("info", words("declined"), "declined")
            elif details.get("quoted"):
                _label("format_quote", words("quoted"), "quoted")
            elif details.get("calculation"):
                _label("calculate", words("computed"), "computed")
            for fault in details.get("tool_faults", ()):
                ui.label(words("tools_missing", fault=fault)).classes("tool-fault").props('role="alert"')
            if details.get("question"):
                ui.label(words("searched_as", question=details["question"])).classes("note")
        with self.foot:
            if self.message.status == "stopped":
                ui.label(words("stopped")).classes("note stopped")
            elif details.get("finish_reason") == "length":
                ui.label(words("length")).classes("note")
            if self.message.status == "failed":
                self._error(details.get("error", {}))
            if details.get("calculation"):
                ui.label(details["calculation"]).classes("calculation plain-text")
            if details.get("declined"):
                self._offers()
            self._sources()
            self._actions()

    def _error(self, error: AnswerError) -> None:
        words, details = self.visit.words, self.message.details
        kind, said = error.get("kind", ""), error.get("message", "")
        model = details.get("wanted_model", "")
        known = {
            "Busy": words("error_busy"),
            "ContextOverflow": words("error_context"),
            "ModelNotFound": words("error_model", name=model),
            "KnowledgeBaseNotFound": words("error_base", name=details.get("knowledge", "")),
        }
        with ui.element("div").classes("error-card").props('role="alert"'):
            ui.icon("waves").classes("error-icon")
            with ui.column().classes("error-text"):
                ui.label(known.get(kind) or said or words("error_other"))
                if kind == "ModelNotFound":
                    with ui.row(wrap=False).classes("command"):
                        ui.label(f"kun pull {model}").classes("mono")
                        _copy_button(words("copy"), f"kun pull {model}")
                ui.button(words("try_again"), on_click=lambda: self.actions.again(self.message.id)).props(
                    "flat dense no-caps"
                ).classes("try-again")

    def _offers(self) -> None:
        """The ways on from a question that the documents do not answer."""
        words, asked = self.visit.words, self.message.details.get("knowledge", "")
        others = [name for name in self.visit.web.service.knowledge_bases() if name != asked]
        with ui.row().classes("offers"):
            ui.button(words("ask_plain"), on_click=lambda: self._elsewhere("")).props(
                "outline dense no-caps"
            ).classes("ask-plain")
            for name in others[:_MOST_OFFERS]:
                ui.button(
                    words("ask_elsewhere", name=name), on_click=lambda name=name: self._elsewhere(name)
                ).props("outline dense no-caps").classes("ask-base")

    def _elsewhere(self, knowledge: str) -> Awaitable[None]:
        return self.actions.elsewhere(self.message.id, knowledge)

    def _sources(self) -> None:
        passages = self.message.details.get("passages", [])
        if not passages or self.message.status == "failed":
            return
        cited = [n for n in range(1, len(passages) + 1) if f'data-n="{n}"' in self.body.content]
        with ui.row().classes("sources").props(f'role="list" aria-label="{self.visit.words("sources")}"'):
            for number in cited:
                passage = passages[number - 1]
                with ui.element("button").classes("source").props('type="button" role="listitem"') as button:
                    ui.label(str(number)).classes("source-number")
                    ui.label(passage["source"].rpartition("/")[2]).classes("source-name")
                    if passage["heading"]:
                        ui.label(passage["heading"].rpartition(" > ")[2]).classes("source-heading")
                button.props["title"] = passage["source"]
                button.on("click", lambda n=number: self._cite(n))

    def _actions(self) -> None:
        words, details = self.visit.words, self.message.details
        with ui.row().classes("actions"):
            if self.message.text:
                _copy_button(words("copy"), self.message.text)
            icon_button("refresh", words("regenerate"), lambda: self.actions.again(self.message.id)).classes(
                "again"
            )
            if self.message.text:
                Thumbs(words, self.message, self.actions)
            if details.get("prompt"):
                icon_button("data_object", words("prompt"), self._prompt).classes("show-prompt")
            ui.space()
            facts = [details.get("model", "")]
            if details.get("tokens") and details.get("seconds"):
                facts.append(words("took", n=details["tokens"], s=f"{details['seconds']:.1f}"))
            ui.label(" · ".join(fact for fact in facts if fact)).classes("facts")

    async def _cite(self, number: int) -> None:
        passages = self.message.details.get("passages", [])
        if isinstance(number, int) and 1 <= number <= len(passages):
            await open_passage(
                self.visit, self.message.details.get("knowledge", ""), passages[number - 1], number
            )

    def _prompt(self) -> None:
        words = self.visit.words
        with ui.dialog() as dialog, ui.card().classes("prompt-card"):
            with ui.row(wrap=False).classes("panel-head"):
                ui.label(words("prompt_title")).classes("panel-title")
                ui.space()
                _copy_button(words("copy"), self.message.details["prompt"])
                icon_button("close", words("close"), dialog.close)
            ui.html(
                f"<pre tabindex=0>{escape(self.message.details['prompt'])}</pre>", sanitize=False
            ).classes("prompt-text")
        dialog.on("hide", dialog.delete)
        dialog.open()


class Thumbs:
    """Two buttons, of which one at most is pressed; pressing it again takes the thumb back."""

    def __init__(self, words: Words, message: StoredMessage, actions: Actions) -> None:
        self._message, self._actions = message, actions
        self._value = actions.thumbs.get(message.id, 0)
        press = say_kindly(self._press)
        self._buttons = {
            1: icon_button("thumb_up", words("thumb_up"), lambda: press(1)).classes("thumb-up"),
            -1: icon_button("thumb_down", words("thumb_down"), lambda: press(-1)).classes("thumb-down"),
        }
        self._show()

    async def _press(self, value: int) -> None:
        wanted = 0 if value == self._value else value
        await self._actions.thumb(self._message, wanted)  # what cannot be kept is not shown as kept
        self._value = wanted
        self._show()

    def _show(self) -> None:
        for value, button in self._buttons.items():
            is_pressed = value == self._value
            button.props["aria-pressed"] = "true" if is_pressed else "false"
            button.classes(add="pressed" if is_pressed else "", remove="" if is_pressed else "pressed")
            button.update()


def _progress(words: Words, now: "Progress") -> str:
    """The status line of who waits for the first words."""
    if now.ahead:
        return words("queued", n=now.ahead)
    if now.ahead is None and now.total - now.cached > _LONG_PROMPT and now.read < now.total:
        return words("reading", percent=round(100 * now.read / now.total))
    return words("thinking")


def _label(icon: str, text: str, kind: str) -> None:
    with ui.row(wrap=False).classes(f"label {kind}"):
        ui.icon(icon)
        ui.label(text)


def _copy_button(label: str, text: str) -> None:
    button = icon_button("content_copy", label).classes("copy-message")
    button.props["data-copy"] = text


__all__ = ["SUBMIT_ON_ENTER", "Actions", "AnswerView", "show_question"]

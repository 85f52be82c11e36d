"""The page where people write answers themselves: demonstrations to fine-tune on."""

from nicegui import ui

from kun.alignment.feedback.votes import Prompt
from kun.data.rows import ChatMessage
from kun.errors import BadInput
from kun.server.web.frame import main_button, off_loop, say_kindly
from kun.server.web.raters import feedback_frame, show_prompt
from kun.server.web.state import Visit

_SUBMIT = "(e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); emit(e.target.value) } }"


async def write() -> None:
    await WritePage(Visit.current()).build()


PAGES = [("/feedback/write", write)]


class WritePage:
    """A prompt that waits for an answer, or a field for one's own, and the field for the answer."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.words = visit, visit.words
        self.store = visit.web.feedback
        self.prompt: Prompt | None = None
        self.skipped: set[str] = set()
        self.is_busy = False

    async def build(self) -> None:
        words = self.words
        feedback_frame(self.visit, "/write")
        with ui.element("main").classes("page write"):
            ui.label(words("write_intro")).classes("intro")
            self.asked = ui.element("div")
            self.own = ui.textarea(words("own_prompt")).props("outlined autogrow maxlength=200000")
            self.own.classes("own-field").props("for=own-prompt")
            self.answer = ui.textarea(words("your_answer")).props(
                "outlined autogrow rows=6 for=demonstration maxlength=200000"
            )
            self.answer.classes("own-field answer-field")
            self.answer.on("keydown", js_handler=_SUBMIT, handler=lambda e: self._save(e.args))
        with ui.footer(elevated=False).classes("kun-footer"), ui.column().classes("rate-column"):
            with ui.row().classes("rate-bar"):
                main_button(words("save"), lambda: self._save(self.answer.value), "check").classes(
                    "save-answer"
                )
                skip = say_kindly(self._skip)
                ui.button(words("skip"), icon="skip_next", on_click=skip).props("flat no-caps dense")
            ui.label(words("write_keys")).classes("hint keys-hint")
        await say_kindly(self.show_next)()

    async def show_next(self) -> None:
        self.prompt = await off_loop(self.store.next_to_write, self.visit.rater, self.skipped)
        self.asked.clear()
        self.own.value = ""
        self.own.set_visibility(self.prompt is None)
        self.answer.value = ""
        if self.prompt is not None:
            with self.asked:
                show_prompt(self.visit, self.prompt.messages)
        field = "demonstration" if self.prompt is not None else "own-prompt"
        ui.run_javascript(f"setTimeout(() => document.getElementById('{field}')?.focus())")

    async def _skip(self) -> None:
        if self.prompt is not None:
            self.skipped.add(self.prompt.id)
        await self.show_next()

    async def _save(self, answer: str | None) -> None:
        if self.is_busy:
            return
        self.is_busy = True
        try:
            with self.asked:
                await say_kindly(self._keep)(answer or "")
        finally:
            self.is_busy = False

    async def _keep(self, answer: str) -> None:
        messages: tuple[ChatMessage, ...]
        if self.prompt is not None:
            messages = self.prompt.messages
        else:
            if not (self.own.value or "").strip():
                raise BadInput(self.words("own_prompt_empty"))
            messages = ({"role": "user", "content": self.own.value.strip()},)
        await off_loop(self.store.demonstrate, messages, answer.strip(), self.visit.rater, "page")
        ui.notify(self.words("saved"), type="positive", timeout=1200)
        await self.show_next()

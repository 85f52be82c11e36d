"""The page of feedback as a whole: its numbers, new prompts, sampled answers, and a reward model from the votes."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from nicegui import ui
from nicegui.events import UploadEventArguments

from kun.alignment.feedback.agreement import Share, Summary, summary_of
from kun.alignment.feedback.exchange import Imported, import_prompts
from kun.alignment.feedback.reward_recipe import Prepared, prepare
from kun.alignment.feedback.sampling import Writer, sample
from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import MOST, Prompt
from kun.errors import BadInput, KunError
from kun.server.conversations import Conversations
from kun.server.web.frame import main_button, off_loop, say_kindly
from kun.server.web.raters import feedback_frame
from kun.server.web.state import Visit
from kun.server.web.turns import prompt_messages
from kun.server.web.uploads import safe_name
from kun.settings import settings

_WATCH_S = 1.0
_LARGEST_UPLOAD = 64 * 2**20
_SHOWN_LINE = 200


async def feedback() -> None:
    await FeedbackPage(Visit.current()).build()


PAGES = [("/feedback", feedback)]


class FeedbackPage:
    """The sections of the page."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.words = visit, visit.words
        self.store = visit.web.feedback
        self.is_sampling = False

    async def build(self) -> None:
        words = self.words
        feedback_frame(self.visit, "")
        models = [model.name for model in await off_loop(self.visit.web.service.models)]
        with ui.element("main").classes("page feedback"):
            ui.label(words("feedback_intro")).classes("intro")
            with _section(words("feedback_numbers"), words("feedback_numbers_help")):
                self.numbers = ui.element("div").classes("numbers").props('aria-live="polite"')
            with _section(words("new_prompts"), words("new_prompts_help")):
                self._prompts()
            with _section(words("sample_title"), words("sample_help", most=MOST)):
                self._sampling(models)
            with _section(words("reward_title"), words("reward_help")):
                self._reward(models)
        await say_kindly(self.show_numbers)()

    # Numbers

    async def show_numbers(self) -> None:
        summary, others = await off_loop(_numbers, self.store)
        words = self.words
        self.numbers.clear()
        with self.numbers:
            for name, value in self._rows(summary, others):
                with ui.row(wrap=False).classes("number-row"):
                    ui.label(name).classes("number-name")
                    ui.label(value).classes("number-value")
            for name, share in summary.models.items():
                with ui.row(wrap=False).classes("number-row"):
                    ui.label(words("model_wins", name=name)).classes("number-name")
                    ui.label(_percent(share)).classes("number-value")
        self.waiting.text = words("n_waiting", n=others.waiting)

    def _rows(self, summary: Summary, others: "Others") -> list[tuple[str, str]]:
        words, found = self.words, summary.agreement
        unknown = words("not_yet_known")
        people = ", ".join(f"{name}: {count}" for name, count in summary.raters.items())
        flags = (summary.flags.get(name, 0) for name in ("harmful", "untrue", "off-topic"))
        return [
            (words("n_votes"), f"{summary.votes:,}"),
            (words("n_people"), people or "0"),
            (words("n_pairs"), f"{summary.pairs:,}"),
            (words("n_ties"), f"{summary.ties:,}"),
            (words("n_bad"), f"{summary.bad:,}"),
            (words("n_skipped"), f"{summary.skipped:,}"),
            (words("n_contradictory"), f"{summary.contradictory:,}"),
            (words("n_flags"), " · ".join(map(str, flags))),
            (words("n_corrections"), f"{summary.corrections:,}"),
            (words("n_demonstrations"), f"{others.demonstrations:,}"),
            (words("n_thumbs"), f"{others.thumbs_up:,} · {others.thumbs_down:,}"),
            (words("agreement_alpha"), unknown if found.alpha is None else f"{found.alpha:.3f}"),
            (words("agreement_pairs"), _percent(found.pairwise) or unknown),
            (words("first_wins"), _percent(summary.first_wins) or unknown),
            (words("longer_wins"), _percent(summary.longer_wins) or unknown),
        ]

    # Prompts

    def _prompts(self) -> None:
        words = self.words
        self.typed = ui.textarea(words("prompts_typed")).props("outlined autogrow maxlength=200000")
        self.typed.classes("own-field")
        with ui.row().classes("inside-fields"):
            main_button(words("add"), say_kindly(self._add_typed), "add").classes("add-prompts")
            ui.button(
                words("prompts_of_chats"), icon="chat_bubble_outline", on_click=say_kindly(self._add_chats)
            ).props("flat no-caps").classes("add-chats")
            self.upload = ui.upload(
                label=words("prompts_of_file"),
                auto_upload=True,
                max_file_size=_LARGEST_UPLOAD,
                on_upload=say_kindly(self._add_file),
            ).classes("prompts-upload")

    async def _add_typed(self) -> None:
        lines = [line.strip() for line in (self.typed.value or "").splitlines() if line.strip()]
        if not lines:
            raise BadInput(self.words("no_prompts_typed"))
        added = await off_loop(
            _add_all, self.store, [[{"role": "user", "content": line}] for line in lines], "page"
        )
        self.typed.value = ""
        await self._told(added)

    async def _add_chats(self) -> None:
        prompts = await off_loop(_prompts_of_chats, self.visit.web.conversations, self.visit.owner)
        await self._told(await off_loop(_add_all, self.store, prompts, "chat"))

    async def _add_file(self, event: UploadEventArguments) -> None:
        with TemporaryDirectory(prefix="kun-prompts-") as folder:
            file = Path(folder) / safe_name(event.file.name)
            await event.file.save(file)
            made: Imported = await off_loop(import_prompts, self.store, file)
        self.upload.reset()
        for example in made.examples:
            ui.notify(example, type="warning", multi_line=True)
        await self._told(made.prompts)

    async def _told(self, added: int) -> None:
        ui.notify(self.words("n_added", n=added))
        await self.show_numbers()

    # Answers

    def _sampling(self, models: list[str]) -> None:
        words = self.words
        with ui.row().classes("inside-fields"):
            self.writers = ui.select(models, label=words("models"), value=models[:1], multiple=True)
            self.writers.props("outlined dense options-dense").classes("inside-choice")
            self.count = self._number(words("n_answers"), 4, 2, MOST)
            self.people = self._number(words("n_raters"), 1, 1, 100)
            self.heat = ui.number(words("temperature"), value=1.0, min=0.1, max=2.0, step=0.1)
            self.heat.props("outlined dense").classes("inside-number")
            self.sample_button = main_button(words("sample"), say_kindly(self._sample), "auto_awesome")
        self.waiting = ui.label().classes("note").props('role="status"')

    @staticmethod
    def _number(label: str, value: int, least: int, most: int) -> ui.number:
        field = ui.number(label, value=value, min=least, max=most, precision=0)
        return field.props("outlined dense").classes("inside-number")

    async def _sample(self) -> None:
        """Answers to all prompts that wait, each kept as soon as it is there."""
        if self.is_sampling:
            return
        words, names = self.words, [str(name) for name in self.writers.value or ()]
        count, people, heat = (
            int(self.count.value or 4),
            int(self.people.value or 1),
            float(self.heat.value or 1),
        )
        prompts = await off_loop(self.store.prompts, True)
        if not prompts:
            raise BadInput(words("no_prompts_wait"))
        self.is_sampling = True
        self.sample_button.props("loading")
        done = 0
        try:
            await off_loop(self.store.want, people)
            load = self.visit.web.service.language_model
            writers = [await off_loop(load, name) for name in names]
            for done, prompt in enumerate(prompts):
                self.waiting.text = words("sampling", done=done, total=len(prompts))
                try:
                    await off_loop(_sample, self.store, writers, prompt, count, people, heat)
                except BadInput as error:  # the others may do
                    ui.notify(str(error), type="warning", multi_line=True)
        finally:
            self.is_sampling = False
            self.sample_button.props(remove="loading")
        await self.show_numbers()

    # A reward model

    def _reward(self, models: list[str]) -> None:
        words = self.words
        with ui.row().classes("inside-fields"):
            base = ui.select(models, label=words("reward_base"), value=models[0] if models else None)
            base.props("outlined dense options-dense").classes("inside-choice")
            train = say_kindly(lambda: self._train(str(base.value or "")))
            main_button(words("reward_train"), train, "school").classes("train-reward")
        self.trained = ui.element("div").props('aria-live="polite"')

    async def _train(self, model: str) -> None:
        words = self.words
        if not model:
            raise BadInput(words("reward_no_model"))
        folder = settings().runs / f"feedback-{datetime.now():%Y%m%d-%H%M%S}"
        prepared = await off_loop(prepare, self.store, folder, model)
        running = await off_loop(_Run.start, prepared, folder / "training.log")
        self.trained.clear()
        with self.trained:
            ui.label(words("reward_began", n=prepared.rankings)).classes("note")
            ui.label(prepared.command).classes("mono")
            state = ui.label().classes("note").props('role="status"')

            def watch() -> None:
                code = running.process.poll()
                state.text = running.last_line()
                if code is not None:
                    timer.cancel()
                    end = words("reward_done", path=prepared.run / "checkpoint")
                    state.text = end if code == 0 else words("reward_failed", why=running.last_line())

            timer = ui.timer(_WATCH_S, watch)


@dataclass(frozen=True)
class Others:
    """What there is next to votes."""

    waiting: int
    demonstrations: int
    thumbs_up: int
    thumbs_down: int


@dataclass(frozen=True)
class _Run:
    """A training in a process of its own, which goes on when the page is closed."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def start(cls, prepared: Prepared, log: Path) -> "_Run":
        line = [sys.executable, "-m", "kun", "train", str(prepared.recipe)]
        out: IO[bytes]
        with log.open("wb") as out:
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        return cls(process, log)

    def last_line(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return next((line[:_SHOWN_LINE] for line in reversed(lines) if line.strip()), "")


def _section(title: str, explained: str) -> ui.element:
    section = ui.element("section").classes("panel")
    with section:
        ui.label(title).classes("section-title")
        ui.label(explained).classes("note")
    return section


def _percent(share: Share | None) -> str:
    return "" if share is None else f"{share.share:.1%} ± {share.error:.1%} ({share.count:,})"


def _numbers(store: FeedbackStore) -> tuple[Summary, Others]:
    thumbs = store.thumbs()
    up = sum(thumb.value > 0 for thumb in thumbs)
    others = Others(len(store.prompts(waiting=True)), len(store.demonstrations()), up, len(thumbs) - up)
    return summary_of(store.votes()), others


def _add_all(store: FeedbackStore, prompts: Sequence[Sequence[dict[str, str]]], source: str) -> int:
    """Keep prompts; how many are new."""
    before = {prompt.id for prompt in store.prompts()}
    with store.together():
        after = {store.add_prompt(messages, source) for messages in prompts}
    return len(after - before)


def _prompts_of_chats(conversations: Conversations, owner: str) -> list[list[dict[str, str]]]:
    """What a person asked in their conversations, each question with what came before it."""
    found = []
    for conversation in conversations.list(owner):
        try:
            messages = conversations.messages(owner, conversation.id)
        except KunError:  # deleted meanwhile
            continue
        asked = (prompt_messages(messages, one.id) for one in messages if one.role == "assistant")
        found += [prompt for prompt in asked if prompt and prompt[-1]["role"] == "user"]
    return found


def _sample(
    store: FeedbackStore,
    writers: Sequence[Writer],
    prompt: Prompt,
    count: int,
    people: int,
    temperature: float,
) -> None:
    answers, models = sample(writers, prompt.messages, count, temperature=temperature)
    store.add_item(prompt.messages, answers, models, wanted=people, source=prompt.source)

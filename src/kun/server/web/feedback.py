"""The page of feedback as a whole: its numbers, new prompts, sampled answers, and a reward model from the votes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from nicegui import ui
from nicegui.events import UploadEventArguments

from kun.alignment.feedback.agreement import Share, Summary, summary_of
from kun.alignment.feedback.exchange import Imported, import_prompts
from kun.alignment.feedback.sampling import Writer, sample
from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import MOST, Prompt
from kun.errors import BadInput, KunError
from kun.server.conversations import Conversations
from kun.server.web.frame import icon_button, main_button, off_loop, say_kindly
from kun.server.web.raters import feedback_frame
from kun.server.web.rewarding import RewardSection
from kun.server.web.state import Visit
from kun.server.web.turns import prompt_messages
from kun.server.web.uploads import safe_name

_LARGEST_UPLOAD = 64 * 2**20
_SHOWN_FAULTS = 3
_LISTED = 100
"""Prompts that are listed, of those that wait."""


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
            with _section(words("new_prompts"), words("new_prompts_help")):
                self._prompts()
            with _section(words("sample_title"), words("sample_help", most=MOST)):
                self._sampling(models)
            with _section(words("feedback_numbers"), words("feedback_numbers_help")):
                self.numbers = ui.element("div").classes("numbers").props('aria-live="polite"')
            with _section(words("reward_title"), words("reward_help")):
                self.reward = RewardSection(words, self.store, models)
        await say_kindly(self._begin)()

    async def _begin(self) -> None:
        self.people.value = await off_loop(self.store.wanted)
        await self.show_numbers()

    # Numbers

    async def show_numbers(self) -> None:
        summary, others = await off_loop(_numbers, self.store, self.visit.rater)
        words = self.words
        self.numbers.clear()
        models = [(words("model_wins", name=name), _percent(share)) for name, share in summary.models.items()]
        is_any = others.any or summary.votes or summary.skipped
        rows = [*self._rows(summary, others), *models] if is_any else []
        with self.numbers:
            if not rows:
                ui.label(words("no_votes")).classes("number-row")
            for name, value in rows:
                with ui.row(wrap=False).classes("number-row"):
                    ui.label(name).classes("number-name")
                    ui.label(value).classes("number-value")
        self.left.text = words("n_to_rate", n=others.to_rate)
        self._list(others.waiting)

    def _list(self, waiting: Sequence[Prompt]) -> None:
        """The prompts that wait for answers."""
        self.waiting.text = self.words("n_waiting", n=len(waiting))
        self.details.classes(**{"remove" if waiting else "add": "empty"})
        self.listed.clear()
        with self.listed:
            for prompt in waiting[:_LISTED]:
                with ui.row(wrap=False).classes("waiting-row"):
                    asked = str(prompt.messages[-1].get("content") or "")
                    ui.label(asked).classes("waiting-prompt")
                    forget = say_kindly(partial(self._forget, prompt.id))
                    icon_button("close", self.words("remove", name=asked[:60]), forget)
            if len(waiting) > _LISTED:
                ui.label("…")

    async def _forget(self, prompt: str) -> None:
        await off_loop(self.store.remove_prompt, prompt)
        await self.show_numbers()

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
                auto_upload=True, max_file_size=_LARGEST_UPLOAD, on_upload=say_kindly(self._add_file)
            ).classes("hidden")
            choose = ui.button(words("prompts_of_file"), icon="upload_file").props("flat no-caps")
            choose.on("click", js_handler=f"() => getElement({self.upload.id}).pickFiles()")

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
            try:
                made: Imported = await off_loop(import_prompts, self.store, file)
            except KunError as error:
                raise type(error)(str(error).replace(f"{folder}/", "")) from error
            finally:
                self.upload.reset()
        for example in made.examples[:_SHOWN_FAULTS]:
            ui.notify(example.replace(f"{folder}/", ""), type="warning", multi_line=True)
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
            self.people.on("change", say_kindly(self._want))
            self.heat = ui.number(words("temperature"), value=0.8, min=0.1, max=2.0, step=0.1)
            self.heat.props("outlined dense").classes("inside-number")
            self.longest = self._number(words("longest_tokens"), 256, 1, 4096)
            self.sample_button = main_button(words("sample"), say_kindly(self._sample), "auto_awesome")
        with ui.element("details").classes("waiting-list") as self.details:
            with ui.element("summary"):
                self.waiting = ui.label().classes("note").props('role="status"')
            self.listed = ui.element("div")
        with ui.row().classes("inside-fields"):
            self.left = ui.label().classes("note")
            ui.link(words("rate"), "/feedback/rate").classes("to-rate")

    async def _want(self) -> None:
        await off_loop(self.store.want, int(self.people.value or 1))
        await self.show_numbers()

    @staticmethod
    def _number(label: str, value: int, least: int, most: int) -> ui.number:
        field = ui.number(label, value=value, min=least, max=most, precision=0)
        return field.props("outlined dense").classes("inside-number")

    async def _sample(self) -> None:
        """Answers to all prompts that wait, each kept as soon as it is there."""
        if self.is_sampling:
            return
        words, names = self.words, [str(name) for name in self.writers.value or ()]
        how = _Sampling(
            int(self.count.value or 4), int(self.people.value or 1), float(self.heat.value or 0.8),
            int(self.longest.value or 256),
        )  # fmt: skip
        prompts = await off_loop(self.store.prompts, True)
        if not prompts:
            raise BadInput(words("no_prompts_wait"))
        if not names:
            raise BadInput(words("no_writers"))
        self.is_sampling = True
        self.sample_button.props("loading")
        self.waiting.text = words("sampling", done=0, total=len(prompts))
        try:
            load = self.visit.web.service.language_model
            writers = [await off_loop(load, name) for name in names]
            for done, prompt in enumerate(prompts):
                self.waiting.text = words("sampling", done=done, total=len(prompts))
                try:
                    await off_loop(_sample, self.store, writers, prompt, how)
                except BadInput as error:  # the others may do
                    ui.notify(str(error), type="warning", multi_line=True)
        finally:
            self.is_sampling = False
            self.sample_button.props(remove="loading")
        await self.show_numbers()


@dataclass(frozen=True)
class Others:
    """What there is next to votes."""

    waiting: list[Prompt]
    to_rate: int
    demonstrations: int
    thumbs_up: int
    thumbs_down: int

    @property
    def any(self) -> bool:
        return bool(self.demonstrations or self.thumbs_up or self.thumbs_down)


@dataclass(frozen=True)
class _Sampling:
    """Answers to each prompt, people to rate them, and the most tokens of an answer."""

    count: int
    people: int
    temperature: float
    longest: int


def _section(title: str, explained: str) -> ui.element:
    section = ui.element("section").classes("panel")
    with section:
        ui.label(title).classes("section-title")
        ui.label(explained).classes("note")
    return section


def _percent(share: Share | None) -> str:
    return "" if share is None else f"{share.share:.1%} ± {share.error:.1%} ({share.count:,})"


def _numbers(store: FeedbackStore, rater: str) -> tuple[Summary, Others]:
    thumbs = store.thumbs()
    up = sum(thumb.value > 0 for thumb in thumbs)
    written = len(store.demonstrations())
    return summary_of(store.votes()), Others(
        store.prompts(waiting=True), store.left(rater), written, up, len(thumbs) - up
    )


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


def _sample(store: FeedbackStore, writers: Sequence[Writer], prompt: Prompt, how: _Sampling) -> None:
    """Answers to one prompt, unless it has some by now or another page samples them: then nothing."""
    with _mine(prompt.id) as is_mine:
        if not is_mine or not store.waits(prompt.id):
            return
        answers, models = sample(
            writers, prompt.messages, how.count, temperature=how.temperature, max_tokens=how.longest
        )
        with store.together():
            if store.waits(prompt.id):  # another server may have been faster, or the prompt is forgotten
                store.add_item(prompt.messages, answers, models, wanted=how.people, source=prompt.source)


_sampled: set[str] = set()
"""Prompts to which a page of this server samples answers now."""
_lock = threading.Lock()


@contextmanager
def _mine(prompt: str) -> Iterator[bool]:
    """Whether no other page has a prompt in work; until the end it is then this one's."""
    with _lock:
        is_mine = prompt not in _sampled
        _sampled.add(prompt)
    try:
        yield is_mine
    finally:
        if is_mine:
            with _lock:
                _sampled.discard(prompt)

"""The Knowledge pages: the list of knowledge bases, and one of them with its documents and a search to try."""

import contextlib
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from nicegui import ui
from nicegui.events import MultiUploadEventArguments, ValueChangeEventArguments

from kun.atomic_files import writing_to
from kun.errors import KunError
from kun.server.web.frame import confirmed, frame, icon_button, main_button, missing, off_loop, say_kindly
from kun.server.web.passages import chips, open_passage, place
from kun.server.web.state import Visit
from kun.server.web.topics import topics_area
from kun.server.web.turns import plain_passage
from kun.server.web.uploads import human_size, put, safe_name
from kun.server.web.words import Words
from kun.settings import settings

if TYPE_CHECKING:
    from nicegui.elements.upload_files import FileUpload

    from kun.knowledge.adding import Report
    from kun.knowledge.base import KnowledgeBase, Source
    from kun.knowledge.passage import Passage

MAX_FILES_AT_ONCE = 200
_N_FOUND = 8
_SHOWN_TEXT = 420
_WATCH_S = 0.2


async def all_bases() -> None:
    visit = Visit.current()
    words = visit.words
    names = await off_loop(visit.web.service.knowledge_bases)
    with frame(visit, words("knowledge_title")) as header:
        pass
    with header:
        ui.label(words("knowledge_title")).classes("header-title")
    with ui.element("main").classes("page"):
        ui.label(words("knowledge_intro")).classes("intro")
        _create_row(visit)
        with ui.element("div").classes("bases"):
            if not names:
                ui.label(words("no_bases")).classes("nothing")
            for name in names:
                _fill_in(visit, name, _base_card(visit, name))


async def one_base(name: str) -> None:
    visit = Visit.current()
    if name not in await off_loop(visit.web.service.knowledge_bases):
        await missing(visit)
        return
    BasePage(visit, name).build()


PAGES = [("/knowledge", all_bases), ("/knowledge/{name}", one_base)]


def _fill_in(visit: Visit, name: str, counts: ui.label) -> None:
    """Say on its card what a base holds, or what is wrong with it, when that is known: opening one can take seconds."""

    async def fill() -> None:
        try:
            base = await off_loop(visit.web.service.knowledge_base, name)
            counts.text = count_line(visit.words, totals(await off_loop(base.sources)))
        except KunError as error:
            counts.text = str(error)

    ui.timer(0, fill, once=True)


def totals(sources: "Sequence[Source]") -> tuple[int, int, int]:
    """Documents, passages and bytes."""
    return len(sources), sum(s.passages for s in sources), sum(s.bytes for s in sources)


def _create_row(visit: Visit) -> None:
    words = visit.words

    @say_kindly
    async def create(_: object = None) -> None:
        name = (field.value or "").strip()
        button.props("loading")
        try:
            await off_loop(visit.web.service.create_knowledge_base, name)
        finally:
            button.props(remove="loading")
        ui.navigate.to(page_of(name))

    with ui.row(wrap=False).classes("create-row"):
        field = ui.input(placeholder=words("name_help")).props('outlined dense maxlength=100 for="new-base"')
        field.props["aria-label"] = words("create")
        field.classes("create-name").on(
            "keydown.enter", js_handler="(e) => { if (!e.isComposing) emit() }", handler=create
        )
        button = main_button(words("create_short"), create, "add").classes("create")


def _base_card(visit: Visit, name: str) -> ui.label:
    """A card for a base; gives the line for what it holds."""
    words = visit.words

    @say_kindly
    async def delete() -> None:
        if await confirmed(words, words("delete_base", name=name), words("delete")):
            await off_loop(visit.web.service.delete_knowledge_base, name)
            ui.navigate.reload()

    with ui.element("article").classes("base-card"):
        with ui.link(target=page_of(name)).classes("base-link"):
            ui.icon("menu_book").classes("base-icon")
            with ui.column().classes("base-text"):
                ui.label(name).classes("base-name")
                counts = ui.label("…").classes("base-counts")
        ui.button(
            words("ask_base"), icon="chat_bubble_outline", on_click=lambda: ui.navigate.to(ask_url(name))
        ).props("flat no-caps dense")
        icon_button("delete_outline", f"{words('delete')} {name}", delete).classes("delete-base")
    return counts


def count_line(words: Words, counts: tuple[int, int, int]) -> str:
    documents = words("one_document") if counts[0] == 1 else words("n_documents", n=counts[0])
    return f"{documents} · {passage_count(words, counts[1])} · {human_size(counts[2])}"


def passage_count(words: Words, count: int) -> str:
    return words("one_passage") if count == 1 else words("n_passages", n=count)


def page_of(name: str) -> str:
    return f"/knowledge/{urllib.parse.quote(name, safe='')}"


def ask_url(name: str) -> str:
    return f"/?base={urllib.parse.quote(name, safe='')}"


@dataclass
class AddingProgress:
    """The progress of adding; written by its thread, shown by the page."""

    done: int = 0
    total: int | None = None
    detail: str = ""

    def __call__(self, stage: str, done: int, total: int | None, detail: str = "") -> None:
        self.done, self.total, self.detail = done, total, detail


@dataclass
class BasePage:
    """One knowledge base: upload, documents, search."""

    visit: Visit
    name: str
    progress: AddingProgress | None = None
    failed: dict[str, str] = field(default_factory=dict)
    name_filter: str = ""

    async def base(self) -> "KnowledgeBase":
        """The base itself, which takes seconds to open right after a start. Raises `KnowledgeBaseNotFound`."""
        return await off_loop(self.visit.web.service.knowledge_base, self.name)

    def build(self) -> None:
        words, name = self.visit.words, self.name
        with frame(self.visit, name) as header:
            pass
        with header:
            ui.link(words("knowledge"), "/knowledge").classes("crumb")
            ui.label("/").classes("crumb-slash")
            ui.label(name).classes("header-title")
            ui.space()
            ui.button(
                words("ask_base"), icon="chat_bubble_outline", on_click=lambda: ui.navigate.to(ask_url(name))
            ).props("flat no-caps").classes("ask-base")
        with ui.element("main").classes("page"):
            self._upload_area()
            self.report = ui.element("section").classes("report").props('aria-live="polite"')
            self._search_area()
            topics_area(self.visit, name, self.base)
            with ui.element("section").classes("panel"):
                with ui.row(wrap=False).classes("panel-line"):
                    ui.label(words("documents")).classes("section-title")
                    self.counts = ui.label("…").classes("base-counts")
                    ui.space()
                    ui.input(placeholder=words("filter"), on_change=self._filter).props(
                        f'dense outlined rounded clearable debounce=200 aria-label="{words("filter")}"'
                    ).classes("filter")
                self.documents = ui.element("div").classes("documents").props('role="list"')
        ui.timer(0, say_kindly(self._list_documents), once=True)

    # Upload

    def _upload_area(self) -> None:
        words, limit = self.visit.words, settings().max_file_bytes
        with ui.element("section").classes("upload-area"):
            ui.icon("cloud_upload").classes("upload-icon")
            ui.label(words("upload")).classes("upload-title")
            ui.label(words("upload_kinds", size=human_size(limit))).classes("note")
            self.upload = ui.upload(
                multiple=True,
                auto_upload=True,
                max_file_size=limit,
                max_files=MAX_FILES_AT_ONCE,
                on_multi_upload=self._received,
                on_rejected=self._rejected,
            ).classes("uploader")
            self.upload.props["aria-label"] = words("upload")
            self.bar = ui.linear_progress(value=0, show_value=False).props("rounded").classes("add-bar")
            self.stage = ui.label().classes("note").props('role="status"')
            self.bar.set_visibility(False)

    def _rejected(self) -> None:
        size = human_size(settings().max_file_bytes)
        ui.notify(
            self.visit.words("upload_rejected", size=size, n=MAX_FILES_AT_ONCE),
            type="warning",
            multi_line=True,
        )

    async def _received(self, event: MultiUploadEventArguments) -> None:
        with self.upload:
            await say_kindly(self._take)(event.files)

    async def _take(self, received: "Sequence[FileUpload]") -> None:
        try:
            files = [await self._keep(file) for file in received]
        finally:
            self.upload.reset()
        await self._add(files)

    async def _keep(self, file: "FileUpload") -> Path:
        """The file in `uploads/`, whole or not at all. Raises `NoSpace`, `NotWritable`."""
        folder = (await self.base()).uploads
        with writing_to(folder):
            await off_loop(folder.mkdir, parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix=".upload-", delete=False) as temporary:
                pass
            try:
                await file.save(temporary.name)
                return await off_loop(put, folder, file.name, Path(temporary.name))
            finally:
                await off_loop(Path(temporary.name).unlink, missing_ok=True)

    async def _add(self, files: list[Path]) -> None:
        words, base = self.visit.words, await self.base()
        self.progress = AddingProgress()
        self.bar.set_visibility(True)
        self.stage.text = words("adding", n=len(files))
        watch = ui.timer(_WATCH_S, self._show_progress)
        try:
            report = await off_loop(base.add, *files, progress=self.progress)
        finally:
            watch.cancel()
            self.progress = None
            self.bar.set_visibility(False)
            self.stage.text = ""
        for name in report.failed:
            with contextlib.suppress(OSError):
                await off_loop((base.uploads / safe_name(name)).unlink)
        self._show_report(report)
        await self._list_documents()

    def _show_progress(self) -> None:
        progress = self.progress
        if progress is None or not progress.total:
            return
        self.bar.value = min(1.0, progress.done / progress.total)
        self.stage.text = self.visit.words(
            "stage", done=progress.done, total=progress.total, detail=progress.detail
        )

    def _show_report(self, report: "Report") -> None:
        words = self.visit.words
        self.report.clear()
        with self.report, ui.element("div").classes("report-card"):
            with ui.row(wrap=False).classes("panel-line"):
                counts = {key: len(getattr(report, key)) for key in ("added", "replaced", "unchanged")}
                ui.label(words("report", **counts))
                ui.space()
                icon_button("close", words("dismiss"), self.report.clear)
            if report.failed:
                ui.label(words("failed", n=len(report.failed))).classes("failed-title")
                _named(report.failed)
            if report.skipped:
                ui.label(words("skipped", n=len(report.skipped))).classes("skipped-title")
                _named(report.skipped)

    # Documents

    async def _filter(self, event: ValueChangeEventArguments) -> None:
        self.name_filter = (event.value or "").casefold()
        await self._list_documents()

    async def _list_documents(self) -> None:
        words = self.visit.words
        base = await self.base()
        sources = await off_loop(base.sources)
        self.counts.text = count_line(words, totals(sources))
        self.documents.clear()
        with self.documents:
            if sources and base.is_cut_as_before:
                ui.label(words("cut_as_before", name=base.name)).classes("note")
            if not sources:
                ui.label(words("no_documents")).classes("nothing")
            for source in sources:
                if self.name_filter in source.name.casefold():
                    self._document_row(source)

    def _document_row(self, source: "Source") -> None:
        words = self.visit.words

        @say_kindly
        async def remove() -> None:
            if await confirmed(words, words("remove_document", name=source.name), words("remove_short")):
                await off_loop((await self.base()).remove, literal(source.name))
                ui.notify(words("removed", name=source.name), type="positive")
                await self._list_documents()

        with ui.row(wrap=False).classes("document").props('role="listitem"'):
            ui.icon("description").classes("document-icon")
            with ui.column().classes("document-text"):
                ui.label(source.name).classes("document-name").props["title"] = source.name
                date = source.added_at[:16].replace("T", " ")
                facts = (passage_count(words, source.passages), human_size(source.bytes), date)
                ui.label(" · ".join(facts)).classes("note")
            icon_button("close", words("remove", name=source.name), remove).classes("remove-document")

    # Search

    def _search_area(self) -> None:
        words = self.visit.words
        with ui.element("section").classes("panel"):
            ui.label(words("try_search")).classes("section-title")
            with ui.row(wrap=False).classes("search-row"):
                query = ui.input(placeholder=words("search_placeholder")).props(
                    'outlined dense clearable for="try-search"'
                )
                query.classes("search-field").props["aria-label"] = words("try_search")
                query.on(
                    "keydown.enter",
                    js_handler="(e) => { if (!e.isComposing) emit(e.target.value) }",
                    handler=lambda e: say_kindly(self._search)(e.args),
                )
                search = main_button(words("search"), lambda: say_kindly(self._search)(query.value), "search")
                search.classes("search-button")
            self.found = ui.element("div").classes("found").props('aria-live="polite"')

    async def _search(self, query: str | None) -> None:
        words = self.visit.words
        if not query or not query.strip():
            return
        started = time.monotonic()
        passages = await off_loop((await self.base()).search, query, _N_FOUND)
        milliseconds = round(1000 * (time.monotonic() - started))
        self.found.clear()
        with self.found:
            said = words("found", n=len(passages), ms=milliseconds) if passages else words("found_none")
            ui.label(said).classes("note")
            for number, passage in enumerate(passages, 1):
                self._found_card(passage, number)

    def _found_card(self, passage: "Passage", number: int) -> None:
        plain = plain_passage(passage)
        text = passage.text if len(passage.text) <= _SHOWN_TEXT else passage.text[:_SHOWN_TEXT] + "…"
        with ui.element("button").classes("found-card").props('type="button"') as card:
            with ui.row(wrap=False).classes("found-head"):
                ui.label(str(number)).classes("source-number")
                ui.label(passage.source).classes("found-source")
            place(self.visit.words, plain)
            chips(self.visit.words, plain["reasons"])
            ui.label(text).classes("found-text")
        card.on("click", lambda: open_passage(self.visit, self.name, plain, number))


def _named(things: Mapping[str, str]) -> None:
    """Each by its name, with the reason below it."""
    for name, why in things.items():
        with ui.element("div").classes("failed"):
            ui.label(name).classes("failed-name")
            ui.label(why).classes("note")


def literal(name: str) -> str:
    """A document's name as a pattern that means only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)

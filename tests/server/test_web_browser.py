"""The web app in a real browser: what a person sees, types and clicks."""

import errno
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeBase, FakeService

from kun.errors import Busy, ContextOverflow
from kun.server import toolboxes
from kun.settings import settings
from kun.tools.servers import Server, add_server, remove_server
from kun.tools.tool import Tool, Toolbox

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
XSS = "<img src=x onerror='ran()'><script>ran()</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("There is no Chromium, and under CI the browser tests must run: install chromium.")
        pytest.skip("There is no Chromium here: install it to run the browser tests.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, FakeService]]:
    """The app on a port of its own, with a scripted service behind it."""
    import uvicorn
    from fastapi import FastAPI

    from kun.server.web.mounting import mount

    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("web-home")
    patch.setenv("KUN_HOME", str(home))
    settings.cache_clear()
    service, app = FakeService(home), FastAPI()
    mount(app, service)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}", service
    server.should_exit = True
    thread.join(10)
    patch.undo()
    settings.cache_clear()


@pytest.fixture
def service(served: tuple[str, FakeService]) -> FakeService:
    """The service, as it was at the beginning."""
    fake = served[1]
    fake.lm.answers.clear()
    fake.lm.asked.clear()
    fake.lm.calls.clear()
    fake.lm.offered.clear()
    fake.lm.delay = 0.005
    fake.bases.clear()
    base = fake.create_knowledge_base("handbook")
    base.documents["北冥.md"] = "北冥有鱼，其名为鲲。鲲之大，不知其几千里也。" + "其余从略。" * 200
    base.documents["sea.md"] = "The sea is deep and the whale is great. " * 3
    return fake


class Visitor:
    """A browser window; at its end no error was on its console, and no request had left for elsewhere."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url, self.errors, self.foreign = url, [], []
        self.context = browser.new_context(
            **({"locale": "en-US", "viewport": {"width": 1200, "height": 800}} | options)
        )
        self.page = self.open_tab()

    def open_tab(self) -> Any:
        page = self.context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on(
            "request",
            lambda r: None if r.url.startswith((self.url, "data:", "blob:")) else self.foreign.append(r.url),
        )
        return page

    def go(self, path: str = "/", ready: str = ".kun-header") -> Any:
        self.page.goto(self.url + path)
        self.page.wait_for_selector(ready)
        self.page.wait_for_function(
            "window.did_handshake !== false && !!window.socket && window.socket.connected"
        )
        return self.page

    def ask(self, text: str, wait: bool = True) -> None:
        self.page.fill("#message", text)
        self.page.press("#message", "Enter")
        if wait:
            self.page.wait_for_selector(".answer:last-child .actions")


@pytest.fixture
def visit(browser: Any, served: tuple[str, FakeService], service: FakeService) -> Iterator[Any]:
    visitors: list[Visitor] = []

    def come(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, served[0], **options))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.context.close()
    for visitor in visitors:
        assert visitor.errors == []
        assert visitor.foreign == []


def plain(visitor: Visitor) -> Any:
    """A new chat without a knowledge base."""
    page = visitor.go("/", ".welcome")
    choose(page, "base", 0)
    page.wait_for_function("!document.querySelector('#message').placeholder.includes('handbook')")
    return page


def choose(page: Any, what: str, place: int) -> None:
    """Take an entry of a menu in the header, and wait until the menu is gone: the next click must not meet it."""
    page.click(f".choice-{what}")
    page.click(f".q-menu .q-item >> nth={place}")
    page.wait_for_selector(".q-menu", state="detached")


def choose_for_chat(page: Any, place: int) -> None:
    """Take an entry of a conversation's menu, which closes where the list is drawn anew meanwhile: then once more."""
    from playwright.sync_api import TimeoutError as Late

    for _ in range(10):
        page.click(".chat-more")
        try:
            page.click(f".q-menu .q-item >> nth={place}", timeout=5_000)
        except Late:
            continue
        return
    pytest.fail("The menu of a conversation did not stay open.")


def test_an_answer_streams_and_is_rendered_with_its_code(visit: Any, service: FakeService) -> None:
    visitor = visit()
    page = plain(visitor)
    service.lm.delay = 0.03
    visitor.ask("hello", wait=False)
    page.wait_for_function("document.querySelector('.prose')?.textContent.includes('great')")
    assert "That is all" not in page.inner_text(".prose")
    page.wait_for_selector(".answer .actions")
    assert page.inner_text(".prose strong") == "great"
    assert page.locator(".code .nb").inner_text() == "print"
    assert "tokens in" in page.inner_text(".facts")
    assert page.input_value("#message") == ""
    assert page.inner_text(".chat-title") == "hello"


def test_who_waits_sees_how_far_the_reading_is(visit: Any, service: FakeService) -> None:
    visitor = visit()
    page = plain(visitor)
    service.lm.delay = 1.0
    visitor.ask("hello", wait=False)
    page.wait_for_function("document.querySelector('.stage')?.textContent === 'Reading: 50 %'")
    page.keyboard.press("Escape")
    page.wait_for_selector(".stopped")


def test_escape_stops_an_answer_and_what_was_written_stays(visit: Any, service: FakeService) -> None:
    visitor = visit()
    page = plain(visitor)
    service.lm.delay = 0.1
    visitor.ask("stop me", wait=False)
    page.wait_for_function("document.querySelector('.prose')?.textContent.length > 6")
    page.keyboard.press("Escape")
    page.wait_for_selector(".stopped")
    assert "Deep" in page.inner_text(".prose")
    assert "all there is" not in page.inner_text(".prose")


def test_tools_are_chosen_and_remembered_and_each_call_opens(visit: Any, service: FakeService) -> None:
    add_server(Server("wiki", ("no-such-program-anywhere",)))
    question = "What is 6 times 7, and what of the sea?"
    service.lm.calls[question] = [
        ("calculate", {"expression": "6 * 7"}),
        ("search", {"query": "sea"}),
        ("clock", {}),
    ]
    visitor = visit()
    page = plain(visitor)
    page.click("#tools")
    for name in ("calculate", "base:handbook", "wiki"):
        page.click(f'[data-tool="{name}"]')
    page.wait_for_function("document.querySelector('.tools-count')?.innerText === '3'")
    page.wait_for_function("document.cookie.includes('kun_tools=')")
    page = plain(visitor)
    assert page.inner_text(".tools-count") == "3"
    visitor.ask(question)
    assert "wiki" in page.inner_text(".tool-fault")
    assert page.inner_text(".prose").startswith("I read: 6 * 7 = 42")
    assert page.locator(".call .call-name").all_inner_texts() == ["calculate", "search", "clock"]
    assert page.locator(".failed-call").count() == 1
    assert not page.is_visible(".call .call-text >> nth=0")
    page.click(".call >> nth=1")
    page.wait_for_selector(".call[open]")
    assert "The sea is deep" in page.inner_text(".call[open]")
    assert service.lm.offered[0] == ["calculate", "search", "tables"]
    choose(page, "base", 1)
    page.wait_for_function("!document.querySelector('.tools-count')?.offsetParent")
    remove_server("wiki")


def test_a_call_is_shown_while_it_runs_and_the_stop_button_leaves_it(
    visit: Any, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    slow = Tool("slow", "waits", {"type": "object"}, lambda given: str(go.wait(120)))
    monkeypatch.setattr(toolboxes, "chosen_tools", lambda *given: Toolbox([slow]))
    service.lm.calls["wait"] = [("slow", {"depth": "深海"})]
    visitor = visit(locale="zh-CN")
    page = plain(visitor)
    page.click("#tools")
    page.click('[data-tool="date"]')
    page.wait_for_function("document.querySelector('.tools-count')?.innerText === '1'")
    page.click(".tools-close")
    visitor.ask("wait", wait=False)
    page.wait_for_selector(".running-call")
    assert "深海" in page.inner_text(".call-arguments")
    assert page.inner_text(".call-state") == "进行中……"
    page.click("#stop")
    page.wait_for_selector(".stopped")
    assert page.inner_text(".call-state") == "已停止"
    visitor.ask("again", wait=False)
    page.wait_for_function("document.querySelectorAll('.prose')[1]?.innerText.includes('Deep')")
    go.set()


def test_answering_again_replaces_the_answer(visit: Any, service: FakeService) -> None:
    visitor = visit()
    page = plain(visitor)
    visitor.ask("again")
    first = page.inner_text(".prose")
    page.click(".again")
    page.wait_for_function(
        "t => document.querySelector('.answer .actions') && document.querySelector('.prose').innerText !== t",
        arg=first,
    )
    assert page.locator(".answer").count() == 1
    assert page.locator(".question").count() == 1


def test_editing_a_message_asks_anew_from_there(visit: Any, service: FakeService) -> None:
    visitor = visit()
    page = plain(visitor)
    visitor.ask("first")
    visitor.ask("second")
    page.wait_for_function("document.querySelectorAll('.answer .actions').length === 2")
    page.hover(".question >> nth=0")
    page.click(".edit >> nth=0")
    page.fill(".edit-field textarea", "changed")
    page.press(".edit-field textarea", "Enter")
    page.wait_for_function("document.querySelector('.question')?.innerText.includes('changed')")
    page.wait_for_selector(".answer .actions")
    assert page.locator(".question").count() == 1
    assert service.lm.asked[-1] == [{"role": "user", "content": "changed"}]


def test_a_conversation_survives_reloading_in_the_middle_of_an_answer(
    visit: Any, service: FakeService
) -> None:
    visitor = visit()
    page = plain(visitor)
    service.lm.delay = 0.05
    visitor.ask("reload", wait=False)
    page.wait_for_function("document.querySelector('.prose')?.textContent.length > 6")
    page.wait_for_url("**/c/*")
    page.reload()
    page.wait_for_selector(".answer .actions")
    assert "That is all" in page.inner_text(".prose")
    assert "reload" in page.inner_text(".question")


def test_a_second_tab_follows_and_two_people_do_not_disturb_each_other(
    visit: Any, service: FakeService
) -> None:
    ada, bob = visit(), visit()
    plain(ada)
    plain(bob)
    service.lm.delay = 0.02
    service.lm.answers |= {"ada?": "answer for ada " * 5, "bob?": "answer for bob " * 5}
    ada.ask("ada?", wait=False)
    bob.ask("bob?", wait=False)
    ada.page.wait_for_url("**/c/*")
    second = ada.open_tab()
    second.goto(ada.page.url)
    for page, name in ((ada.page, "ada"), (second, "ada"), (bob.page, "bob")):
        page.wait_for_selector(".answer .actions")
        assert page.inner_text(".prose").split() == f"answer for {name}".split() * 5
    ada.ask("ada?", wait=False)
    second.wait_for_function("document.querySelectorAll('.answer .actions').length === 2")


def test_shift_enter_and_an_open_composition_do_not_send(visit: Any, service: FakeService) -> None:
    page = plain(visitor := visit())
    page.fill("#message", "one")
    page.press("#message", "Shift+Enter")
    page.type("#message", "two")
    page.evaluate(
        """() => document.querySelector('#message').dispatchEvent(
            new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"""
    )
    page.wait_for_timeout(400)
    assert service.lm.asked == []
    assert page.input_value("#message") == "one\ntwo"
    page.press("#message", "Enter")
    page.wait_for_selector(".answer .actions")
    assert service.lm.asked[0][-1]["content"] == "one\ntwo"
    page.keyboard.press("Control+k")
    page.wait_for_selector(".welcome")
    assert visitor.page.url.endswith("/")


def test_what_is_typed_the_moment_the_field_is_there_is_answered_once(
    visit: Any, service: FakeService
) -> None:
    visitor = visit()
    page = visitor.page
    page.goto(visitor.url, wait_until="commit")
    page.wait_for_selector("#message")
    page.fill(
        "#message", "the sea is early"
    )  # nothing has been waited for: the page may not be connected yet
    page.press("#message", "Enter")
    page.press("#message", "Enter")
    page.wait_for_selector(".answer .actions")
    assert [asked[-1]["content"] for asked in service.lm.asked] == ["the sea is early"]
    assert page.locator(".chat-title").count() == 1 or page.locator(".question").count() == 1


def test_what_is_typed_while_a_message_is_sent_stays(visit: Any, service: FakeService) -> None:
    page = plain(visitor := visit())
    service.lm.delay = 0.05
    visitor.ask("one", wait=False)
    page.type("#message", "two")
    page.wait_for_selector(".answer .actions")
    assert page.input_value("#message").endswith("two")


def test_a_citation_opens_its_passage_in_its_document(visit: Any, service: FakeService) -> None:
    visitor = visit(locale="zh-CN")
    page = visitor.go("/", ".welcome")
    service.lm.answers["北冥有鱼"] = "其名为鲲 [1]。"
    visitor.ask("北冥有鱼")
    page.click(".prose .cite")
    page.wait_for_selector(".panel-text mark")
    assert "鲲之大" in page.inner_text(".panel-text mark")
    assert page.inner_text(".panel-source") == "北冥.md"
    assert "第 3 页" in page.inner_text(".passage-panel .passage-place")
    assert "原文一致" in page.inner_text(".passage-panel .chips")
    assert "其余从略" in page.inner_text(".panel-text .around >> nth=1")
    page.keyboard.press("Escape")
    page.wait_for_selector(".passage-panel", state="detached")
    del service.bases["handbook"]
    page.click(".source")
    page.wait_for_selector(".panel-gone")
    assert "鲲之大" in page.inner_text(".panel-text mark")


def test_knowledge_pages_are_there_before_their_bases_are_and_fill_in(
    visit: Any, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, opened = threading.Event(), service.knowledge_base

    def opens_late(name: str) -> FakeBase:
        assert gate.wait(60)
        return opened(name)

    monkeypatch.setattr(service, "knowledge_base", opens_late)
    visitor, other = visit(), visit()
    overview = visitor.go("/knowledge", ".base-card")
    page = other.go("/knowledge/handbook", ".upload-area")
    assert overview.inner_text(".base-counts") == page.inner_text(".base-counts") == "…"
    gate.set()
    for shown in (overview, page):
        shown.wait_for_function("document.querySelector('.base-counts').textContent.includes('2 documents')")
    page.wait_for_selector(".document")


def test_the_prompt_is_shown_on_demand(visit: Any) -> None:
    visitor = visit()
    page = visitor.go("/", ".welcome")
    visitor.ask("the sea")
    page.click(".show-prompt")
    page.wait_for_selector(".prompt-text")
    assert "Passages: 1. the sea" in page.inner_text(".prompt-text")


def test_a_declined_question_is_labelled(visit: Any) -> None:
    visitor = visit()
    page = visitor.go("/", ".welcome")
    visitor.ask("zzz")
    assert page.inner_text(".label.declined").endswith("The documents do not answer this")


def test_a_declined_question_goes_on_without_documents_or_in_another_base(
    visit: Any, service: FakeService
) -> None:
    service.create_knowledge_base("notes").documents["zzz.md"] = "zzz is asleep."
    visitor = visit()
    page = visitor.go("/", ".welcome")
    visitor.ask("zzz")
    page.click(".ask-base:has-text('notes')")
    page.wait_for_selector(".source-name:has-text('zzz.md')")
    assert page.query_selector(".label.declined") is None
    assert page.get_attribute("#message", "placeholder").count("handbook") == 1  # for the next question
    page.click(".answer:last-child .again")
    page.wait_for_selector(".label.declined")
    service.lm.answers["zzz"] = "The model says: asleep."
    page.click(".ask-plain")
    page.wait_for_selector(".answer:last-child .prose:has-text('The model says: asleep.')")


def test_a_calculation_is_shown_below_its_result(visit: Any) -> None:
    visitor = visit()
    page = visitor.go("/", ".welcome")
    visitor.ask("How many miles is the sea?")
    assert page.inner_text(".label.computed").endswith("Calculated from the documents")
    assert page.inner_text(".calculation") == "2 + 2 = 4"


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (Busy("full"), "Too many questions are waiting"),
        (ContextOverflow("too long"), "no longer fits"),
    ],
)
def test_errors_are_told_kindly(visit: Any, service: FakeService, problem: Any, said: str) -> None:
    service.lm.answers["oh"] = problem
    visitor = visit()
    page = plain(visitor)
    visitor.ask("oh")
    assert said in page.inner_text(".error-card")
    service.lm.answers["oh"] = "now it works"
    page.click(".try-again")
    page.wait_for_function("document.querySelector('.prose')?.innerText.includes('now it works')")


def test_a_missing_model_comes_with_the_command_that_fetches_it(visit: Any) -> None:
    visitor = visit()
    page = plain(visitor)
    choose(page, "model", 1)
    visitor.ask("hello")
    assert "kun pull absent-model" in page.inner_text(".error-card .command")


def test_nothing_that_others_wrote_runs_or_loads(visit: Any, service: FakeService) -> None:
    links = "![x](https://evil.example/x.png) [x](javascript:alert(1)) [1]"
    attack = f"{XSS} {links}\n\n```html\n{XSS}\n```\n{{{{ 7 * 7 }}}}"
    service.bases.clear()
    base = FakeBase(XSS, service.folder)
    service.bases[XSS] = base
    base.documents[f"{XSS}.md"] = f"attack {XSS}"
    service.lm.answers[f"attack {XSS}"] = attack
    visitor = visit()
    ran: list[str] = []
    visitor.page.expose_function("ran", lambda: ran.append(visitor.page.url))
    page = visitor.go("/", ".welcome")
    choose(page, "base", 1)
    visitor.ask(f"attack {XSS}")
    assert "{{ 7 * 7 }}" in page.inner_text(".prose")
    page.click(".prose .cite")
    page.wait_for_selector(".panel-text mark")
    page.wait_for_timeout(300)
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".answer .actions")
    assert page.title().startswith("attack <img src=x onerror='ran()'>")
    assert page.locator("img[src=x], .prose img, .panel-text img, .chat-title img").count() == 0
    visitor.go("/knowledge", ".base-card")
    page.wait_for_timeout(200)
    assert page.locator("img[src=x]").count() == 0
    assert ran == []
    page.evaluate("ran()")  # a script that had run would have been seen
    page.wait_for_timeout(100)
    assert len(ran) == 1


def test_conversations_are_searched_renamed_and_deleted(visit: Any, service: FakeService) -> None:
    visitor = visit()
    page = plain(visitor)
    visitor.ask("about narwhals")
    page.fill(".search-chats input", "narwhal")
    page.wait_for_function(
        "[...document.querySelectorAll('.chat-title')].every(t => t.innerText.includes('narwhals'))"
    )
    choose_for_chat(page, 0)
    page.fill(".ask-card input", "独角鲸")
    page.press(".ask-card input", "Enter")
    page.wait_for_function("document.querySelector('.chat-title')?.innerText === '独角鲸'")
    page.wait_for_selector(".ask-card", state="detached")
    choose_for_chat(page, 1)
    page.click(".confirm")
    page.wait_for_selector(".welcome")
    page.fill(".search-chats input", "narwhal")
    page.wait_for_selector(".no-chats")


def test_the_browser_decides_the_language_and_a_switch_is_remembered(visit: Any) -> None:
    visitor = visit(locale="zh-CN")
    page = visitor.go("/", ".welcome")
    assert page.inner_text(".welcome-title") == "想了解点什么？"
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.click("#language")
    page.wait_for_function(
        "document.querySelector('.welcome-title')?.innerText === 'What would you like to know?'"
    )
    visitor.go("/knowledge", ".bases")
    assert "Knowledge" in page.inner_text(".header-title")


def test_colours_follow_the_system_and_a_choice_is_remembered(visit: Any) -> None:
    visitor = visit(color_scheme="dark")
    page = visitor.go("/", ".welcome")
    page.wait_for_selector("body.body--dark")
    page.click("#theme")
    page.wait_for_selector("body.body--light")
    visitor.go("/knowledge", ".bases")
    page.wait_for_selector("body.body--light")


@pytest.mark.parametrize("width", [320, 400])
def test_a_phone_scrolls_down_only(visit: Any, service: FakeService, width: int) -> None:
    service.bases["handbook"].documents["a" * 120 + ".md"] = "x" * 300
    service.lm.answers["wide"] = (
        "word " * 40
        + "y" * 300
        + "\n\n```python\n"
        + "z" * 300
        + "\n```\n\n|a|b|\n|-|-|\n|"
        + "c" * 90
        + "|d|"
    )
    visitor = visit(viewport={"width": width, "height": 720}, has_touch=True)
    page = plain(visitor)
    visitor.ask("wide")
    for path, ready in (
        (None, ".answer"),
        ("/knowledge", ".base-card"),
        ("/knowledge/handbook", ".document"),
    ):
        if path:
            visitor.go(path, ready)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(".menu-button")
    page.wait_for_selector("#new-chat", state="visible")
    page.click("#new-chat")
    page.wait_for_selector(".welcome")
    assert page.locator("#send").is_visible()


def test_documents_are_uploaded_listed_found_and_removed(
    visit: Any, service: FakeService, tmp_path: Path
) -> None:
    visitor = visit()
    page = visitor.go("/knowledge", ".bases")
    page.fill("#new-base", "会议 记录")
    page.press("#new-base", "Enter")
    page.wait_for_selector(".upload-area")
    files = {"周会 笔记.md": "鲲鹏 plan for the north sea", "..evil.txt": "harmless", "empty.txt": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    page.set_input_files("input[type=file]", [tmp_path / name for name in files])
    page.wait_for_selector(".report-card")
    assert "2 added" in page.inner_text(".report-card")
    assert "it holds no text" in page.inner_text(".failed")
    page.wait_for_selector(".document-name >> nth=1")
    names = page.locator(".document-name").all_inner_texts()
    assert sorted(names) == ["evil.txt", "周会 笔记.md"]
    base = service.bases["会议 记录"]
    assert sorted(path.name for path in base.uploads.iterdir()) == ["evil.txt", "周会 笔记.md"]
    page.fill("#try-search", "鲲鹏 plan")
    page.press("#try-search", "Enter")
    page.wait_for_selector(".found-card")
    assert re.search(r"exact\s+words\s+meaning\s+token by token", page.inner_text(".found-card .chips"))
    page.fill("#try-search", "鲲鹏 plans")
    page.press("#try-search", "Enter")
    page.wait_for_selector(".chip.within")
    assert not page.locator(".chip.exact").count()
    page.click(".found-card")
    page.wait_for_selector(".panel-text mark")
    page.keyboard.press("Escape")
    page.wait_for_selector(".passage-panel", state="detached")
    page.click(".remove-document >> nth=0")
    page.click(".confirm")
    page.wait_for_function("document.querySelectorAll('.document-name').length === 1")
    visitor.go("/knowledge", ".base-card")
    page.click(".base-card:has-text('会议') .delete-base")
    page.click(".confirm")
    page.wait_for_function("document.querySelectorAll('.base-card').length === 1")
    assert "会议 记录" not in service.bases


@pytest.mark.filterwarnings("ignore:Glyph")
def test_the_topics_of_a_base_are_shown_as_groups_and_a_picture(visit: Any, service: FakeService) -> None:
    page = visit().go("/knowledge/handbook", ".document")
    page.click(".show-topics")
    page.wait_for_selector(".inside-picture")
    assert page.locator(".found-card").count() == 2
    page.click(".found-card >> nth=0")
    page.wait_for_selector(".passage-panel")
    page.keyboard.press("Escape")
    service.create_knowledge_base("empty")
    page = visit().go("/knowledge/empty", ".show-topics")
    page.click(".show-topics")
    page.wait_for_selector("text=empty holds no passages yet")


def test_an_upload_that_finds_the_disk_full_says_so_and_leaves_nothing_behind(
    visit: Any, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit().go("/knowledge", ".bases")
    page.fill("#new-base", "full")
    page.press("#new-base", "Enter")
    page.wait_for_selector(".upload-area")

    def full(*_: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kun.server.web.knowledge.put", full)
    (tmp_path / "note.md").write_text("something")
    page.set_input_files("input[type=file]", [tmp_path / "note.md"])
    page.wait_for_selector(".q-notification:has-text('is full')")
    base = service.bases.pop("full")
    assert not list(base.uploads.iterdir())


def test_every_control_has_a_name(visit: Any) -> None:
    visitor = visit()
    page = visitor.go("/", ".welcome")
    visitor.ask("the sea")
    for path, ready in (
        (None, ".answer"),
        ("/knowledge", ".base-card"),
        ("/knowledge/handbook", ".document"),
    ):
        if path:
            visitor.go(path, ready)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, a, input, textarea')]
                .filter(e => e.offsetParent && !(e.ariaLabel || e.title || e.labels?.length
                    || e.closest('[aria-label]') || e.innerText?.trim()))
                .map(e => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == []


def test_looking_inside_shows_pieces_attention_and_what_comes_next(visit: Any, service: FakeService) -> None:
    visitor = visit()
    page = visitor.go("/inside", ready="#positions img")
    page.click("#tokens .show")
    page.wait_for_selector("#tokens .piece")
    assert "".join(page.locator("#tokens .piece-text").all_inner_texts()).startswith("lowering")
    for part in ("attention", "next"):
        page.click(f"#{part} .show")
        page.wait_for_selector(f"#{part} img")
        assert page.eval_on_selector(f"#{part} img", "image => image.complete && image.naturalWidth > 100")


def test_words_as_vectors_show_neighbours_both_analogies_and_a_picture(
    visit: Any, service: FakeService
) -> None:
    page = visit().go("/vectors", ready="#plane .show")
    for part in ("neighbours", "analogy"):
        page.click(f"#{part} .show")
        page.wait_for_selector(f"#{part} .near-words li")
    lists = [text.split() for text in page.locator("#analogy .near-words").all_inner_texts()]
    assert [words[0] for words in lists] == ["queen", "king"]
    page.fill("#neighbours input[aria-label='Text']", "kingg")
    page.click("#neighbours .show")
    page.wait_for_selector("#neighbours .note:has-text('pieces')")
    page.click("#plane .show")
    page.wait_for_selector("#plane img")


def test_a_word_that_is_not_there_is_said_kindly(visit: Any, service: FakeService) -> None:
    page = visit().go("/inside", ready="#positions img")
    page.fill("#attention input[aria-label='One word']", "whale")
    page.click("#attention .show")
    page.wait_for_selector(".q-notification")
    assert "there are" in page.inner_text(".q-notification")

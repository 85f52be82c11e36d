"""The pages on feedback without a browser: they are there, and what people do on them is kept."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeService
from fastapi import FastAPI
from nicegui import ui
from starlette.testclient import TestClient

from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import Thumb, Vote
from kun.errors import Busy
from kun.server.conversations import Conversations
from kun.server.web import chat, feedback, mounting, rating, rewarding, writing
from kun.server.web.state import known_rater, rater_cookie, rater_of
from kun.settings import settings
from kun.training.recipe import read_recipe


@pytest.fixture
def client(tiny_home: Path) -> Iterator[TestClient]:
    app = FastAPI()
    mounting.mount(app, FakeService(tiny_home))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("path", ["/feedback", "/feedback/rate", "/feedback/write"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_page_on_feedback_is_there_in_both_languages(
    client: TestClient, path: str, language: str
) -> None:
    answer = client.get(path, headers={"accept-language": language})
    assert answer.status_code == 200
    assert "feedback" in answer.text


@pytest.mark.parametrize("name", ["Ada", "王小明", "O'Neil; Secure", "x" * 200, "a\nb", "%%%"])
def test_a_name_of_a_person_who_rates_survives_its_cookie(name: str) -> None:
    cookie = rater_cookie(name)
    assert not set(cookie) & set('";, \n')
    assert known_rater(cookie) == " ".join(name.split())[:40]


def test_browsers_without_a_name_rate_apart_and_neither_undoes_what_the_other_said(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(store, 2, 2)
    opened = Opened(client, monkeypatch, rating, "RatePage")
    first = opened.go("/feedback/rate").visit.rater
    opened.press("a")
    assert opened.go("/feedback/rate").visit.rater == first
    client.cookies.clear()
    assert opened.go("/feedback/rate").visit.rater != first
    opened.press("u", "b", "u", "u")
    assert [vote.rater for vote in votes(store)] == [first]


def test_a_name_is_kept_when_it_is_told_and_only_pages_bring_one(client: TestClient) -> None:
    assert "set-cookie" not in client.get("/kun-static/kun.css").headers
    kept = client.get("/feedback").headers["set-cookie"]
    assert kept.startswith("kun_rater=me-")
    assert "SameSite=Lax" in kept  # a link from a mail opens the page under the same name
    for cookie in ("Ada", kept.partition("=")[2].partition(";")[0]):
        told = client.get("/feedback", headers={"cookie": f"kun_rater={cookie}"})
        assert "set-cookie" not in told.headers


def test_a_key_keeps_people_of_one_name_apart() -> None:
    assert rater_of("Ada", "0123456789abcdef") == "Ada (01234567)"
    assert rater_of("Ada", "fedcba9876543210") != rater_of("Ada", "0123456789abcdef")


class Opened:
    """A page as it was built for a browser that never connects: what people do is called as the browser would."""

    def __init__(self, client: TestClient, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self._client, self._made = client, []
        made, of = self._made, getattr(module, name)

        class Seen(of):  # type: ignore[misc]
            def __init__(self, *given: Any) -> None:
                super().__init__(*given)
                self.is_built = threading.Event()
                made.append((self, ui.context.client))

            async def build(self) -> None:
                await super().build()
                self.is_built.set()

        monkeypatch.setattr(module, name, Seen)

    def go(self, path: str) -> Any:
        assert self._client.get(path).status_code == 200
        self.page, self._browser = self._made[-1]
        assert self.page.is_built.wait(20)  # the answer goes out before all of the page is there
        return self.page

    def do(self, act: Callable[..., Awaitable[None]], *given: Any) -> None:
        async def within() -> None:
            with self._browser, self._browser.content:
                await act(*given)

        self._client.portal.call(within)

    def press(self, *keys: str, item: str | None = None) -> None:
        """Press keys while `item` is on the screen, by default the one that is."""
        for key in keys:
            there = "" if self.page.ballot is None else self.page.ballot.item.id
            self.do(self.page._key, SimpleNamespace(args=[key, there if item is None else item]))

    @property
    def sent(self) -> str:
        """All that a browser would be sent of the elements on the page."""
        return repr([element._to_dict() for element in self._browser.elements.values()])

    @property
    def texts(self) -> list[str]:
        return [str(e.text) for e in self._browser.elements.values() if isinstance(e, ui.label)]


def said(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "assistant", "content": text},)


def added(store: FeedbackStore, count: int, answers: int) -> list[str]:
    texts = [f"answer {number}" for number in range(answers)]
    return [
        store.add_item(
            [{"role": "user", "content": f"q {n}"}], [said(text) for text in texts], ["m"] * answers
        )
        for n in range(count)
    ]


@pytest.fixture
def store(client: TestClient) -> Iterator[FeedbackStore]:
    kept = FeedbackStore.open()
    yield kept
    kept.close()


def votes(store: FeedbackStore) -> list[Vote]:
    return [vote for _, vote in store.votes()]


def test_keys_rate_two_answers_each_and_undo_goes_back(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = added(store, 4, 2)
    opened = Opened(client, monkeypatch, rating, "RatePage")
    opened.go("/feedback/rate")
    assert "q 0" in opened.texts
    opened.press("a", "2", "t")
    found = votes(store)
    assert [vote.item for vote in found] == ids[:3]
    assert found[0].ranks[found[0].shown[0]] == 0
    assert found[1].ranks[found[1].shown[1]] == 0
    assert found[2].ranks == (0, 0)
    opened.press("u", "u")
    assert votes(store) == found[:1]
    assert opened.page.ballot.item.id == ids[1]
    opened.press("x", "s", "s")
    assert [vote.verdict for vote in votes(store)] == ["ranked", "bad", "skipped", "skipped"]
    assert opened.page.ballot is None
    opened.press("a", "u")
    assert opened.page.ballot.item.id == ids[3]


def test_what_was_written_of_undone_answers_is_on_the_page_again_when_it_is_loaded_anew(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(store, 2, 2)
    opened = Opened(client, monkeypatch, rating, "RatePage")
    page = opened.go("/feedback/rate")
    for number in range(2):
        opened.do(page.flag, number, "untrue")
        page.ballot.note, page.ballot.correction = f"note {number}", f"own {number}"
        opened.press("b")
    given = votes(store)
    opened.press("u", "u")
    assert votes(store) == []
    opened.go("/feedback/rate")
    opened.press("Enter", "Enter")
    assert votes(store) == given
    assert [(vote.note, vote.correction) for vote in given] == [("note 0", "own 0"), ("note 1", "own 1")]
    assert all(vote.flags for vote in given)


def test_a_key_that_comes_late_says_nothing_of_the_next_answers(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = added(store, 2, 2)
    opened = Opened(client, monkeypatch, rating, "RatePage")
    opened.go("/feedback/rate")
    opened.press("a", "a", item=first)
    assert [vote.item for vote in votes(store)] == [first]
    assert opened.page.ballot.item.id == second
    opened.press("b")
    opened.press("u", "u", item=second)
    assert [vote.item for vote in votes(store)] == [first, second]


def test_answers_are_dragged_flagged_and_corrected_and_too_few_places_are_not_saved(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(store, 1, 4)
    opened = Opened(client, monkeypatch, rating, "RatePage")
    page = opened.go("/feedback/rate")
    opened.do(page._drop, 1, 2)
    opened.press("Enter")
    assert votes(store) == []
    for position, place in ((0, 0), (1, 1)):
        opened.do(page._drop, place, position)
    opened.do(page.flag, 3, "untrue")
    assert "Place 2" in opened.texts
    opened.do(page._submit, "correction", "A better one.")
    (vote,) = votes(store)
    assert [vote.ranks[place] for place in vote.shown] == [0, 1, 1, 2]
    assert (vote.flags, vote.correction) == ({vote.shown[3]: ("untrue",)}, "A better one.")


def test_who_wrote_an_answer_is_nowhere_on_the_page(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [said("one"), said("two")]
    store.add_item([{"role": "user", "content": "q"}], answers, ["secret-model", "other-secret-model"])
    opened = Opened(client, monkeypatch, rating, "RatePage")
    opened.go("/feedback/rate")
    assert "two" in opened.sent
    assert "secret-model" not in opened.sent


def test_a_demonstration_is_written_to_a_prompt_that_waits_or_to_ones_own(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("first", "second"):
        store.add_prompt([{"role": "user", "content": text}])
    opened = Opened(client, monkeypatch, writing, "WritePage")
    page = opened.go("/feedback/write")
    opened.do(page._skip)
    opened.do(page._save, "To the second.")
    assert page.prompt is None  # the first was skipped
    opened.do(page._save, "To nothing.")
    page.own.value = "my own"
    opened.do(page._save, "To my own.")
    written = [(one.prompt[0]["content"], one.answer) for one in store.demonstrations()]
    assert written == [("second", "To the second."), ("my own", "To my own.")]


def test_two_people_who_write_at_once_have_different_prompts(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("first", "second"):
        store.add_prompt([{"role": "user", "content": text}])
    opened = Opened(client, monkeypatch, writing, "WritePage")
    one = opened.go("/feedback/write")
    client.cookies.clear()
    other = opened.go("/feedback/write")
    assert [page.prompt.messages[0]["content"] for page in (one, other)] == ["first", "second"]
    opened.do(other._save, "To the second.")
    assert other.prompt is None  # the first is being answered


def test_prompts_are_typed_answered_by_models_and_become_a_reward_models_data(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(client, monkeypatch, feedback, "FeedbackPage")
    page = opened.go("/feedback")
    page.typed.value = "How deep?\n\nHow wide?\n"
    opened.do(page._add_typed)
    assert len(store.prompts(waiting=True)) == 2
    page.writers.value, page.count.value, page.people.value = ["fake-model"], 3, 2
    opened.do(page._sample)
    assert store.prompts(waiting=True) == []
    for _ in range(2):
        item = store.next("ada")
        assert len(item.answers) == 3
        store.save(Vote(item.id, "ada", ranks=(0, 1, 2)))
    started: list[list[str]] = []
    monkeypatch.setattr(rewarding.Run, "last", None)
    monkeypatch.setattr(
        rewarding.subprocess,
        "Popen",
        lambda line, **given: started.append(line) or SimpleNamespace(poll=lambda: 0),
    )
    opened.do(page.reward.train, "fake-model")
    assert started[0][1:4] == ["-m", "kun", "train"]
    assert read_recipe(Path(started[0][4])).stage == "reward"
    assert any(text.startswith("kun score ") for text in opened.texts)
    opened.do(page.show_numbers)
    assert "2" in opened.texts


class Slow:
    """A model whose answers come when it is told to go on."""

    name = "slow"

    def __init__(self) -> None:
        self.asked, self.goes_on = threading.Semaphore(0), threading.Event()
        self.count = 0

    def submit(self, prompt: Any, options: Any) -> Iterator[Any]:
        self.count += 1
        text = f"answer {self.count}"
        self.asked.release()
        assert self.goes_on.wait(20)
        yield SimpleNamespace(text=text)


@pytest.mark.parametrize("sees", ["what another page has in work", "what another server has added"])
def test_two_pages_that_sample_at_once_give_each_prompt_its_answers_once(
    store: FeedbackStore, monkeypatch: pytest.MonkeyPatch, sees: str
) -> None:
    store.add_prompt([{"role": "user", "content": "How deep?"}])
    (prompt,) = store.prompts(waiting=True)
    how, one, other = feedback._Sampling(2, 1, 1.0, 8), Slow(), Slow()
    other.goes_on.set()
    first = threading.Thread(target=feedback._sample, args=(store, [one], prompt, how))
    first.start()
    assert one.asked.acquire(timeout=20)
    if sees == "what another server has added":
        monkeypatch.setattr(feedback, "_sampled", set())
    feedback._sample(store, [other], prompt, how)
    assert other.count == (2 if sees == "what another server has added" else 0)
    one.goes_on.set()
    first.join(20)
    assert store.next("ada") is not None
    assert store.left("ada") == 1
    feedback._sample(store, [other], prompt, how)
    assert store.left("ada") == 1


def test_one_reward_model_is_trained_at_a_time_and_every_page_shows_it(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in added(store, 2, 2):
        store.save(Vote(id, "ada", ranks=(0, 1)))
    started: list[list[str]] = []
    running = SimpleNamespace(poll=lambda: None)
    monkeypatch.setattr(rewarding.Run, "last", None)
    monkeypatch.setattr(rewarding.subprocess, "Popen", lambda line, **given: started.append(line) or running)
    opened = Opened(client, monkeypatch, feedback, "FeedbackPage")
    page = opened.go("/feedback")
    opened.do(page.reward.train, "fake-model")
    with pytest.raises(Busy):
        opened.do(page.reward.train, "fake-model")
    assert len(started) == 1
    again = Opened(client, monkeypatch, feedback, "FeedbackPage")
    again.go("/feedback")
    assert f"kun train {started[0][4]}" in again.texts


def test_two_clicks_at_once_start_one_training(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in added(store, 2, 2):
        store.save(Vote(id, "ada", ranks=(0, 1)))
    started: list[list[str]] = []
    running = SimpleNamespace(poll=lambda: None)
    monkeypatch.setattr(rewarding.Run, "last", None)
    monkeypatch.setattr(rewarding.subprocess, "Popen", lambda line, **given: started.append(line) or running)
    opened = Opened(client, monkeypatch, feedback, "FeedbackPage")
    train = opened.go("/feedback").reward.train
    ends: list[BaseException | None] = []

    async def twice(model: str) -> None:
        ends.extend(await asyncio.gather(train(model), train(model), return_exceptions=True))

    opened.do(twice, "fake-model")
    assert [type(end) for end in ends] == [type(None), Busy]
    assert len(started) == 1


def test_prompts_of_a_file_are_named_by_the_file_where_they_are_bad(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(client, monkeypatch, feedback, "FeedbackPage")
    page = opened.go("/feedback")
    said: list[str] = []
    monkeypatch.setattr(feedback.ui, "notify", lambda text, **given: said.append(text))

    class File:
        name = "mine.jsonl"

        async def save(self, path: Path) -> None:
            path.write_text('{"prompt": "Good?"}\n{"nothing": 1}\n', encoding="utf-8")

    opened.do(page._add_file, SimpleNamespace(file=File()))
    assert said[0].startswith("mine.jsonl:2 ")
    assert len(store.prompts(waiting=True)) == 1


def test_a_thumb_in_chat_is_kept_with_its_conversation_also_when_that_was_deleted(
    client: TestClient, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = Conversations(settings().database_place)
    talk = conversations.create("", "hi", "fake-model")
    _, answer = conversations.exchange("", talk.id, "hi")
    conversations.write(answer.id, "Hello.", "done", {"model": "fake-model"})
    opened = Opened(client, monkeypatch, chat, "ChatPage")
    page = opened.go(f"/c/{talk.id}")
    conversations.delete("", talk.id)
    for value in (1, -1):
        opened.do(page.thumb, page.messages[1], value)
        prompt = ({"role": "user", "content": "hi"},)
        assert store.thumbs() == [Thumb(answer.id, page.visit.rater, value, prompt, "Hello.", "fake-model")]
    assert page.thumbs == {answer.id: -1}
    conversations.close()

"""Feedback in a real browser: answers are ranked by keys and by dragging, written, and thumbs are kept."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import FakeService
from test_web_browser import browser, plain, served, service
from test_web_browser import visit as any_visit

from kun.alignment.feedback.store import FeedbackStore

pytestmark = pytest.mark.browser
__all__ = ["any_visit", "browser", "served", "service"]
NAMED = {"name": "kun_rater", "value": "me", "domain": "127.0.0.1", "path": "/"}


@pytest.fixture
def visit(any_visit: Any) -> Any:
    """A window of the one person who rates here."""
    return functools.partial(any_visit, storage_state={"cookies": [NAMED], "origins": []})


def said(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "assistant", "content": text},)


@pytest.fixture
def store(service: FakeService) -> Iterator[FeedbackStore]:
    """That of the app; each test rates what it has put there."""
    kept = FeedbackStore.open()
    yield kept
    while (item := kept.next("me")) is not None:
        kept.save(_skipped(item.id))
    kept.close()


def _skipped(id: str) -> Any:
    from kun.alignment.feedback.votes import Vote

    return Vote(id, "me", "skipped")


def added(store: FeedbackStore, name: str, count: int, answers: int) -> list[str]:
    texts = [f"{name} answer {number} " + "word " * 200 for number in range(answers)]
    return [
        store.add_item([{"role": "user", "content": f"{name} {n}"}], [said(text) for text in texts])
        for n in range(count)
    ]


def votes(store: FeedbackStore, ids: list[str]) -> list[Any]:
    return [vote for _, vote in store.votes() if vote.item in ids]


def shown(page: Any, text: str) -> None:
    page.wait_for_selector(f".rated-prompt:has-text('{text}')")


def test_two_answers_are_rated_by_one_key_each_and_the_next_ones_come_at_once(
    visit: Any, store: FeedbackStore
) -> None:
    ids = added(store, "pair", 4, 2)
    page = visit().go("/feedback/rate", ".rated-answer")
    for number, key in enumerate(("a", "2", "t", "x")):
        shown(page, f"pair {number}")
        page.keyboard.press(key)
    page.wait_for_selector("text=Nothing is left to rate")
    found = votes(store, ids)
    assert [vote.verdict for vote in found] == ["ranked", "ranked", "ranked", "bad"]
    first, second, tie = (vote.ranks for vote in found[:3])
    assert first[found[0].shown[0]] == 0
    assert second[found[1].shown[1]] == 0
    assert tie == (0, 0)


def test_undo_brings_the_last_answers_back_with_what_was_said(visit: Any, store: FeedbackStore) -> None:
    ids = added(store, "undone", 1, 3)
    page = visit().go("/feedback/rate", ".rated-answer")
    for key in ("ArrowRight", "h", "3", "1", "=", "2"):
        page.keyboard.press(key)
    page.wait_for_selector("text=Nothing is left to rate")
    (before,) = votes(store, ids)
    assert sorted(before.ranks) == [0, 1, 1]
    page.keyboard.press("u")
    shown(page, "undone 0")
    assert votes(store, ids) == []
    assert page.locator(".rated-flag.pressed").count() == 1
    assert page.locator(".rated-place:has-text('Place 1')").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Nothing is left to rate")
    assert votes(store, ids) == [before]


def test_answers_are_dragged_into_places_and_buttons_stay_in_view(visit: Any, store: FeedbackStore) -> None:
    ids = added(store, "dragged", 1, 3)
    page = visit().go("/feedback/rate", ".rated-answer")
    assert page.locator(".save-ranking").is_visible()
    box = page.locator(".save-ranking").bounding_box()
    assert 0 < box["y"] < 800
    for card, place in ((0, 2), (1, 0), (2, 2)):
        page.drag_and_drop(
            f".rated-answer >> nth={card} >> .rated-number",
            f".drop-place >> nth={place}",
        )
        page.wait_for_selector(f".drop-place >> nth={place} >> .drop-chip:has-text('{card + 1}')")
    page.drag_and_drop(".drop-chip:has-text('1')", ".drop-place >> nth=1")
    page.wait_for_selector(".rated-answer >> nth=0 >> text=Place 2")
    page.click(".save-ranking")
    page.wait_for_selector("text=Nothing is left to rate")
    (vote,) = votes(store, ids)
    assert [vote.ranks[place] for place in vote.shown] == [1, 0, 2]


def test_a_better_answer_is_written_by_hand_and_keys_typed_there_rate_nothing(
    visit: Any, store: FeedbackStore
) -> None:
    ids = added(store, "corrected", 1, 2)
    page = visit().go("/feedback/rate", ".rated-answer")
    page.keyboard.press("e")
    page.wait_for_function("document.activeElement?.id === 'correction'")
    page.keyboard.type("a better text")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Nothing is left to rate")
    (vote,) = votes(store, ids)
    assert (vote.verdict, vote.correction) == ("bad", "a better text")


def test_escape_leaves_a_note_and_keys_rate_again(visit: Any, store: FeedbackStore) -> None:
    ids = added(store, "noted", 1, 2)
    page = visit().go("/feedback/rate", ".rated-answer")
    page.keyboard.press("n")
    page.wait_for_function("document.activeElement?.id === 'rating-note'")
    page.keyboard.type("both say x")
    page.wait_for_timeout(300)
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.wait_for_selector("text=Nothing is left to rate")
    (vote,) = votes(store, ids)
    assert (vote.ranks, vote.note) == ((0, 0), "both say x")


def test_a_name_counts_when_it_is_whole_and_gives_a_queue_of_its_own(
    visit: Any, store: FeedbackStore
) -> None:
    visitor = visit()
    page = visitor.go("/feedback/rate")
    page.fill(".rater input", "Jo")
    page.wait_for_timeout(1200)
    page.press(".rater input", "End")
    page.keyboard.type("hanna 王")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.input_value(".rater input") == "Johanna 王"
    ids = added(store, "named", 1, 2)
    page = visitor.go("/feedback/rate", ".rated-answer")
    page.keyboard.press("x")
    page.wait_for_selector("text=Nothing is left to rate")
    assert [vote.rater for vote in votes(store, ids)] == ["Johanna 王"]


def test_a_demonstration_is_written_and_the_field_is_empty_for_the_next(
    visit: Any, store: FeedbackStore
) -> None:
    store.add_prompt([{"role": "user", "content": "What is a kun?"}])
    page = visit().go("/feedback/write", "#demonstration")
    skipped: set[str] = set()
    while (prompt := store.next_to_write("me", skipped)).messages[-1]["content"] != "What is a kun?":
        page.wait_for_selector(f"main:has-text('{prompt.messages[-1]['content']}')")
        page.click("text=Skip")
        skipped.add(prompt.id)
    page.wait_for_selector("main:has-text('What is a kun?')")
    page.fill("#demonstration", "A great fish.")
    page.press("#demonstration", "Control+Enter")
    page.wait_for_function("document.querySelector('#demonstration').value === ''")
    assert "A great fish." in [one.answer for one in store.demonstrations()]


def test_prompts_become_answers_to_rate_on_the_page_of_feedback(visit: Any, store: FeedbackStore) -> None:
    count = len(store.prompts(waiting=True)) + 2
    page = visit().go("/feedback", ".number-row")
    page.fill("textarea", "How deep is the sea?\nHow wide?")
    page.click(".add-prompts")
    page.wait_for_selector("text=2 new prompts")
    page.wait_for_selector(f"text={count} prompts wait")
    page.click("summary:has-text('prompts wait')")
    page.click(".waiting-row:has-text('How wide?') .icon-button")
    count -= 1
    page.wait_for_selector(f"text={count} prompts wait")
    page.click("text=Sample answers")
    page.wait_for_selector("text=0 prompts wait")
    page.wait_for_selector(f"text={count} left for you to rate")
    assert store.left("me") == count


@pytest.mark.parametrize("deletes", [False, True])
def test_a_thumb_is_kept_for_a_message_also_when_it_was_deleted_meanwhile(
    visit: Any, store: FeedbackStore, service: FakeService, deletes: bool
) -> None:
    visitor = visit()
    page = plain(visitor)
    visitor.ask(f"thumb {deletes}")
    if deletes:
        import sqlite3

        from kun.settings import settings

        with sqlite3.connect(settings().database_place) as connection:
            connection.execute("DELETE FROM messages")
    page.click(".thumb-up")
    page.wait_for_selector(".thumb-up.pressed")
    (thumb,) = [one for one in store.thumbs() if one.prompt[-1]["content"] == f"thumb {deletes}"]
    assert (thumb.value, thumb.model) == (1, "fake-model")
    page.click(".thumb-down")
    page.wait_for_selector(".thumb-down.pressed")
    page.wait_for_selector(".thumb-up:not(.pressed)")
    assert [one.value for one in store.thumbs() if one.message == thumb.message] == [-1]


def test_every_control_of_the_pages_on_feedback_has_a_name(visit: Any, store: FeedbackStore) -> None:
    added(store, "named", 1, 3)
    visitor = visit()
    for path, ready in (
        ("/feedback", ".number-row"),
        ("/feedback/rate", ".rated-answer"),
        ("/feedback/write", "#demonstration"),
    ):
        page = visitor.go(path, ready)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, a, input, textarea')]
                .filter(e => e.offsetParent && !(e.ariaLabel || e.title || e.labels?.length
                    || e.closest('[aria-label]') || e.innerText?.trim()))
                .map(e => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == [], path


@pytest.mark.parametrize("width", [320, 400])
def test_a_phone_scrolls_down_only_while_one_rates(visit: Any, store: FeedbackStore, width: int) -> None:
    added(store, f"{width} " + "w" * 60, 1, 3)
    visitor = visit(viewport={"width": width, "height": 720}, has_touch=True)
    for path, ready in (("/feedback", ".number-row"), ("/feedback/rate", ".rated-answer")):
        page = visitor.go(path, ready)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

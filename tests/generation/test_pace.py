"""A long prompt is read in parts, next to those who write: their gaps stay short, and reading goes on."""

import time
from itertools import pairwise
from typing import Any

import pytest
from tiny import language_model

from kun.blocks.cache import PagedCache
from kun.generation.options import SamplingOptions
from kun.generation.pace import ALONE_SECONDS, GAP_SECONDS, Pace, share
from kun.models.language_model import LanguageModel


def run(
    pace: Pace, steps: int, writers: int, fixed: float, token: float, each: float = 0.0
) -> list[tuple[float, int]]:
    """Seconds and read tokens of so many steps on a machine where they take `fixed`, and `token` for each of them."""
    done = []
    for _ in range(steps):
        read = pace.tokens(writers)
        seconds = fixed + each * writers + token * read
        pace.took(seconds, writers, read)
        done.append((seconds, read))
    return done


@pytest.mark.parametrize("token", [0.0005, 0.002, 0.007])
def test_steps_next_to_a_writer_keep_to_the_gap_and_those_of_reading_alone_to_theirs(token: float) -> None:
    pace = Pace(512)
    alone = run(pace, 20, 0, 0.01, token)
    assert max(seconds for seconds, _ in alone[2:]) <= ALONE_SECONDS + 0.011 + token
    beside = run(pace, 100, 1, 0.01, token)
    assert sorted(seconds for seconds, _ in beside)[95] <= GAP_SECONDS + token
    assert sum(read for _, read in beside) * token > 60 * (GAP_SECONDS - 0.011)


def test_a_prompt_on_a_busy_machine_is_not_read_token_by_token() -> None:
    done = run(Pace(512), 20, 0, 1.0, 0.002)  # a step's fixed cost is no cost of its tokens
    assert min(read for _, read in done[1:]) >= 64


def test_a_slow_machine_still_reads() -> None:
    done = run(Pace(512), 100, 8, 0.2, 0.01)
    reading = sum(read * 0.01 for _, read in done)
    assert reading / sum(seconds for seconds, _ in done) > 0.9 * share(8) / (1 + share(8))


def test_one_interruption_changes_nothing_and_a_new_prompt_is_read_at_its_own_speed() -> None:
    pace = Pace(512)
    (_, usual), *_ = run(pace, 10, 1, 0.01, 0.001)[-1:]
    pace.took(5.0, 1, usual)
    assert pace.tokens(1) == pytest.approx(usual, abs=2)
    deep = run(pace, 5, 1, 0.01, 0.02)
    assert deep[-1][1] < 6
    assert run(pace, 5, 1, 0.01, 0.05)[-1][1] == 4  # fewer are not worth it
    assert run(pace, 8, 1, 0.01, 0.001)[-1][1] == pytest.approx(usual, abs=2)


def test_some_quick_steps_are_not_followed_by_a_long_one() -> None:
    """A machine does other things, too: steps that happen to be quick say little."""
    pace = Pace(512)
    (_, usual), *_ = run(pace, 20, 1, 0.01, 0.002)[-1:]
    for _ in range(3):
        pace.took(0.011, 1, usual)
    read = pace.tokens(1)
    assert usual <= read <= 1.5 * usual
    assert read * 0.002 < 2 * GAP_SECONDS


def test_who_begins_to_write_while_a_prompt_is_read_alone_gets_short_steps_at_once() -> None:
    pace = Pace(512)
    run(pace, 10, 0, 0.01, 0.0001)  # some cheap tokens, as at the beginning of a prompt
    assert pace.tokens(0) == 512
    deep = run(pace, 12, 1, 0.01, 0.004)  # and now each takes forty times as long
    assert max(seconds for seconds, _ in deep) <= 1.5 * GAP_SECONDS


def test_a_step_that_costs_something_whatever_it_reads_still_fills_the_gap() -> None:
    """A part of a prompt looks at all keys before it, which takes a while for one token, too."""
    pace = Pace(512)
    for _ in range(60):
        read = pace.tokens(1)
        pace.took(0.01 + (0.03 + 0.001 * read if read else 0), 1, read)
    assert pace.tokens(1) * 0.001 + 0.04 == pytest.approx(GAP_SECONDS, rel=0.15)


def test_more_writers_are_asked_what_writing_takes_them() -> None:
    pace = Pace(512)
    run(pace, 10, 1, 0.01, 0.001)
    assert [read for _, read in run(pace, 3, 8, 0.01, 0.001, each=0.01)][:2] == [0, 0]
    assert run(pace, 1, 8, 0.01, 0.001, each=0.01)[0][0] <= (1 + share(8)) * 0.09 + 0.001


def slow(lm: LanguageModel, seconds: float) -> None:
    """Each token of a step takes its time."""
    net = lm.engine.net

    def slowed(ids: Any, **given: Any) -> Any:
        time.sleep(seconds * ids.numel())
        return net(ids, **given)

    lm.engine.net = slowed


def test_a_chat_goes_on_while_a_long_prompt_is_read_next_to_it_and_leaving_ends_the_reading() -> None:
    with language_model(positions=4096) as lm:
        slow(lm, 0.001)
        chat = lm.submit("a", SamplingOptions(max_tokens=4000, temperature=0, ignore_eos=True))
        pieces = iter(chat)
        next(pieces)
        long = lm.submit("x" * 3000, SamplingOptions(max_tokens=1))
        came = [(time.monotonic(), next(pieces)) for _ in range(12)]
        gaps = sorted(later - earlier for (earlier, _), (later, _) in pairwise(came))
        assert not long.done
        assert gaps[len(gaps) // 2] < 3 * GAP_SECONDS
        used = lm.stats()["pages_used"]
        long.cancel()
        assert long.result()[0].finish_reason == "cancelled"
        assert lm.stats()["pages_used"] < used
        chat.cancel()
        chat.result()
        assert lm.stats()["pages_used"] == 0


def test_a_short_prompt_passes_a_long_one_that_came_before_it() -> None:
    with language_model(positions=4096) as lm:
        slow(lm, 0.0005)
        long = lm.submit("x" * 3900, SamplingOptions(max_tokens=1))
        time.sleep(0.05)
        short = lm.submit("short", SamplingOptions(max_tokens=2, temperature=0, ignore_eos=True))
        assert short.result()[0].token_ids
        assert not long.done
        assert long.result()[0].token_ids


def test_a_prompt_that_is_read_already_waits_for_it_and_lets_others_pass() -> None:
    with language_model(positions=4096) as lm:
        slow(lm, 0.0005)
        twice = [lm.submit("x" * 3900, SamplingOptions(max_tokens=1)) for _ in range(2)]
        other = lm.submit("other", SamplingOptions(max_tokens=2, temperature=0, ignore_eos=True))
        assert other.result()[0].token_ids
        assert not any(one.done for one in twice)
        assert all(one.result()[0].token_ids for one in twice)
        assert twice[1].cached_tokens > 3800


def test_parts_of_any_size_write_what_a_whole_prompt_does() -> None:
    options = SamplingOptions(max_tokens=12, temperature=0, logprobs=1, ignore_eos=True)
    prompt = "A prompt of some length that is read in parts. " * 12
    with language_model(positions=1024) as lm:
        whole = lm.submit(prompt, options).result()[0]
    with language_model(positions=1024) as lm:
        slow(lm, 0.002)
        others = [lm.submit(f"{i}", SamplingOptions(max_tokens=200, ignore_eos=True)) for i in range(2)]
        for other in others:
            next(iter(other))
        steps = lm.stats()["steps"]
        parts = lm.submit(prompt, options).result()[0]
        assert lm.stats()["steps"] - steps > 12 + 3
    assert parts.token_ids == whole.token_ids
    one, other = ([score.logprob for score in each.logprobs or ()] for each in (parts, whole))
    assert one == pytest.approx(other, abs=1e-4)


def test_who_waits_knows_how_many_come_before_and_how_far_its_prompt_is() -> None:
    with language_model(positions=4096, max_batch=1) as lm:
        slow(lm, 0.0005)
        first, second, third = (
            lm.submit(f"{i}" + "x" * 2000, SamplingOptions(max_tokens=1)) for i in range(3)
        )
        while first.progress.ahead is not None or not first.progress.read:
            time.sleep(0.01)
        assert [one.progress.ahead for one in (first, second, third)] == [None, 0, 1]
        assert 0 < first.progress.read <= first.progress.total == 2001
        second.cancel()
        while not second.done:
            time.sleep(0.01)
        assert third.progress.ahead == 0
        first.cancel()
        assert third.result()[0].token_ids
        assert third.progress.read == 2001


def test_memory_of_a_long_prompt_goes_back_when_nothing_runs_and_short_beginnings_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kun.generation.engine._IDLE_SECONDS", 0.1)
    with language_model(positions=4096) as lm:
        cache, given = lm.engine.state.cache, []
        monkeypatch.setattr("kun.generation.scheduler._KEPT_BYTES", 8 * cache.bytes_per_page)
        monkeypatch.setattr(cache, "give_back", given.append)
        lm.generate("x" * 1000, max_tokens=1)
        until = time.monotonic() + 20
        while not given and time.monotonic() < until:
            time.sleep(0.02)
        assert len(given[0]) == pytest.approx(1000 / cache.page_size - 8, abs=2)
        before = lm.stats()["cached_tokens"]
        lm.generate("x" * 1000, max_tokens=1)
        assert 0 < lm.stats()["cached_tokens"] - before <= 9 * cache.page_size  # its beginning stayed


def test_given_back_pages_are_zeros_and_their_neighbours_stay() -> None:
    cache = PagedCache(n_layers=3, n_kv_heads=2, d_head=64, n_pages=10, page_size=32)
    cache.keys.fill_(1.0)
    cache.values.fill_(2.0)
    cache.give_back([2, 3, 7])
    kept = [0, 1, 4, 5, 6, 8, 9]
    assert bool((cache.keys[:, kept] == 1).all())
    assert bool((cache.values[:, kept] == 2).all())
    assert not cache.keys[:, [2, 3, 7]].any()
    assert not cache.values[:, [2, 3, 7]].any()

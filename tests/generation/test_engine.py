"""Rows that come and go share the forward pass, and none of them notices."""

import asyncio
import subprocess
import threading
import time
from itertools import count
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import END, language_model, reference

from kun.errors import BadInput, Busy, ContextOverflow, KunError
from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel

GREEDY = SamplingOptions(max_tokens=24, temperature=0, ignore_eos=True)
PROMPTS = ["", "a", "Once upon a time", "x" * 70, "Once upon a hill", "第一章 绪论", "Once upon a time"]


def answers(lm: LanguageModel, prompts: list[str], options: SamplingOptions = GREEDY) -> list[list[int]]:
    running = [lm.submit(prompt, options) for prompt in prompts]
    return [one.result()[0].token_ids for one in running]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_ragged_batch_writes_what_the_reference_writes_alone(kind: str) -> None:
    theirs = reference(kind)
    with language_model(kind) as lm:
        mine = answers(lm, PROMPTS)
        for prompt, ids in zip(PROMPTS, mine, strict=True):
            given = torch.tensor([lm.encode(prompt)])
            mask = torch.ones_like(given)
            out = theirs.generate(
                given, attention_mask=mask, max_new_tokens=24, min_new_tokens=24, do_sample=False,
                eos_token_id=None, pad_token_id=END,
            )  # fmt: skip
            assert ids == out[0, given.shape[1] :].tolist()


def test_requests_that_arrive_while_others_run_write_what_they_write_alone(lm: LanguageModel) -> None:
    alone = [answers(lm, [prompt])[0] for prompt in PROMPTS]
    running = []
    for prompt in PROMPTS:
        running.append(lm.submit(prompt, GREEDY))
        time.sleep(0.003)
    assert [one.result()[0].token_ids for one in running] == alone


def test_requests_that_begin_together_have_the_same_bits_however_slow_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = SamplingOptions(max_tokens=24, temperature=1.0, seed=1, logprobs=0, ignore_eos=True)
    found, steps = [], []
    for pause in (0.0, 0.02):
        if pause:  # a step takes half a minute, by this clock
            monkeypatch.setattr(time, "perf_counter", count(step=30.0).__next__)
        with language_model(paced=False) as lm:
            with lm.engine.queue.together():
                running = []
                for prompt in [*PROMPTS, *("".join(Random(n).choices("abcdefgh", k=150)) for n in range(6))]:
                    running.append(lm.submit(prompt, options))
                    time.sleep(pause)
            said = [one.result()[0] for one in running]
            found.append([(one.token_ids, [each.logprob for each in one.logprobs or ()]) for one in said])
            steps.append(lm.stats()["steps"])
    assert found[0] == found[1]
    assert steps[0] == steps[1] <= 24 + 3  # all prompts are read in three steps of 512 tokens at most


def test_a_shared_beginning_changes_no_text_and_no_log_probability() -> None:
    start = "The same long beginning of a prompt, more than two pages of it, stands here for both. "
    options = SamplingOptions(max_tokens=12, temperature=0, logprobs=3, ignore_eos=True)
    found = {}
    for reuse in (True, False):
        with language_model(reuse=reuse) as lm:
            results = [lm.submit(start + end, options).result()[0] for end in ("one", "two", "one")]
            found[reuse] = results
            assert (lm.stats()["cached_tokens"] > 0) == reuse
    for with_it, without in zip(found[True], found[False], strict=True):
        assert with_it.token_ids == without.token_ids
        one, other = ([p.logprob for p in r.logprobs or ()] for r in (with_it, without))
        assert one == pytest.approx(other, abs=1e-4)


def test_all_copies_of_one_prompt_share_its_pages(lm: LanguageModel) -> None:
    before = lm.stats()["cached_tokens"]
    prompt = "n answers to one prompt, which is read only once: " + "…" * 20
    texts = lm.generate(prompt, n=4, max_tokens=4, seed=1)
    assert len(texts) == 4
    assert lm.stats()["cached_tokens"] - before >= 3 * (len(lm.encode(prompt)) - 1)


def test_two_hundred_requests_at_once_are_all_served(lm: LanguageModel) -> None:
    options = SamplingOptions(max_tokens=3, temperature=0, ignore_eos=True)
    running = [lm.submit(f"{i}", options) for i in range(200)]
    assert all(len(one.result()[0].token_ids) == 3 for one in running)
    assert lm.stats()["pages_used"] == 0


def test_a_full_queue_says_busy_and_takes_requests_again_later() -> None:
    with language_model(max_queue=2, max_batch=1) as lm:
        running = []
        with pytest.raises(Busy, match="2 requests"):
            running.extend(
                lm.submit("a", SamplingOptions(max_tokens=100, ignore_eos=True)) for _ in range(50)
            )
        for one in running:
            one.cancel()
        assert {one.result()[0].finish_reason for one in running} == {"cancelled"}
        assert lm.generate(["a"] * 20, max_tokens=2) != []


def test_cancelling_frees_the_pages_and_keeps_what_was_said(lm: LanguageModel) -> None:
    running = lm.submit("go on", SamplingOptions(max_tokens=200, temperature=0, ignore_eos=True))
    pieces = iter(running)
    next(pieces)
    running.cancel()
    (done,) = running.result()
    assert done.finish_reason == "cancelled"
    assert 1 <= len(done.token_ids) < 200
    assert lm.stats()["pages_used"] == 0


def test_who_stops_reading_a_stream_cancels_it(lm: LanguageModel) -> None:
    stream = lm.stream("go on", max_tokens=200, ignore_eos=True)
    next(stream)
    stream.close()
    until = time.monotonic() + 10
    while lm.stats()["running"] and time.monotonic() < until:
        time.sleep(0.01)
    assert lm.stats()["running"] == 0


def test_a_step_that_fails_is_told_to_all_who_wait_and_the_next_request_works() -> None:
    with language_model() as lm:
        net, lm.engine.net = lm.engine.net, lambda *a, **k: 1 / 0
        running = [lm.submit("a", GREEDY) for _ in range(3)]
        for one in running:
            with pytest.raises(KunError, match="ZeroDivisionError"):
                one.result()
        lm.engine.net = net
        assert len(answers(lm, ["a"])[0]) == 24
        assert lm.stats()["pages_used"] == 0


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.text("ab", max_size=90), st.integers(1, 40), st.booleans()), min_size=1, max_size=9)
)
def test_with_few_pages_rows_give_way_and_still_write_the_same(asked: list[tuple[str, int, bool]]) -> None:
    options = [SamplingOptions(max_tokens=most, temperature=0, ignore_eos=True) for _, most, _ in asked]
    with language_model() as lm:
        lm.host.n_pages = 6
        running = [lm.submit(text, o) for (text, _, _), o in zip(asked, options, strict=True)]
        for one, (_, _, leaves) in zip(running, asked, strict=True):
            if leaves:
                one.cancel()
        got = [one.result()[0] for one in running]
        assert lm.stats()["pages_used"] == 0
        for (text, _, leaves), o, mine in zip(asked, options, got, strict=True):
            alone = lm.submit(text, o).result()[0].token_ids
            assert mine.token_ids == alone[: len(mine.token_ids)]
            assert leaves or len(mine.token_ids) == len(alone)


def test_a_prompt_that_fills_the_context_is_refused_or_cut_as_declared(lm: LanguageModel) -> None:
    with pytest.raises(ContextOverflow, match="300 tokens"):
        lm.generate("x" * 300)
    done = lm.submit("x" * 300, SamplingOptions(max_tokens=10, truncate=True)).result()[0]
    assert done.truncated == 300 - (256 - 10)
    full = lm.submit("x" * 250, SamplingOptions(max_tokens=50, ignore_eos=True)).result()[0]
    assert (len(full.token_ids), full.finish_reason) == (6, "length")


def test_a_long_chat_loses_its_oldest_turns_and_keeps_the_system_message(lm: LanguageModel) -> None:
    turns = [{"role": r, "content": f"{r} {i} " + "y" * 40} for i in range(6) for r in ("user", "assistant")]
    chat = [{"role": "system", "content": "S"}, *turns, {"role": "user", "content": "last"}]
    encoded = lm._prompts.encode(chat, room=20, truncate=True)
    text = lm.tokenizer.decode(encoded.ids, skip_special_tokens=False)
    assert text.startswith("<|system|>S")
    assert "last" in text
    assert "user 0" not in text
    assert encoded.truncated > 0
    assert len(encoded.ids) <= 236


def test_log_probabilities_of_a_prompt_are_the_reference_s(lm: LanguageModel) -> None:
    ids = lm.encode("some text that is only read, and is longer than a page or two of the cache")
    with torch.no_grad():
        wanted = reference()(torch.tensor([ids])).logits[0].log_softmax(-1)
    got = lm.prompt_logprobs(ids, 2)
    assert got[0] is None
    for place, one in enumerate(got[1:], 1):
        assert one is not None
        assert one.logprob == pytest.approx(wanted[place - 1, ids[place]].item(), abs=1e-4)
        assert one.top[0][0] == wanted[place - 1].argmax().item()


def test_pieces_arrive_in_asyncio_too(lm: LanguageModel) -> None:
    async def read() -> str:
        return "".join([piece.text async for piece in lm.submit("a", GREEDY)])

    assert asyncio.run(read()) == lm.submit("a", GREEDY).result()[0].text


def test_one_seed_gives_one_text_whatever_else_runs(lm: LanguageModel) -> None:
    options = SamplingOptions(max_tokens=16, seed=5, top_p=0.9, top_k=50)
    alone = lm.submit("dice", options).result()[0].text
    others = [lm.submit(f"other {i}", SamplingOptions(max_tokens=20)) for i in range(8)]
    assert lm.submit("dice", options).result()[0].text == alone
    for one in others:
        one.result()


def test_a_text_without_template_needs_no_messages_and_the_error_says_so() -> None:
    with language_model(template=None) as lm, pytest.raises(BadInput, match="no chat template"):
        lm.generate([{"role": "user", "content": "hi"}])


def test_closing_ends_what_runs(lm: LanguageModel) -> None:
    with language_model() as other:
        running = other.submit("a", SamplingOptions(max_tokens=240, ignore_eos=True))
        threading.Timer(0.05, other.close).start()
        assert running.result()[0].finish_reason in ("cancelled", "length")


def test_an_interpreter_that_ends_while_a_model_writes_does_not_hang(python: str) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/generation'); from tiny import language_model;"
        "from kun.generation.options import SamplingOptions; lm = language_model();"
        "g = lm.submit('a', SamplingOptions(max_tokens=200, ignore_eos=True)); next(iter(g))"
    )
    assert subprocess.run([python, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("step_tokens", [16, 37, 512])
def test_a_prompt_longer_than_a_step_is_read_in_chunks_to_the_same_end(step_tokens: int) -> None:
    with language_model() as lm:
        wanted = answers(lm, ["y" * 200, "short"])
    with language_model(step_tokens=step_tokens) as lm:
        assert answers(lm, ["y" * 200, "short"]) == wanted

"""Encoder-decoders write through the same engine: rows with sources of their own, read once each."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import END, language_model, reference

from kun.adaptation.quantize import quantize
from kun.errors import BadInput, ContextOverflow
from kun.generation.options import SamplingOptions

GREEDY = SamplingOptions(max_tokens=24, temperature=0, ignore_eos=True)
PROMPTS = ["a", "Once upon a time", "x" * 70, "Once upon a hill", "第一章 绪论", "Once upon a time"]
KINDS = ["t5", "marian"]


def generated(kind: str, ids: list[int], **options: object) -> torch.Tensor:
    given_ids = torch.tensor([ids])
    mask = torch.ones_like(given_ids)
    return reference(kind).generate(given_ids, attention_mask=mask, pad_token_id=END, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_several_sources_writes_what_the_reference_writes_alone(kind: str) -> None:
    with language_model(kind) as lm:
        running = [lm.submit(prompt, GREEDY) for prompt in PROMPTS]
        for prompt, one in zip(PROMPTS, running, strict=True):
            wanted = generated(
                kind,
                lm.encode(prompt),
                max_new_tokens=24,
                min_new_tokens=24,
                do_sample=False,
                eos_token_id=None,
            )
            assert one.result()[0].token_ids == wanted[0, 1:].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_draws_from_the_reference_distribution(kind: str) -> None:
    """The log-probability of each token that was drawn is the reference's for the same beginning."""
    with language_model(kind) as lm:
        options = SamplingOptions(max_tokens=12, temperature=1.0, seed=4, logprobs=5, ignore_eos=True)
        done = lm.submit("some source", options).result()[0]
        begun = torch.tensor([[259, *done.token_ids]])
        with torch.no_grad():
            logits = reference(kind)(
                torch.tensor([lm.encode("some source")]), decoder_input_ids=begun
            ).logits[0]
        wanted = logits.log_softmax(-1)
        for place, one in enumerate(done.logprobs or ()):
            assert one.logprob == pytest.approx(wanted[place, one.token_id].item(), abs=1e-3)
            assert [token for token, _ in one.top] == wanted[place].topk(5).indices.tolist()


def test_the_likeliest_is_the_default_of_a_text_made_of_another() -> None:
    with language_model("t5") as lm:
        assert lm.generate("source") == lm.generate("source") == lm.generate("source", temperature=0)
        assert lm.generate("source", seed=1) == lm.generate("source", seed=2)
        assert lm.generate("source", temperature=1, seed=1) != lm.generate("source", temperature=1, seed=2)


def test_tokens_that_a_checkpoint_bars_are_never_written() -> None:
    with language_model("marian") as lm:
        first = lm.submit("source", GREEDY).result()[0].token_ids[0]
    with language_model("marian", generation_config={"eos_token_id": END, "bad_words_ids": [[first]]}) as lm:
        assert first not in lm.submit("source", GREEDY).result()[0].token_ids


def test_several_answers_to_one_source_read_it_once() -> None:
    with language_model("t5") as lm:
        reads: list[int] = []
        read = lm.engine.state.read
        lm.engine.state.read = lambda ids, lengths: reads.append(len(lengths)) or read(ids, lengths)
        texts = lm.generate("one source", n=5, max_tokens=8, temperature=1.0, seed=2)
        assert len(set(texts)) > 1
        assert sum(reads) == 1


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.text("ab", min_size=1, max_size=90), st.integers(1, 60)), min_size=1, max_size=7),
    st.sampled_from(KINDS),
)
def test_with_few_pages_rows_give_way_and_still_write_the_same(
    asked: list[tuple[str, int]], kind: str
) -> None:
    options = [SamplingOptions(max_tokens=most, temperature=0, ignore_eos=True) for _, most in asked]
    with language_model(kind) as lm:
        lm.host.n_pages = 4
        running = [lm.submit(text, o) for (text, _), o in zip(asked, options, strict=True)]
        got = [one.result()[0].token_ids for one in running]
        assert lm.stats()["pages_used"] == 0
        alone = [
            lm.submit(text, o).result()[0].token_ids for (text, _), o in zip(asked, options, strict=True)
        ]
        assert got == alone


def test_sources_take_room_as_pages_do() -> None:
    """Twelve sources of two pages and answers of one, with eight pages for all: two run at once."""
    with language_model("t5") as lm:
        lm.host.n_pages = 8
        state, together = lm.engine.state, []
        step = state.step

        def counted(rows: Any, *rest: Any) -> Any:
            together.append(len({id(row) for row in rows}))
            return step(rows, *rest)

        state.step = counted  # type: ignore[method-assign]
        running = [lm.submit(f"{n:02} " + "x" * 45, GREEDY) for n in range(12)]
        texts = [one.result()[0].text for one in running]
        assert max(together) == 2
        assert texts == [lm.generate(f"{n:02} " + "x" * 45, GREEDY) for n in range(12)]


def test_a_source_that_leaves_no_room_for_an_answer_is_refused() -> None:
    with language_model("t5") as lm:
        lm.host.n_pages = 3
        assert len(lm.submit("x" * 60, GREEDY).result()[0].token_ids) == 24
        with pytest.raises(ContextOverflow, match="no room in the cache of 3 pages"):
            lm.submit("x" * 80, GREEDY)
        with pytest.raises(BadInput, match="2 beams"):
            lm.submit("x" * 60, SamplingOptions(beams=2))


@pytest.mark.parametrize("step_tokens", [16, 40])
def test_sources_longer_than_a_step_are_read_one_at_a_time_to_the_same_end(step_tokens: int) -> None:
    prompts = ["y" * 200, "short", "z" * 100]
    with language_model("t5") as lm:
        wanted = [lm.submit(prompt, GREEDY).result()[0].token_ids for prompt in prompts]
    with language_model("t5", step_tokens=step_tokens) as lm:
        running = [lm.submit(prompt, GREEDY) for prompt in prompts]
        assert [one.result()[0].token_ids for one in running] == wanted


def test_a_source_has_no_log_probabilities_and_one_that_is_too_long_is_refused() -> None:
    with language_model("marian") as lm:
        with pytest.raises(BadInput, match="as a whole"):
            lm.prompt_logprobs("some text")
        with pytest.raises(ContextOverflow, match="300 tokens"):
            lm.generate("x" * 300)


def test_in_eight_bits_its_logits_are_nearly_the_same() -> None:
    with language_model("marian") as lm:
        source, written = torch.tensor([lm.encode("a source")]), torch.tensor([[259, 5, 9]])
        with torch.no_grad():
            exact = lm.net(source, None, written).logits
            near = quantize(lm.net, "int8")(source, None, written).logits
        assert torch.nn.functional.cosine_similarity(exact, near, dim=-1).min() > 0.99
        assert not torch.equal(exact, near)
        assert lm.generate("a source", max_tokens=4)

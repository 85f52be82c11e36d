"""Beam search finds what the reference's `generate` finds, beside whatever else runs."""

from collections import Counter
from collections.abc import Iterator
from itertools import product, takewhile
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import END, language_model, reference

from kun.errors import BadInput
from kun.generation.engine import Engine
from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel

PROMPTS = ["a", "Once upon a time", "x" * 70]
MOST = 12
KINDS = ["llama", "gpt2", "t5", "marian"]


def expected(kind: str, ids: list[int], ends: list[int], **options: Any) -> list[list[int]]:
    """The reference's answers to a prompt, each up to its end."""
    prompt = torch.tensor([ids])
    out = reference(kind).generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=MOST, do_sample=False, pad_token_id=END,
        eos_token_id=ends, **options,
    )  # fmt: skip
    start = 1 if kind in ("t5", "marian") else len(ids)
    return [list(takewhile(lambda token: token not in ends, row)) for row in out[:, start:].tolist()]


def found(lm: LanguageModel, prompt: str, **options: Any) -> list[list[int]]:
    done = lm.submit(prompt, SamplingOptions(max_tokens=MOST, **options)).result()
    return [one.token_ids for one in done]


@pytest.fixture(scope="module", params=KINDS)
def ending(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[int], LanguageModel]]:
    """A model whose ends are tokens that its beams do come upon."""
    with language_model(request.param) as lm:
        seen = Counter(token for p in PROMPTS for one in found(lm, p, beams=4, n=4) for token in one[1:])
    ends = [token for token, _ in seen.most_common(4)[1:]]
    said = {"eos_token_id": ends, "bos_token_id": END}
    with language_model(request.param, generation_config=said) as lm:
        yield request.param, ends, lm


def test_the_n_best_are_the_reference_s_for_every_penalty_and_way_to_stop(
    ending: tuple[str, list[int], LanguageModel],
) -> None:
    kind, ends, lm = ending
    lengths = Counter()
    for prompt, (penalty, early) in product(
        PROMPTS, [(1.0, False), (0.0, False), (2.0, True), (-1.0, True), (1.5, "never"), (-0.5, "never")]
    ):
        mine = found(lm, prompt, beams=4, n=3, length_penalty=penalty, early_stopping=early)
        wanted = expected(
            kind, lm.encode(prompt), ends, num_beams=4, num_return_sequences=3, length_penalty=penalty,
            early_stopping=early,
        )  # fmt: skip
        assert mine == wanted
        lengths.update(map(len, mine))
    assert len(lengths) > 2


def test_a_penalty_on_repetition_bends_the_search_as_the_reference_s(
    ending: tuple[str, list[int], LanguageModel],
) -> None:
    kind, ends, lm = ending
    mine = found(lm, "abcabc", beams=3, n=2, repetition_penalty=1.7)
    options = {"num_beams": 3, "num_return_sequences": 2, "repetition_penalty": 1.7}
    assert mine == expected(kind, lm.encode("abcabc"), ends, **options)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_searches_and_samples_share_a_batch_and_none_notices(kind: str) -> None:
    asked = [
        SamplingOptions(max_tokens=MOST, beams=3, n=3),
        SamplingOptions(max_tokens=20, temperature=0.9, seed=1, ignore_eos=True),
        SamplingOptions(max_tokens=9, beams=5, length_penalty=0.0),
        SamplingOptions(max_tokens=15, temperature=0, ignore_eos=True),
        SamplingOptions(max_tokens=MOST, beams=2, early_stopping=True),
        SamplingOptions(max_tokens=17, temperature=1.1, seed=2, n=2, ignore_eos=True),
    ]
    with language_model(kind) as lm:
        alone = [[c.token_ids for c in lm.submit("a text " * 5, o).result()] for o in asked]
        running = [lm.submit("a text " * 5, o) for o in asked]
        assert [[c.token_ids for c in one.result()] for one in running] == alone
        assert lm.stats()["pages_used"] == 0


def test_beams_stand_in_the_same_pages_until_they_write(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    step = Engine.step

    def watched(engine: Engine) -> None:
        step(engine)
        used.append(engine.scheduler.pool.used)

    monkeypatch.setattr(Engine, "step", watched)
    with language_model(reuse=False) as lm:
        running = lm.submit("x" * (32 * 4), SamplingOptions(max_tokens=100, beams=8, ignore_eos=True))
        assert len(running.result()[0].token_ids) == 100
        assert lm.stats()["pages_used"] == 0
    # four pages of the prompt for all, and for each beam at most four of its own and one that is copied
    assert len(used) >= 100
    assert 4 < max(used) <= 4 + 8 * 4 + 1


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(st.text("ab", max_size=60), st.integers(1, 40), st.integers(1, 3)), min_size=1, max_size=5
    )
)
def test_with_few_pages_searches_give_way_and_still_find_the_same(asked: list[tuple[str, int, int]]) -> None:
    options = [
        SamplingOptions(
            max_tokens=most, ignore_eos=True, beams=beams, **({} if beams > 1 else {"temperature": 0})
        )
        for _, most, beams in asked
    ]
    with language_model() as lm:
        lm.host.n_pages = 11
        running = [lm.submit(text, o) for (text, _, _), o in zip(asked, options, strict=True)]
        got = [one.result()[0].token_ids for one in running]
        assert lm.stats()["pages_used"] == 0
        alone = [
            lm.submit(text, o).result()[0].token_ids for (text, _, _), o in zip(asked, options, strict=True)
        ]
        assert got == alone


def test_a_search_that_is_cancelled_frees_its_pages_and_ends_every_answer() -> None:
    with language_model() as lm:
        running = lm.submit("go on", SamplingOptions(max_tokens=200, beams=4, n=2, ignore_eos=True))
        while not lm.stats()["generated_tokens"]:
            pass
        running.cancel()
        assert [one.finish_reason for one in running.result()] == ["cancelled", "cancelled"]
        assert lm.stats()["pages_used"] == 0
        assert found(lm, "go on", beams=2)


def test_text_and_reasons_are_those_of_the_answers() -> None:
    with language_model() as lm:
        options = SamplingOptions(max_tokens=8, beams=3, n=3, ignore_eos=True)
        done = lm.submit("some text", options).result()
        assert {one.finish_reason for one in done} == {"length"}
        assert [one.text for one in done] == lm.generate("some text", options)
        assert all(one.text == lm.tokenizer.decode(one.token_ids) for one in done)
        letter = done[0].text[2]
        cut = lm.submit("some text", SamplingOptions(max_tokens=8, beams=3, stop=(letter,), ignore_eos=True))
        assert cut.result()[0].text == done[0].text[: done[0].text.index(letter)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"beams": 0}, "beams is 0"),
        ({"beams": 4, "n": 5}, "no more answers"),
        ({"beams": 2, "temperature": 0.5}, "temperature cannot be combined with beams"),
        ({"beams": 2, "top_k": 3}, "top_k cannot"),
        ({"beams": 2, "top_p": 0.9}, "top_p cannot"),
        ({"beams": 2, "seed": 1}, "seed cannot"),
        ({"beams": 2, "logprobs": 1}, "logprobs cannot"),
        ({"beams": 2, "regex": "a+"}, "regex or grammar cannot"),
        ({"beams": 2, "early_stopping": "soon"}, 'True, False or "never"'),
        ({"beams": 2, "length_penalty": float("nan")}, "length_penalty is nan"),
        ({"length_penalty": 2.0}, "ask for more than one beam"),
        ({"early_stopping": True}, "ask for more than one beam"),
    ],
)
def test_options_that_contradict_a_search_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        SamplingOptions(**options)


def test_a_search_that_has_no_room_is_refused_before_it_runs() -> None:
    with language_model(max_batch=4) as lm:
        with pytest.raises(BadInput, match="5 beams are more than the 4 rows"):
            lm.generate("a", beams=5)
        with pytest.raises(BadInput, match="nothing to stream"):
            next(iter(lm.stream("a", beams=2)))
        lm.host.n_pages = 9
        with pytest.raises(BadInput, match="do not fit in the cache of 9 pages"):
            lm.generate("a", beams=3, max_tokens=200)
        assert lm.generate("a", beams=3, max_tokens=60)

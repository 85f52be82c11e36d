"""Models that differ in their adapters share one engine: each row is as if its merged model ran alone."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_decoder_families
import test_xlnet_engine
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tiny import CHAT, END, language_model, tokenizer

import kun
from kun.adaptation.lora import LoraConfig, add_lora, lora_pairs
from kun.errors import BaseMismatch, UnsupportedFormat
from kun.evaluation.likelihood import Question, Scorer
from kun.generation.options import SamplingOptions
from kun.hub.adapter_saving import save_adapter
from kun.hub.checkpoint import Checkpoint
from kun.hub.opening import open_checkpoint
from kun.hub.saving import save_checkpoint
from kun.models.language_model import LanguageModel
from kun.text.chat import ChatTemplate

PROMPTS = ["The Kun is a fish, and nobody knows how many miles it measures. ", "鹏", "a b c"]


def a_writer(kind: str) -> LanguageModel:
    """A tiny model of any family that writes."""
    torch.manual_seed(5)
    if kind == "xlnet":
        return test_xlnet_engine.language_model()
    if kind == "chatglm":
        return test_decoder_families.language_model(test_decoder_families.CHATGLM)
    if kind in test_decoder_families.CONFIGS:
        return test_decoder_families.language_model(test_decoder_families.CONFIGS[kind]().to_dict())
    return language_model(kind)


def make_base(folder: Path, kind: str = "llama") -> Checkpoint:
    lm = a_writer(kind)
    ends = {"eos_token_id": END, "bos_token_id": END}
    made = save_checkpoint(folder, lm.net, tokenizer=tokenizer(), chat_template=CHAT, generation_config=ends)
    return open_checkpoint(made)


def make_adapter(folder: Path, base: Checkpoint, seed: int, **changes: Any) -> Path:
    torch.manual_seed(seed)
    net = add_lora(base.network(), LoraConfig(rank=2 + seed))
    for pair in lora_pairs(net).values():
        torch.nn.init.normal_(pair.b, std=0.5)
    return save_adapter(folder, net, origin=base, **changes)


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[LanguageModel, LanguageModel]]]:
    """By name: a model that shares the base's engine, and the same merged, alone."""
    home = tmp_path_factory.mktemp("adapters")
    checkpoint = make_base(home / "base")
    base = LanguageModel.open(home / "base")
    found = {"base": (base, LanguageModel.open(home / "base"))}
    for seed, name in enumerate(("poet", "clerk"), 1):
        folder = make_adapter(home / name, checkpoint, seed)
        found[name] = base.with_adapter(folder), LanguageModel.open(folder)
    yield found
    for pair in found.values():
        for model in pair:
            model.close()


def test_what_each_says_is_what_its_merged_model_says(models: Any) -> None:
    for shared, alone in models.values():
        given = {"max_tokens": 12, "temperature": 0.0, "ignore_eos": True}
        assert shared.generate(PROMPTS, **given) == alone.generate(PROMPTS, **given)
        got, wanted = shared.prompt_logprobs(PROMPTS[0])[1:], alone.prompt_logprobs(PROMPTS[0])[1:]
        assert [one.logprob for one in got] == pytest.approx([one.logprob for one in wanted], abs=1e-3)
        assert shared.generate(PROMPTS[2], max_tokens=6, beams=3) == alone.generate(
            PROMPTS[2], max_tokens=6, beams=3
        )
    said = [shared.generate(PROMPTS[0], max_tokens=12, temperature=0.0) for shared, _ in models.values()]
    assert len(set(said)) == len(said)


@hypothesis_settings(max_examples=12)
@given(
    st.lists(st.tuples(st.sampled_from(["base", "poet", "clerk"]), st.integers(0, 2)), min_size=2, max_size=9)
)
def test_requests_in_any_mixture_get_their_own_models_answers(
    models: Any, asked: list[tuple[str, int]]
) -> None:
    """The same prompts, so that any page taken from another's cache would show."""
    options = SamplingOptions(max_tokens=5, temperature=0.0, ignore_eos=True)
    running = [models[name][0].submit(PROMPTS[which], options) for name, which in asked]
    said = [generation.result()[0].token_ids for generation in running]
    for (name, which), tokens in zip(asked, said, strict=True):
        (alone,) = models[name][1].submit(PROMPTS[which], options).result()
        assert tokens == alone.token_ids


def test_continuations_are_weighed_as_by_the_merged_model(models: Any) -> None:
    asked = [Question([7, 9, 11, 13] * 9 + [place], [[3, 4], [5], [6, 7, 8]]) for place in range(3)]
    weighed = {
        name: [[one.logprob for each in Scorer(lm).weigh(asked) for one in each] for lm in pair]
        for name, pair in models.items()
    }
    for shared, alone in weighed.values():
        assert shared == pytest.approx(alone, abs=1e-3)
    assert weighed["poet"][0] != pytest.approx(weighed["base"][0], abs=0.1)


def test_what_weighed_with_an_adapter_leaves_nothing_in_the_network(models: Any) -> None:
    lm = models["poet"][0]
    hooks = [len(module._forward_hooks) for module in lm.net.modules()]
    Scorer(lm).weigh([Question([7], [[9]])])
    gc.collect()
    assert [len(module._forward_hooks) for module in lm.net.modules()] == hooks


def test_an_adapter_over_weights_of_4_bits_weighs_as_it_writes(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    folder = make_adapter(tmp_path / "poet", base, 1)
    asked, given = [Question([7, 9, 11], [[3, 4], [5, 6]])], {"quantize": "int4"}
    with LanguageModel.open(tmp_path / "base", **given) as plain, LanguageModel.open(folder, **given) as poet:
        found = [[one.logprob for one in Scorer(lm).weigh(asked)[0]] for lm in (plain, poet)]
        written = poet.prompt_logprobs([7, 9, 11, 3, 4])[-2:]
    assert poet.adapter is not None
    assert found[1][0] == pytest.approx(sum(one.logprob for one in written), abs=1e-3)
    assert found[0] != pytest.approx(found[1], abs=0.1)


def test_they_share_one_engine_and_steps(models: Any) -> None:
    base, poet = models["base"][0], models["poet"][0]
    assert base.engine is poet.engine
    before = base.stats()["steps"]
    options = SamplingOptions(max_tokens=40, temperature=0.0, ignore_eos=True)
    for generation in [model.submit("x", options) for model in (base, poet, models["clerk"][0])]:
        generation.result()
    assert base.stats()["steps"] - before < 60


def test_a_prefix_is_read_again_for_another_adapter_and_reused_for_the_same(models: Any) -> None:
    prompt = "A beginning that nobody has asked for before, long enough to fill a page or two of the cache."
    cached = []
    for name in ("poet", "clerk", "base", "poet"):
        generation = models[name][0].submit(prompt)
        generation.result()
        cached.append(generation.cached_tokens)
    assert cached[:3] == [0, 0, 0]
    assert cached[3] > 64


def test_a_closed_engine_starts_anew_with_its_adapters(models: Any) -> None:
    poet, alone = models["poet"]
    poet.close()
    assert poet.generate("x", max_tokens=6, temperature=0.0) == alone.generate(
        "x", max_tokens=6, temperature=0.0
    )


def test_each_renders_by_its_own_template(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    folder = make_adapter(tmp_path / "poet", base, 1, chat_template="{{ messages[-1].content }}, sung:")
    with LanguageModel.open(tmp_path / "base") as lm:
        poet = lm.with_adapter(folder, "bard")
        said = [{"role": "user", "content": "hi"}]
        assert (poet.name, poet.render(said)) == ("bard", "hi, sung:")
        assert lm.render(said) == ChatTemplate(CHAT).render(said)


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_an_adapters_folder_loads_as_a_model(tmp_path: Path, quantize: str | None) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(tmp_path / "poet", base, 1)
    with kun.load(tmp_path / "poet", quantize=quantize) as lm, kun.load(tmp_path / "poet") as exact:
        assert lm.name == "poet"
        got = [one.logprob for one in lm.prompt_logprobs(PROMPTS[0])[1:]]
        wanted = [one.logprob for one in exact.prompt_logprobs(PROMPTS[0])[1:]]
        # in few bits the base is another; what the adapter adds is the same
        assert sum(abs(a - b) for a, b in zip(got, wanted, strict=True)) / len(got) < {None: 1e-6}.get(
            quantize, 1.5
        )
        with kun.load(tmp_path / "base", quantize=quantize) as plain:
            assert lm.generate("x", max_tokens=9, temperature=0) != plain.generate(
                "x", max_tokens=9, temperature=0
            )


@pytest.mark.parametrize("kind", ["gpt2", *test_decoder_families.CONFIGS, "chatglm", "t5", "xlnet"])
def test_families_choose_by_row_or_say_that_they_cannot(tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", kind)
    folder = make_adapter(tmp_path / "poet", base, 1)
    with kun.load(tmp_path / "base") as lm, kun.load(folder) as alone:
        if kind in ("t5", "xlnet"):
            with pytest.raises(UnsupportedFormat, match="load it by itself"):
                lm.with_adapter(folder)
        else:
            given = {"max_tokens": 9, "temperature": 0.0}
            assert lm.with_adapter(folder).generate(PROMPTS, **given) == alone.generate(PROMPTS, **given)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "poet", make_base(tmp_path / "base", "gpt2"), 1)
    make_base(tmp_path / "other")
    with kun.load(tmp_path / "other") as lm, pytest.raises(BaseMismatch, match="trained on"):
        lm.with_adapter(folder)

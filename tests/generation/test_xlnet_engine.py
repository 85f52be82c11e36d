"""XLNet through the engine: rows whose last word is read again at each step, and none notices the others."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import END, tokenizer
from tokenizers import processors

import kun
from kun.errors import BadInput, UnsupportedFormat
from kun.families.xlnet.config import XLNetConfig
from kun.families.xlnet.xlnet import FAMILY, XLNet
from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel
from kun.networks.network import load_state

PROMPTS = ["a", "Once upon a time", "x" * 70, "yz" * 280, "第一章 绪论", "Once upon a time", "ab"]


def reference(**changes: Any) -> Any:
    torch.manual_seed(11)
    config = transformers.XLNetConfig(
        vocab_size=260, d_model=32, n_layer=2, n_head=4, d_inner=48, initializer_range=0.3, **changes
    )
    return transformers.XLNetLMHeadModel(config).eval()


def language_model(**changes: Any) -> LanguageModel:
    theirs = reference(**changes)
    net = XLNet(XLNetConfig.from_hf(theirs.config.to_dict()))
    load_state(net, net.names.ours({name: t.clone() for name, t in theirs.state_dict().items()}))
    return LanguageModel(net.eval(), tokenizer(), net.config, family=FAMILY, name="tiny")


def written(lm: LanguageModel, prompts: list[str], count: int) -> list[list[int]]:
    options = SamplingOptions(max_tokens=count, temperature=0, ignore_eos=True)
    running = [lm.submit(prompt, options) for prompt in prompts]
    return [one.result()[0].token_ids for one in running]


@pytest.mark.parametrize("changes", [{"mem_len": None}, {"mem_len": 20}, {"use_mems_eval": False}])
def test_a_ragged_batch_writes_what_the_reference_writes_alone(changes: dict[str, Any]) -> None:
    theirs = reference(**changes)
    with language_model(**changes) as lm:
        for prompt, ids in zip(PROMPTS, written(lm, PROMPTS, 10), strict=True):
            asked = torch.tensor([lm.encode(prompt)])
            out = theirs.generate(asked, max_new_tokens=10, do_sample=False, eos_token_id=None)
            assert ids == out[0, asked.shape[1] :].tolist()
        assert lm.stats()["pages_used"] == 0


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.text("ab", min_size=1, max_size=80), st.integers(1, 40)), min_size=1, max_size=7)
)
def test_with_few_pages_rows_give_way_and_still_write_the_same(asked: list[tuple[str, int]]) -> None:
    with LM.host._lock:
        LM.host.n_pages = 6
    LM.close()
    options = [SamplingOptions(max_tokens=most, temperature=0, ignore_eos=True) for _, most in asked]
    running = [LM.submit(text, o) for (text, _), o in zip(asked, options, strict=True)]
    got = [one.result()[0].token_ids for one in running]
    for (text, _), o, ids in zip(asked, options, got, strict=True):
        assert ids == LM.submit(text, o).result()[0].token_ids


LM = language_model(mem_len=None)


def test_rows_that_gave_way_were_among_them() -> None:
    with language_model(mem_len=None) as lm:
        lm.host.n_pages = 6
        together = written(lm, ["a" * 60, "b" * 60, "ab" * 30], 60)
        assert lm.stats()["preemptions"] > 0
        assert together == [written(lm, [prompt], 60)[0] for prompt in ("a" * 60, "b" * 60, "ab" * 30)]


def test_several_answers_to_one_prompt_are_each_their_own() -> None:
    with language_model() as lm:
        texts = lm.generate("Once upon", n=3, max_tokens=8, seed=5)
        assert texts == lm.generate("Once upon", n=3, max_tokens=8, seed=5)
        assert len(set(texts)) > 1


def test_what_the_tokenizer_puts_behind_a_text_is_not_gone_on_from() -> None:
    """XLNet's tokenizer ends each text with <sep><cls>."""
    with language_model() as lm:
        plain = written(lm, ["Once"], 5)
        lm.tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|end|> <|end|>", special_tokens=[("<|end|>", END)]
        )
        assert lm.tokenizer.encode("Once").ids[-2:] == [END, END]
        assert written(lm, ["Once"], 5) == plain
        assert lm.encode("Once<|end|>")[-1] == END


def test_log_probabilities_of_a_prompt_are_refused_since_its_words_see_each_other() -> None:
    with language_model() as lm, pytest.raises(BadInput, match="reads a prompt as a whole"):
        lm.prompt_logprobs("abc")


def test_a_network_whose_first_words_see_nothing_completes_no_text() -> None:
    with (
        language_model(attn_type="uni", same_length=True) as lm,
        pytest.raises(UnsupportedFormat, match="same_length"),
    ):
        lm.generate("abc")


@pytest.mark.parametrize("penalty", [1.0, 0.0])
def test_beams_find_what_the_reference_finds(penalty: float) -> None:
    """Also where the pages of a prompt are full, so that the word that is read again stands in a shared one."""
    theirs = reference(mem_len=None)
    with language_model(mem_len=None) as lm:
        for prompt in ("a", "Once upon a time", "x" * 31, "x" * 32, "x" * 33):
            asked = torch.tensor([lm.encode(prompt)])
            options = SamplingOptions(max_tokens=40, beams=3, n=2, length_penalty=penalty, ignore_eos=True)
            mine = [one.token_ids for one in lm.submit(prompt, options).result()]
            out = theirs.generate(
                asked, max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=END, num_beams=3,
                num_return_sequences=2, length_penalty=penalty,
            )  # fmt: skip
            assert mine == out[:, asked.shape[1] :].tolist()
        assert lm.stats()["pages_used"] == 0


def test_a_saved_xlnet_loads_here_quantized_too_and_in_the_reference(tmp_path: Path, tiny_home: Path) -> None:
    with language_model(mem_len=None) as lm:
        folder = kun.save(lm, tmp_path / "xlnet")
        wanted = written(lm, PROMPTS, 6)
    again: Any = kun.load(folder)
    assert written(again, PROMPTS, 6) == wanted
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    asked = torch.tensor([again.encode("Once")])
    out = loaded.eval().generate(asked, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert out[0, asked.shape[1] :].tolist() == written(again, ["Once"], 6)[0]
    again.close()
    for kind in ("int8", "int4"):
        packed: Any = kun.load(folder, quantize=kind)
        said = packed.net(asked).logits, loaded(asked).logits
        assert torch.nn.functional.cosine_similarity(*said, dim=-1).min() > 0.9
        assert [len(ids) for ids in written(packed, PROMPTS, 6)] == [6] * len(PROMPTS)
        packed.close()

"""Every token is counted once, with as much before it as was promised."""

import math
import sys
from copy import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_files import Write
from tokenizers import Tokenizer, normalizers
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import save_writer

from kun.errors import BadInput
from kun.evaluation.likelihood import Scorer
from kun.evaluation.perplexity import windows
from kun.evaluation.run import evaluate
from kun.models.language_model import LanguageModel


@given(length=st.integers(1, 200), context=st.integers(2, 40), share=st.floats(0.01, 1))
def test_windows_count_each_token_once_within_the_context(length: int, context: int, share: float) -> None:
    stride = max(1, round(context * share))
    cut = list(windows(range(length), -1, context, stride))
    assert [token for window in cut for token in window.continuations[0]] == list(range(length))
    for window in cut:
        counted = window.continuations[0]
        run = [*window.context, *counted[:-1]]
        assert len(run) <= context
        assert run == list(range(counted[-1] - len(run), counted[-1]))  # what stands before, without a gap
        assert len(counted) <= (context if counted[0] == 0 else stride)
        assert len(run) == context or run[0] == -1


def test_a_text_of_one_window_has_the_perplexity_of_its_cross_entropy(
    llama: LanguageModel, write: Write
) -> None:
    text = "北冥有鱼, its name is Kun."
    data = write("text.txt", text)
    found = evaluate(llama, {"kind": "perplexity", "data": data, "context": 128})
    ids = Scorer(llama).encode(text)
    begun = torch.tensor([[256, *ids]])
    with torch.no_grad():
        loss = F.cross_entropy(llama.net(begun[:, :-1]).logits[0], begun[0, 1:]).item()
    assert found.measures["perplexity"].value == pytest.approx(math.exp(loss), rel=1e-4)
    bits = loss * len(ids) / math.log(2) / len(text.encode())
    assert found.measures["bits_per_byte"].value == pytest.approx(bits, rel=1e-4)
    assert found.measures["bits_per_byte"].error is None  # one window tells nothing of its spread
    assert found.notes["tokens"] == str(len(ids))


def test_of_a_model_without_a_token_to_begin_with_the_first_token_and_its_bytes_are_not_counted(
    llama: LanguageModel, write: Write
) -> None:
    bare = copy(llama)
    bare.generation_config = {}
    data = write("text.txt", "北冥有鱼, its name is Kun.")
    found = evaluate(bare, {"kind": "perplexity", "data": data, "context": 128})
    tokens = int(found.notes["tokens"])
    ids = llama.tokenizer.encode(data.read_text(encoding="utf-8"), add_special_tokens=False)
    assert tokens == len(ids.ids) - 1
    left = data.read_text(encoding="utf-8")[ids.offsets[0][1] :]
    bits = math.log2(found.measures["perplexity"].value) * tokens / len(left.encode())
    assert found.measures["bits_per_byte"].value == pytest.approx(bits)
    assert found.notes["the first token"] == "not counted, nor its bytes"


def test_a_text_begins_with_the_tokenizers_own_token_where_generation_names_none(
    tmp_path: Path,
) -> None:
    path = save_writer(tmp_path / "model")
    said = path / "generation_config.json"
    said.write_text("{}", encoding="utf-8")
    lm = LanguageModel.open(path)
    special = lm.checkpoint.special_tokens
    assert Scorer(lm).begin == lm.tokenizer.token_to_id(special["bos_token"])


def test_texts_are_weighed_by_their_size_and_shown_one_by_one(llama: LanguageModel, write: Write) -> None:
    long = "A much longer text than that."
    data = write("texts.jsonl", f'{{"text": "a"}}\n{{"text": "{long}"}}\n')
    found = evaluate(llama, {"kind": "perplexity", "data": data})
    sizes = [1, len(long)]
    bits = [sample.score for sample in found.samples]
    mean = sum(b * n for b, n in zip(bits, sizes, strict=True)) / sum(sizes)
    assert found.measures["bits_per_byte"].value == pytest.approx(mean)
    assert found.measures["bits_per_byte"].error
    assert [sample.where for sample in found.samples] == ["texts.jsonl:1", "texts.jsonl:2"]


def test_an_empty_text_is_named(llama: LanguageModel, write: Write) -> None:
    data = write("texts.jsonl", '{"text": "a"}\n{"text": ""}\n')
    with pytest.raises(BadInput, match=r"texts\.jsonl:2 is empty"):
        evaluate(llama, {"kind": "perplexity", "data": data})


def test_a_text_of_no_tokens_is_named(llama: LanguageModel, write: Write) -> None:
    bare = copy(llama)
    bare.generation_config = {}
    bare.tokenizer = Tokenizer.from_str(llama.tokenizer.to_str())
    bare.tokenizer.normalizer = normalizers.Strip()
    data = write("texts.jsonl", '{"text": "   "}\n')
    with pytest.raises(BadInput, match=r"texts\.jsonl:1 has too few tokens"):
        evaluate(bare, {"kind": "perplexity", "data": data})


def test_a_translator_has_no_perplexity(translator: LanguageModel, write: Write) -> None:
    with pytest.raises(BadInput, match="encoder-decoder"):
        evaluate(translator, {"kind": "perplexity", "data": write("a.txt", "a")})

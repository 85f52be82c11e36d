"""Masks are filled with the reference's words and probabilities, and what cannot be filled says why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_masked import write

import kun
from kun.errors import BadInput, ContextOverflow, UnsupportedFormat
from kun.models.batching import batches
from kun.models.encoder import Encoder
from kun.models.masked_language_model import MaskedLanguageModel
from kun.models.task_model import Filling, TaskModel

ONE = {"bert": "Paris is the [MASK] of France.", "roberta": "Paris is the <mask> of France."}
TWO = {"bert": "The [MASK] brown [MASK] jumps.", "roberta": "The <mask> brown <mask> jumps."}


def reference(folder: Path, text: str | list[str], k: int) -> Any:
    pipeline = transformers.pipeline("fill-mask", model=str(folder), tokenizer=str(folder), device="cpu")
    return pipeline(text, top_k=k)


def assert_alike(mine: list[Filling], theirs: list[dict[str, Any]]) -> None:
    assert [word.token for word in mine] == [word["token"] for word in theirs]
    assert [word.text for word in mine] == [word["token_str"] for word in theirs]
    assert [word.probability for word in mine] == pytest.approx([word["score"] for word in theirs], rel=1e-4)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_words_and_probabilities_are_the_reference_pipelines(name: str, request: Any) -> None:
    folder = request.getfixturevalue(name)
    lm = kun.load(folder)
    assert isinstance(lm, MaskedLanguageModel)
    assert isinstance(lm, kun.TaskModel)
    assert_alike(lm.fill(ONE[name], k=7), reference(folder, ONE[name], 7))
    both = lm.fill(TWO[name], k=3)
    assert len(both) == 2
    for mine, theirs in zip(both, reference(folder, TWO[name], 3), strict=True):
        assert_alike(mine, theirs)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_list_of_texts_gives_each_what_it_gives_alone(name: str, request: Any, monkeypatch: Any) -> None:
    lm: Any = kun.load(request.getfixturevalue(name))
    texts = [ONE[name], TWO[name], ONE[name].replace("Paris", "The quick dog"), ONE[name]]
    monkeypatch.setattr(batches, "__defaults__", (30,))  # so that they run in several batches
    for text, together in zip(texts, lm.fill(texts), strict=True):
        for one, other in zip(np.ravel(lm.fill(text)), np.ravel(together), strict=True):
            assert one.token == other.token
            assert one.probability == pytest.approx(other.probability, rel=1e-4)
    assert lm.fill([]) == []
    assert len(lm.fill([ONE[name]])) == 1


def test_probabilities_over_the_whole_vocabulary_sum_to_one_likeliest_first(bert: Path) -> None:
    lm: Any = kun.load(bert)
    words = lm.fill(ONE["bert"], k=lm.config.vocab_size)
    assert sum(word.probability for word in words) == pytest.approx(1, abs=1e-4)
    assert [word.probability for word in words] == sorted((w.probability for w in words), reverse=True)


@pytest.mark.parametrize("class_name", ["BertForPreTraining", "ErnieForMaskedLM", "XLMRobertaForMaskedLM"])
def test_every_head_that_knows_words_fills(class_name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, class_name)
    name = "roberta" if "Roberta" in class_name else "bert"
    lm: Any = kun.load(folder)
    kind = getattr(transformers, class_name)
    ids = torch.tensor([lm.tokenizer.encode(ONE[name]).ids])
    with torch.no_grad():
        logits = kind.from_pretrained(folder).eval()(ids)[0]
    wanted = logits[ids == lm.tokenizer.token_to_id(lm.mask_token)][0].softmax(-1).topk(5)
    got = lm.fill(ONE[name])
    assert [word.token for word in got] == wanted.indices.tolist()
    assert [word.probability for word in got] == pytest.approx(wanted.values.tolist(), rel=1e-4)


def test_a_model_has_what_the_others_have(bert: Path) -> None:
    lm: Any = kun.load(bert)
    assert lm.family.name == "bert"
    assert lm.config.head == "MaskedLM"
    ids = torch.tensor([lm.tokenizer.encode("Paris").ids])
    assert lm.net(ids).logits.shape == (1, ids.shape[1], lm.config.vocab_size)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantized_weights_fill_alike(bert: Path, kind: str, tiny_home: Path) -> None:
    plain: Any = kun.load(bert)
    for _ in range(2):  # made, then read from where it was kept
        packed: Any = kun.load(bert, quantize=kind)
        assert packed.fill(ONE["bert"])[0].token in [word.token for word in plain.fill(ONE["bert"], k=20)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No gap.", r"no mask in 'No gap\.': write \[MASK\]"),
        ("", "no mask"),
        ("The <mask> fox", "no mask"),
        (5, "a text, or a list"),
        (["[MASK]", None], "a text, or a list"),
        (["The [MASK]", "none"], "no mask in 'none'"),
    ],
)
def test_a_text_without_a_mask_is_refused(bert: Path, text: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        kun.load(bert).fill(text)


@pytest.mark.parametrize("k", [0, -1, 10**6, 2.0, True, "5"])
def test_a_number_of_words_that_cannot_be_is_refused(bert: Path, k: Any) -> None:
    with pytest.raises(BadInput, match=r"k is .* from 1 to"):
        kun.load(bert).fill(ONE["bert"], k=k)


@pytest.mark.parametrize("times", [30, 100_000])
def test_a_text_that_is_too_long_says_how_long_it_may_be(roberta: Path, times: int) -> None:
    lm: Any = kun.load(roberta)
    with pytest.raises(ContextOverflow, match="takes 38 tokens"):
        lm.fill("<mask>" + " fox" * times)


@pytest.mark.parametrize("text", ["\ud800 [MASK]", "\x00[MASK]", "[MASK]" * 20, "[MASK] 🙂 鲲"])
def test_whatever_stands_beside_a_mask_it_is_filled(bert: Path, text: str) -> None:
    filled = kun.load(bert).fill(text)
    assert all(0 <= word.probability <= 1 for word in np.ravel(filled))


def test_a_model_without_that_head_says_so(classifier: Path, encoder: Path) -> None:
    with pytest.raises(BadInput, match="saved as BertForSequenceClassification and fills no masks"):
        kun.load(classifier).fill(ONE["bert"])
    assert isinstance(kun.load(encoder), Encoder)
    with pytest.raises(BadInput, match="no head for a task"):
        TaskModel.open(encoder)


def test_a_tokenizer_without_a_mask_says_so(bert: Path) -> None:
    from tokenizers import Tokenizer, models

    lm: Any = kun.load(bert)
    bare = MaskedLanguageModel(lm.net, Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), name="bare")
    with pytest.raises(BadInput, match="tokenizer of bare has no token for a mask"):
        bare.fill("a [MASK]")


@pytest.mark.parametrize(
    ("class_name", "pipeline"),
    [
        ("RobertaForMaskedLM", "fill-mask"),
        ("BertForSequenceClassification", "text-classification"),
        ("ErnieForTokenClassification", "token-classification"),
        ("XLMRobertaForQuestionAnswering", "question-answering"),
    ],
)
def test_a_saved_model_is_loaded_by_the_reference_as_the_class_that_it_was(
    class_name: str, pipeline: str, tmp_path: Path
) -> None:
    write(tmp_path / "theirs", class_name)
    lm: Any = kun.load(tmp_path / "theirs")
    folder = kun.save(lm, tmp_path / "ours")
    loaded, report = getattr(transformers, class_name).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.tensor([lm.tokenizer.encode("Paris is the capital").ids])
    with torch.no_grad():
        assert torch.allclose(loaded.eval()(ids)[0], lm.net(ids)[0], atol=1e-5)
    assert f"pipeline_tag: {pipeline}" in (folder / "README.md").read_text()
    assert not (folder / "modules.json").exists()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("Paris").input_ids == lm.tokenizer.encode("Paris").ids


def test_an_encoder_of_texts_is_had_from_a_checkpoint_with_a_head(bert: Path) -> None:
    vectors = Encoder.open(bert, dtype="float32").embed(["Paris is the capital."])
    base = transformers.AutoModel.from_pretrained(bert).eval()
    lm: Any = kun.load(bert)
    with torch.no_grad():
        states = base(torch.tensor([lm.tokenizer.encode("Paris is the capital.").ids])).last_hidden_state[0]
    wanted = states.mean(0) / states.mean(0).norm()
    assert np.allclose(vectors[0], wanted.numpy(), atol=1e-5)


def test_a_head_that_is_not_known_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, "BertForMultipleChoice")
    with pytest.raises(UnsupportedFormat, match="BertForMultipleChoice"):
        kun.load(folder)

"""Classes that nobody trained: labels that cannot be, the nearest description, the likeliest label, calibrated."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from task_files import Write
from tiny import END, language_model
from tiny_models import save_encoder

import kun
from kun.errors import BadInput, ContextOverflow, DamagedFile
from kun.evaluation.zero_shot.classify import classify
from kun.evaluation.zero_shot.decoder import WORDINGS, DecoderJudge
from kun.evaluation.zero_shot.encoder import EncoderJudge, fitted
from kun.evaluation.zero_shot.labels import Labels, checked_examples, read_examples, read_texts
from kun.models.language_model import LanguageModel

MOOD = Labels.read("positive,negative")


class Letters(list[str]):
    """The encoding of a tokenizer whose tokens are characters."""

    offsets: list[tuple[int, int]]


class Words:
    """An encoder whose vector of a text counts letters, so that texts of like letters lie near each other."""

    name, max_tokens = "letters", 40
    recipe = SimpleNamespace(prefixes={"query": "query: "})

    def embed(self, texts: Sequence[str], kind: str | None = None, progress: Any = None) -> np.ndarray:
        counts = np.array([[text.count(letter) + 0.01 for letter in "abcdefghijklmn"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)

    @property
    def tokenizer(self) -> Any:
        def encode(text: str, **_: object) -> Any:
            letters = Letters(text)
            letters.offsets = [(place, place + 1) for place in range(len(text))]
            return letters

        return SimpleNamespace(encode=encode)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "There are no labels"),
        (["good"], "one label, 'good'"),
        (["good", " "], "Label 2 of 2 is empty"),
        (["good", "bad", "Good "], "'Good' is there twice, as 'good'"),
        (["好", "坏", "好"], "'好' is there twice: labels must differ"),
        (["a", "b" * 201], "201 characters"),
        ([f"label {number}" for number in range(201)], "201 labels; 200 are the most"),
        ("positive,negative", "labels are a list of texts"),
        ([1, 2], "labels are a list of texts"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Labels.of(labels)


def test_labels_are_read_from_a_line_in_either_language_and_with_descriptions() -> None:
    assert Labels.read("正面，负面").names == ("正面", "负面")
    read = Labels.read("billing=invoices and payments, shipping = delivery")
    assert (read.names, read.descriptions) == (("billing", "shipping"), ("invoices and payments", "delivery"))
    assert Labels.of({"billing": "invoices", "other": ""}).descriptions == ("invoices", "")
    assert Labels.read("正面、负面").names == ("正面", "负面")
    assert Labels.read("账单=发票、付款，物流=快递").descriptions == ("发票、付款", "快递")
    with pytest.raises(BadInput, match="Label 2 of 2 is empty"):
        Labels.read("good,")
    with pytest.raises(BadInput, match="'payments' is a label without a description"):
        Labels.read("billing=invoices, payments, shipping=parcels")


def test_texts_and_examples_are_read_from_files(write: Write) -> None:
    assert read_texts(write("texts.txt", "one\n\n  two \n")) == ["one", "two"]
    assert read_texts(write("texts.jsonl", '{"text": "one"}\n{"text": 2}\n')) == ["one", "2"]
    solved = read_examples(write("solved.tsv", "label\tcontent\npositive\tgood\n"))
    assert checked_examples([*solved, ("bad", "negative")], MOOD) == [("good", 0), ("bad", 1)]
    for name, content, words in [
        ("empty.txt", "\n", "has no texts"),
        ("other.jsonl", '{"words": "one"}\n', "other.jsonl:1 has no column 'text': there are words"),
        ("hole.jsonl", '{"text": "one"}\n{"text": " "}\n', "hole.jsonl:2: text is"),
        ("broken.jsonl", '{"text": "one"}\n{\n', "broken.jsonl:2 is no JSON"),
    ]:
        with pytest.raises((BadInput, DamagedFile), match=words):
            read_texts(write(name, content))


def test_an_examples_label_may_be_written_in_another_case_or_width() -> None:
    labels = Labels.of(["Good", "bad"])
    assert checked_examples([("a", "good"), ("b", " ＢＡＤ ")], labels) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([("fine", "glad")], "Example 1: the label 'glad' is none of positive, negative"),
        ([("fine", "positive"), (" ", "negative")], "Example 2 has an empty text"),
    ],
)
def test_examples_that_cannot_be_used_are_named(examples: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        checked_examples(examples, MOOD)


def test_the_nearest_description_is_the_label() -> None:
    labels = Labels.of({"first": "abc abc", "second": "lmn lmn"})
    found = np.exp(EncoderJudge(Words(), labels).judge(["aabbcc", "mnmnl", "房间aabb"]))  # type: ignore[arg-type]
    assert found.argmax(axis=1).tolist() == [0, 1, 0]
    assert np.allclose(found.sum(axis=1), 1)


def test_examples_move_the_nearest_description() -> None:
    labels, texts = Labels.of({"first": "abc", "second": "lmn"}), ["eeff"]
    for own in (0, 1):
        examples = [("eeee ff", own), ("kkkk gg", 1 - own)] * 4
        judged = EncoderJudge(Words(), labels, examples).judge(texts)  # type: ignore[arg-type]
        assert judged.argmax(axis=1).tolist() == [own]


def test_a_long_text_is_read_in_windows_and_one_far_too_long_is_refused() -> None:
    labels = Labels.of({"first": "abc", "second": "lmn"})
    judge = EncoderJudge(Words(), labels)  # type: ignore[arg-type]
    assert judge.judge(["n" * 20 + "abc" * 200]).argmax() == 0
    with pytest.raises(ContextOverflow, match="reads 64 windows of 40 tokens of it: shorten it"):
        judge.judge(["a" * 40 * 65])
    with pytest.raises(ContextOverflow, match="characters; letters reads"):
        judge.judge(["a" * 40 * 64 * 9])


def test_a_text_of_few_characters_and_many_tokens_is_read_whole(tmp_path: Path) -> None:
    encoder: Any = kun.load(save_encoder(tmp_path / "bytes"), dtype="float32")
    text = "𓂀" * 200
    windows = EncoderJudge(encoder, MOOD)._windows(text)
    assert len(text) < encoder.max_tokens < len(encoder.tokenizer.encode(text).ids)
    assert "".join(windows) == text
    assert all(len(encoder.tokenizer.encode(window).ids) <= encoder.max_tokens for window in windows)


def test_without_examples_weights_are_the_descriptions_and_many_examples_decide() -> None:
    prior = np.array([[1.0, 0.0], [0.0, 1.0]])
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]] * 200)
    few, many = fitted(vectors[:2], [1, 0], prior), fitted(vectors, [1, 0] * 200, prior)
    assert (vectors[0] @ few).argmax() == 0
    assert (vectors[0] @ many).argmax() == 1


def by_hand(
    lm: LanguageModel, labels: Labels, text: str, examples: Sequence[tuple[str, str]] = ()
) -> list[float]:
    """The probability of each label: both orders, calibrated, by the network's padded call."""
    wording = WORDINGS["en"]

    def one(text: str, order: Sequence[str]) -> list[float]:
        asked = "{}\n\n" + wording.ask.format(labels=wording.joined.join(order))
        turns = [
            {"role": role, "content": content}
            for example, label in examples
            for role, content in (("user", asked.format(example)), ("assistant", label))
        ]
        context = lm.encode([*turns, {"role": "user", "content": asked.format(text)}])
        found = []
        for name in labels.names:
            shares = 0.0
            for spelt in (name, name.capitalize()):
                answer = lm.tokenizer.encode(spelt, add_special_tokens=False).ids
                with torch.no_grad():
                    scores = lm.net(torch.tensor([context + answer])).logits[0].log_softmax(-1).double()
                shares += float(
                    sum(scores[len(context) + n - 1, token] for n, token in enumerate(answer)).exp()  # type: ignore[union-attr]
                )
            found.append(float(np.log(shares)))
        return found

    def both(text: str) -> np.ndarray:
        return np.mean([one(text, labels.names), one(text, labels.names[::-1])], axis=0)

    free = np.array([both(free) for free in wording.free])
    scores = both(text) - np.median(free - free.mean(axis=1, keepdims=True), axis=0)
    shares: list[float] = (np.exp(scores) / np.exp(scores).sum()).tolist()
    return shares


@pytest.fixture(scope="module")
def writer() -> Any:
    with language_model("llama", positions=2048) as lm:
        yield lm


@pytest.mark.parametrize("examples", [[], [("so nice", "yes"), ("so bad", "no")]])
def test_a_decoder_weighs_labels_in_both_orders_against_inputs_without_content(
    writer: LanguageModel, examples: list[tuple[str, str]]
) -> None:
    labels = Labels.read("yes,no")
    found = classify(writer, ["It rains.", "It shines."], labels, examples)
    for judged, text in zip(found, ["It rains.", "It shines."], strict=True):
        wanted = by_hand(writer, labels, text, examples)
        assert list(judged.probabilities.values()) == pytest.approx(wanted, abs=1e-4)
        assert judged.label == labels.names[int(np.argmax(wanted))]


def test_a_decoder_says_the_same_whatever_the_order_and_the_company(writer: LanguageModel) -> None:
    alone = classify(writer, ["It rains."], Labels.read("yes,no"))[0]
    turned = classify(writer, ["房间很干净。", "It rains.", "Other."], Labels.read("no,yes"))[1]
    assert turned.label == alone.label
    assert dict(turned.probabilities) == pytest.approx(dict(alone.probabilities), abs=1e-4)


@pytest.mark.parametrize("template", [True, False])
def test_a_text_never_becomes_a_control_token(template: bool) -> None:
    changes = {} if template else {"template": None}
    with language_model("llama", positions=2048, **changes) as lm:
        judge = DecoderJudge(lm, Labels.read("yes,no"))
        plain = judge._context("hello", "en", False).count(END)
        assert judge._context("hello<|end|>", "en", False).count(END) == plain
        assert len(judge.judge(["hello<|end|>"])) == 1


def test_a_label_is_weighed_as_text_whatever_it_looks_like() -> None:
    with language_model("llama", positions=2048) as lm:
        judge = DecoderJudge(lm, Labels.read("<|end|>,no"))
        asked = judge._question("hello", "en", False).continuations
        assert all(END not in continuation for continuation in asked)


def test_no_texts_have_no_labels(writer: LanguageModel, tmp_path: Path) -> None:
    encoder: Any = kun.load(save_encoder(tmp_path / "bytes"), dtype="float32")
    assert classify(encoder, [], MOOD) == classify(writer, [], MOOD) == []


@pytest.mark.parametrize("example", ["a", "ab", ("a",), ("a", "b", "c"), (1, "yes")])
def test_an_example_that_is_no_pair_is_told_of(writer: LanguageModel, example: Any) -> None:
    with pytest.raises(BadInput, match=r"Example 1 is .*give a text and its label"):
        classify(writer, ["It rains."], Labels.read("yes,no"), [example])


def test_a_text_that_is_too_long_for_a_decoder_is_refused(writer: LanguageModel) -> None:
    for text in ("long " * 500, "x" * 200_000):
        with pytest.raises(ContextOverflow, match="takes: shorten it"):
            classify(writer, [text], Labels.read("yes,no"))


def test_a_classifier_goes_by_its_own_labels(classifier: Path) -> None:
    model: Any = kun.load(classifier)
    own = model.classify("Paris is the capital.")
    assert kun.classify("Paris is the capital.", model=model) == own
    some: Any = kun.classify("Paris is the capital.", ["LABEL_2", "ｌａｂｅｌ_0"], model=model)
    parts = own.probabilities["LABEL_2"], own.probabilities["LABEL_0"]
    assert list(some.probabilities.values()) == pytest.approx([part / sum(parts) for part in parts])
    with pytest.raises(BadInput, match="was trained for LABEL_0, LABEL_1, LABEL_2, not for 'good'"):
        kun.classify("Paris.", ["good", "LABEL_0"], model=model)
    with pytest.raises(BadInput, match="reads no examples"):
        kun.classify("Paris.", ["LABEL_1", "LABEL_0"], model=model, examples=[("a", "LABEL_1")])
    with pytest.raises(ContextOverflow, match="takes 40 tokens"):
        kun.classify("Paris is " * 50, model=model)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kun.classify("", ["a", "b"]), "Text 1 is empty"),
        (lambda: kun.classify(["a", " "], ["a", "b"]), "Text 2 is empty"),
        (lambda: kun.classify("a"), "There are no labels"),
        (lambda: kun.classify("a", ["a", "b"], examples=[("x", "c")]), "label 'c' is none of a, b"),
        (lambda: kun.classify("a", examples=[("x", "c")]), "examples and no labels"),
        (lambda: kun.classify(5, ["a", "b"]), "takes a text, or a list of texts"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_classified_is_said_before_a_model_is_opened(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        call()


def test_a_model_of_another_kind_is_refused_and_a_language_model_needs_labels(llama: LanguageModel) -> None:
    with pytest.raises(BadInput, match="has no labels of its own"):
        kun.classify("a", model=llama)
    odd: Any = SimpleNamespace(name="odd")
    with pytest.raises(BadInput, match="odd tells no labels apart"):
        kun.classify("a", ["a", "b"], model=odd)

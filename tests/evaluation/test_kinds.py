"""Each kind of task gives the numbers that its rows, asked one by one, give."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
import transformers
from task_files import Write

import kun
from kun.errors import BadInput, BadRecipe
from kun.evaluation.page import page
from kun.evaluation.result import Result, Sample, difference, mean, ratio
from kun.evaluation.run import evaluate
from kun.models.language_model import LanguageModel

QUESTIONS = [
    {"q": "What swims?", "list": ["a fish", "a stone", "air"], "a": 0},
    {"q": "What flies?", "list": ["a cow", "a bird"], "a": "B"},
    {"q": "北冥有鱼，其名为", "list": ["鲲", "鹏", "a much longer answer than those"], "a": "鹏"},
    {"q": "Which is long?", "list": ["no", "a long answer, word by word"], "a": "1"},
]
CHOICE: dict[str, Any] = {
    "kind": "multiple-choice",
    "prompt": "Q: {{ q }}\nA:",
    "choices": "list",
    "answer": "a",
}
REVIEWS = "label\ttext\n1\tgood, kind and clean\n0\tbad\n1\t很好\n0\tno sleep\n1\tfine\n"
LABELS: dict[str, Any] = {"kind": "classification", "labels": {"0": "negative", "1": "positive"}}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def weight(lm: LanguageModel, context: str, answer: str) -> float:
    """The log-probability of an answer by the network's padded call, one text at a time."""
    before, whole = lm.tokenizer.encode(context).ids, lm.tokenizer.encode(context + answer).ids
    with torch.no_grad():
        logprobs = lm.net(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(logprobs[place - 1, whole[place]]) for place in range(len(before), len(whole)))


@pytest.mark.parametrize("shots", [0, 2])
def test_the_likeliest_answer_is_chosen_plain_and_by_length(
    shots: int, llama: LanguageModel, write: Write
) -> None:
    data = write("rows.jsonl", lines(QUESTIONS))
    solved = [
        {"q": "What barks?", "list": ["a dog", "a cat"], "a": 0},
        {"q": "1 + 1", "list": ["3", "2"], "a": 1},
    ]
    task = CHOICE | {"data": data, "examples": write("solved.jsonl", lines(solved)), "shots": 0}
    found = evaluate(llama, task, shots=shots)
    before = "Q: What barks?\nA: a dog\n\nQ: 1 + 1\nA: 2\n\n" if shots else ""
    plain, normed = [], []
    for row, right in zip(QUESTIONS, [0, 1, 1, 1], strict=True):
        weights = [weight(llama, f"{before}Q: {row['q']}\nA:", " " + answer) for answer in row["list"]]
        by_length = [w / len(answer) for w, answer in zip(weights, row["list"], strict=True)]
        plain.append(weights.index(max(weights)) == right)
        normed.append(by_length.index(max(by_length)) == right)
    assert [sample.right for sample in found.samples] == plain
    assert found.measures["accuracy"].value == statistics.mean(plain)
    assert found.measures["accuracy_norm"].value == statistics.mean(normed)
    assert found.measures["accuracy"].error == pytest.approx(statistics.stdev(map(float, plain)) / 2)


def test_a_prompt_that_is_too_long_loses_its_beginning_and_is_counted(
    llama: LanguageModel, write: Write
) -> None:
    long = {"q": "x" * 300 + "What swims?", "list": ["a fish", "air"], "a": 0}
    found = evaluate(llama, CHOICE | {"data": write("rows.jsonl", lines([long, *QUESTIONS]))})
    assert found.cut == 1
    assert found.n == 5


def test_a_classifier_labels_as_the_reference_does(classifier: Path, write: Write) -> None:
    data = write("reviews.tsv", REVIEWS.replace("0\tno", "2\tno"))
    labels = {"0": "negative", "1": "positive", "2": "mixed"}  # the model's own are LABEL_0 to LABEL_2
    found = kun.evaluate(classifier, LABELS | {"data": data, "labels": labels})
    theirs = transformers.pipeline("text-classification", model=str(classifier), device="cpu")
    texts = [line.split("\t")[1] for line in REVIEWS.splitlines()[1:]]
    said = [labels[one["label"].removeprefix("LABEL_")] for one in theirs(texts)]
    wanted = ["positive", "negative", "positive", "mixed", "positive"]
    assert [sample.said for sample in found.samples] == said
    right = [one == other for one, other in zip(said, wanted, strict=True)]
    assert found.measures["accuracy"].value == statistics.mean(right)
    assert found.confusion is not None
    assert sum(count for row in found.confusion.values() for count in row.values()) == 5


def test_labels_that_a_classifier_does_not_know_are_named(classifier: Path, write: Write) -> None:
    data = write("reviews.tsv", REVIEWS)
    with pytest.raises(BadInput, match=r"knows the labels 'LABEL_0'.* the task has 'negative', 'positive'"):
        kun.evaluate(classifier, LABELS | {"data": data})
    with pytest.raises(BadInput, match=r"reviews\.tsv:2: the label '1' is none of 'a', 'b'"):
        kun.evaluate(classifier, LABELS | {"data": data, "labels": {"a": "x", "b": "y"}})


def test_a_text_longer_than_a_classifier_reads_is_cut_and_counted(classifier: Path, write: Write) -> None:
    data = write("reviews.tsv", REVIEWS + "0\t" + "bad " * 80 + "\n")
    labels = {"0": "negative", "1": "positive", "2": "mixed"}
    assert kun.evaluate(classifier, LABELS | {"data": data, "labels": labels}).cut == 1


def test_a_language_model_labels_by_the_likelier_name(llama: LanguageModel, write: Write) -> None:
    task = LABELS | {"data": write("reviews.tsv", REVIEWS), "prompt": "Review: {{ text }}\nSentiment:"}
    found = evaluate(llama, task)
    for sample in found.samples:
        weights = {name: weight(llama, sample.asked, " " + name) for name in ("negative", "positive")}
        assert sample.said == max(weights, key=weights.__getitem__)
    with pytest.raises(BadRecipe, match="asked through a prompt"):
        evaluate(llama, {name: value for name, value in task.items() if name != "prompt"})


@pytest.mark.parametrize("beams", [1, 2])
def test_translations_have_the_scores_of_sacrebleu(
    beams: int, translator: LanguageModel, write: Write
) -> None:
    rows = [("I love my dog.", "我爱我的狗。"), ("It rains.", "下雨了。"), ("Good.", "好。")]
    data = write("rows.tsv", "".join(f"{one}\t{other}\n" for one, other in rows))
    task = {"kind": "translation", "data": data, "columns": ["source", "target"], "tokenize": "zh"}
    found = evaluate(translator, task | {"max_tokens": 12, "beams": beams})
    greedy = {"beams": beams} if beams > 1 else {"temperature": 0.0}
    said = [translator.generate(one, max_tokens=12, **greedy).strip() for one, _ in rows]
    assert [sample.said for sample in found.samples] == said
    wanted = [[other for _, other in rows]]
    theirs = sacrebleu.corpus_bleu(said, wanted, tokenize="zh")
    assert found.measures["bleu"].value == pytest.approx(theirs.score)
    assert found.measures["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(said, wanted).score)
    assert "tok:zh" in found.notes["bleu"]


def test_summaries_are_asked_as_a_chat_and_scored(llama: LanguageModel, write: Write) -> None:
    row = {"text": "周一闭馆。", "target": "闭馆"}
    data = write("rows.jsonl", lines([row]))
    task = {"kind": "summary", "data": data, "chat": True, "preamble": "Be brief.", "units": "characters"}
    found = evaluate(llama, task | {"max_tokens": 6})
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": row["text"]}]
    assert found.samples[0].said == llama.generate(asked, max_tokens=6, temperature=0.0).strip()
    assert list(found.measures) == ["rouge1", "rouge2", "rougeL"]
    assert found.measures["rougeL"].error is None


def test_an_encoder_without_a_head_is_refused(tmp_path: Path, write: Write) -> None:
    from tiny_masked import write as write_checkpoint

    encoder = kun.load(write_checkpoint(tmp_path / "bert", "BertModel"))
    for task in (
        LABELS | {"data": write("a.tsv", REVIEWS)},
        {"kind": "perplexity", "data": write("a.txt", "a")},
    ):
        with pytest.raises(BadInput, match="is an encoder and writes no text"):
            kun.evaluate(encoder, task)


def test_errors_are_those_of_a_mean_and_of_a_ratio() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    found = mean(values)
    assert found.value == pytest.approx(0.6)
    assert found.error == pytest.approx(statistics.stdev(values) / 5**0.5)
    even = ratio([2.0, 4.0, 6.0], [1.0, 1.0, 1.0])  # of equal sizes it is a mean
    assert (even.value, even.error) == (pytest.approx(4.0), pytest.approx(2 / 3**0.5))


def test_two_models_are_compared_row_by_row() -> None:
    def result(scores: list[float]) -> Result:
        samples = [Sample("a", "", "", "", score) for score in scores]
        return Result("t", "k", "m", {}, len(scores), 0.0, samples)

    found = difference(result([1, 1, 0, 1]), result([1, 0, 0, 0]))
    assert found.value == pytest.approx(0.5)
    assert found.error == pytest.approx(statistics.stdev([0, 1, 0, 1]) / 2)


def test_the_page_shows_every_row_and_nothing_in_it_is_markup(llama: LanguageModel, write: Write) -> None:
    rows = [*QUESTIONS, {"q": "<script>alert(1)</script>", "list": ["<b>", "&"], "a": 0}]
    found = evaluate(llama, CHOICE | {"data": write("rows.jsonl", lines(rows)), "name": "facts"})
    shown = page([[found]])
    assert all(f"rows.jsonl:{number}" in shown for number in range(1, 6))
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "http" not in shown  # it needs nothing from elsewhere

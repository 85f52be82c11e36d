"""What a stage says to a model, to data and to labels that do not fit; and what a trained judge says."""

import json

import numpy as np
import pytest

import kun
from kun.data.packing import IGNORED, PackedRows
from kun.data.rows import Text
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput, BadRecipe, BadRow
from kun.objectives.masked import Masked
from kun.objectives.text.packed import tensors
from kun.text.learn import byte_tokenizer
from kun.training.recipe import parse_recipe
from kun.training.train import train

SMALL = {"family": "bert", "n_layers": 1, "n_heads": 2, "d_model": 16, "tokenizer": "bytes"}


@pytest.fixture
def run(tmp_path):
    def go(stage, rows, held_out=None, family="bert", **changes):
        def write(name, some):
            path = tmp_path / name
            path.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
            return str(path)

        data = {"train": write("train.jsonl", rows)}
        if held_out is not None:
            data["eval"] = write("eval.jsonl", held_out)
        values = {
            "stage": stage,
            "out": str(tmp_path / f"run{len(list(tmp_path.iterdir()))}"),
            "model": {**SMALL, "family": family},
            "data": data,
            "train": {"steps": 3, "context": 32, "batch_tokens": 128, "precision": "fp32", "eval_every": 3},
            **changes,
        }
        return train(parse_recipe(values), "run")

    return go


LABELLED = [{"text": f"text number {n}", "label": "odd" if n % 2 else "even"} for n in range(20)]


def test_a_label_that_training_never_saw_is_named_with_its_line(run):
    with pytest.raises(BadRow, match=r"eval\.jsonl:2 has the label 'prime'"):
        run("classify", LABELLED, [LABELLED[0], {"text": "seven", "label": "prime"}])


def test_an_objective_that_does_not_fit_says_which_do(run):
    with pytest.raises(BadRecipe, match=r"masked.*does not fit gpt: it is for bert.*gpt learns next_token"):
        run("pretrain", [{"text": "a text"}], family="gpt2", objective={"name": "masked"})
    with pytest.raises(BadRecipe, match=r"seq2seq.*bert does not learn: name a model of transformer, t5"):
        run("translate", [{"source": "a", "target": "b"}])
    with pytest.raises(BadRecipe, match=r"none of stage = \"classify\".*one of translate"):
        run("classify", LABELLED, objective={"name": "seq2seq"})


def test_data_of_another_kind_is_named_with_its_line(run):
    pairs = [{"source": "one", "target": "eins"}]
    with pytest.raises(BadInput, match=r"train\.jsonl:1 is a pair of texts.*translate"):
        run("pretrain", pairs, family="gpt2")
    judged = [{"prompt": "one", "completion": "eins", "label": False}]
    with pytest.raises(BadInput, match=r"train\.jsonl:1 is an answer that was judged"):
        run("translate", judged, family="t5")
    with pytest.raises(BadInput, match=r"train\.jsonl:1 is a text with a label"):
        run("pretrain", LABELLED)
    with pytest.raises(BadInput, match=r"train\.jsonl:1 is running text"):
        run("translate", [{"text": "alone"}], family="t5", model={**SMALL, "family": "t5"})


def test_empty_texts_and_labels_that_are_no_numbers_are_named(run):
    with pytest.raises(BadRow, match=r"train\.jsonl:2.*empty"):
        run("classify", [LABELLED[0], {"text": " ", "label": "odd"}])
    with pytest.raises(BadRow, match="no number"):
        run("classify", LABELLED, objective={"name": "regress"})
    with pytest.raises(BadInput, match="at least two"):
        run("classify", LABELLED[::2])


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama"])
def test_a_trained_judge_is_loaded_and_says_its_labels_as_the_reference_does(run, family, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    changes = {"n_kv_heads": 2} if family == "llama" else {}
    made = run("classify", LABELLED, model={**SMALL, "family": family, **changes}, seed=1)
    model = kun.load(made.checkpoint)
    texts = ["text number one", ("two texts", "that belong together"), "a"]
    said = model.classify(texts)
    assert [set(one.probabilities) for one in said] == [{"even", "odd"}] * 3
    assert all(one.score == pytest.approx(max(one.probabilities.values())) for one in said)
    assert model.classify(texts[0]).probabilities == pytest.approx(said[0].probabilities, abs=1e-5)
    theirs = AutoModelForSequenceClassification.from_pretrained(made.checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(made.checkpoint)
    for text, ours in zip(texts, said, strict=True):
        given = tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")
        given = {name: given[name] for name in ("input_ids", "attention_mask")}
        if family == "bert" and isinstance(text, tuple):
            given["token_type_ids"] = torch.tensor([model._encode(text).type_ids])
        with torch.no_grad():
            shares = theirs(**given).logits.softmax(-1)[0].tolist()
        named = {theirs.config.id2label[n]: share for n, share in enumerate(shares)}
        assert named == pytest.approx(ours.probabilities, abs=1e-4)


def test_what_cannot_be_judged_is_said(run):
    model = kun.load(run("classify", LABELLED).checkpoint)
    with pytest.raises(BadInput, match="none of them empty"):
        model.classify(["", "text"])
    with pytest.raises(BadInput, match="fills no masks"):
        model.fill("a [MASK]")
    masked = kun.load(run("pretrain", [{"text": row["text"]} for row in LABELLED]).checkpoint)
    with pytest.raises(BadInput, match="classifies nothing"):
        masked.classify("text")


def test_a_head_that_the_checkpoint_lacks_is_new_and_said_so(run):
    masked = run("pretrain", [{"text": row["text"]} for row in LABELLED])
    judge = run("classify", LABELLED, model={"from": str(masked.checkpoint)})
    lineage = json.loads((judge.checkpoint / "kun.json").read_text(encoding="utf-8"))
    assert lineage["fresh"] == ["head.classifier", "pooler"]


def _asked(number):
    """A text in which the answer follows a mark, at a place that varies."""
    word = ["alpha", "beta", "gamma"][number % 3]
    text = "so " * (number * 7 % 23) + f"= {word} " + "on " * (number * 5 % 19)
    return {"context": text, "question": "?", "answers": {"text": [word], "answer_start": [text.index(word)]}}


def test_answers_are_found_in_texts_longer_than_the_context(run):
    rows = [_asked(number) for number in range(300)]
    sizes = {"n_layers": 2, "d_model": 32}
    made = run(
        "classify",
        rows,
        model={**SMALL, **sizes},
        objective={"name": "answer_span"},
        train={"steps": 200, "context": 48, "batch_tokens": 1024, "precision": "fp32"},
        optimizer={"lr": 3e-3, "warmup": 10},
    )
    model = kun.load(made.checkpoint)
    right = 0
    for number in range(6):
        text = "so " * 12 + _asked(number)["context"] + "on " * 12
        found = model.answer("?", text)
        assert found is None or text[found.start : found.end] == found.text
        right += found is not None and found.text == _asked(number)["answers"]["text"][0]
    assert right >= 4
    with pytest.raises(BadInput, match="leaves no room"):
        model.answer("?" * 60, "text")


def test_questions_are_read_from_squads_own_form_and_wrong_places_are_named(tmp_path):
    from kun.data.rows import Question
    from kun.data.sources import Rows

    asked = {"question": "who?", "answers": [{"text": "fish", "answer_start": 4}]}
    none = {"question": "when?", "answers": []}
    article = {"title": "t", "paragraphs": [{"context": "the fish", "qas": [asked, none]}]}
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"version": "1", "data": [article]}), encoding="utf-8")
    first, second = Rows(str(path))
    assert first == Question("the fish", "who?", "fish", 4, f"{path}:1, question 1")
    assert second.answer is None
    asked["answers"][0]["answer_start"] = 3
    path.write_text(json.dumps({"data": [article]}), encoding="utf-8")
    with pytest.raises(BadRow, match="does not stand at 3"):
        list(Rows(str(path)))


def test_a_static_mask_is_the_same_in_each_epoch_though_documents_are_cut_elsewhere(tmp_path):
    rows = [Text("".join(chr(65 + (n * n + i * i) % 57) for i in range(50 + 30 * n))) for n in range(8)]
    store = TokenStore.build(tmp_path, rows, RowTokenizer(byte_tokenizer()), processes=1)
    objective = Masked(Masked.Options(mask_share=0.4, dynamic=False), mask=4, vocabulary=64)
    epochs = []
    for epoch in range(2):
        plan = PackedRows(store, 32).plan(epoch)
        batch = objective.prepare(tensors(plan.batch(range(len(plan)))), np.random.default_rng(epoch))
        real = batch["attention_mask"] > 0
        columns = [batch[name][real].tolist() for name in ("places", "input_ids", "labels")]
        epochs.append({place: (seen, label) for place, seen, label in zip(*columns, strict=True)})
    assert len(epochs[0]) == store.n_tokens
    assert epochs[0] == epochs[1]
    chosen = [label != IGNORED for _, label in epochs[0].values()]
    assert 0.3 < sum(chosen) / len(chosen) < 0.5

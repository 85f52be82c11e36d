"""Every objective on its family: that it learns, from nothing and continued, and goes on bit for bit."""

import json
import os
import random
import signal

import pytest
from safetensors.torch import load_file

from kun.families.xlnet.config import XLNetConfig
from kun.families.xlnet.xlnet import XLNet
from kun.objectives.text.padded import PaddedFeed
from kun.training.layout import ParallelLayout
from kun.training.loop import Loop
from kun.training.optimizers import Optimizer
from kun.training.recipe import parse_recipe
from kun.training.tables import OptimizerTable
from kun.training.train import train

WORDS = "fish bird sea cloud wing back north south deep broad".split()


def _sentences(count, seed=0, longest=8):
    chance = random.Random(seed)
    return [" ".join(chance.choice(WORDS) for _ in range(chance.randint(2, longest))) for _ in range(count)]


def _rows(kind, count=240, seed=0):
    for number, text in enumerate(_sentences(count, seed, longest=4 if kind == "pairs" else 8)):
        words = text.split()
        words[0] = words[1] if number % 2 else words[0]
        yield {
            "text": {"text": text},
            "pairs": {"source": text, "target": " ".join(words)},
            "labelled": {"text": text, "label": "wet" if "sea" in words or "fish" in words else "dry"},
            "two": {
                "text_a": words[0],
                "text_b": " ".join(words[1:]),
                "label": "yes" if words[0] in words[1:] else "no",
            },
            "squad": {
                "context": text,
                "question": "which?",
                "answers": {"text": [words[-1]], "answer_start": [len(text) - len(words[-1])]},
            },
            "numbers": {"text": text, "label": text.count("sea") - 0.5},
        }[kind]


@pytest.fixture
def data(tmp_path):
    def write(kind, **options):
        path = tmp_path / f"{kind}.jsonl"
        rows = _rows(kind, **options)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 32, "tokenizer": "bytes"}
EXPERTS = {"n_experts": 2}


def model_of(said):
    return {key: value for key, value in {**SMALL, **said}.items() if value is not None}


#: name: (stage, family, kind of data, objective, mean loss of the last steps that must be reached)
CASES = {
    "next token, GPT": ("pretrain", {"family": "gpt2"}, "text", {}, 1.2),
    "masked, BERT": ("pretrain", {"family": "bert"}, "text", {}, 2.7),
    "masked once for all, BERT": ("pretrain", {"family": "bert"}, "text", {"dynamic": False}, 2.6),
    "masked, RoBERTa": ("pretrain", {"family": "roberta"}, "text", {}, 2.7),
    "masked, ERNIE": ("pretrain", {"family": "ernie"}, "text", {}, 2.75),
    "spans, T5": ("pretrain", {"family": "t5"}, "text", {}, 2.1),
    "spans, Switch": ("pretrain", {"family": "switch", **EXPERTS}, "text", {}, 2.3),
    "permutations, XLNet": ("pretrain", {"family": "xlnet"}, "text", {}, 3.1),
    "next token, LSTM": ("pretrain", {"family": "lstm", "n_heads": None}, "text", {}, 2.95),
    "translation, Transformer": (
        "translate",
        {"family": "transformer"},
        "pairs",
        {"label_smoothing": 0.1},
        1.7,
    ),
    "translation, T5": ("translate", {"family": "t5"}, "pairs", {}, 1.6),
    "translation, Switch": ("translate", {"family": "switch", **EXPERTS}, "pairs", {}, 1.7),
    "translation, GShard": ("translate", {"family": "gshard", **EXPERTS}, "pairs", {}, 2.6),
    "classes, BERT": ("classify", {"family": "bert"}, "labelled", {}, 0.45),
    "classes of pairs, BERT": ("classify", {"family": "bert"}, "two", {}, 0.55),
    "classes, RoBERTa": ("classify", {"family": "roberta"}, "labelled", {}, 0.45),
    "classes, GPT": ("classify", {"family": "gpt2"}, "labelled", {}, 1.4),
    "answers, BERT": ("classify", {"family": "bert"}, "squad", {"name": "answer_span"}, 1.5),
    "a number, BERT": ("classify", {"family": "bert"}, "numbers", {"name": "regress"}, 0.3),
}


@pytest.fixture
def recipe(tmp_path, data):
    def make(case, steps, out="run", **changes):
        stage, model, kind, objective, _ = CASES[case]
        values = {
            "stage": stage,
            "out": str(tmp_path / out),
            "model": model_of(model),
            "data": {"train": data(kind), "eval": 0.1},
            "train": {
                "steps": steps,
                "context": 64,
                "batch_tokens": 512,
                "micro_batch_tokens": 256,
                "precision": "fp32",
                "eval_every": steps,
            },
            "optimizer": {"lr": 3e-3, "schedule": "constant", "warmup": 10},
            "objective": objective,
        }
        for dotted, value in changes.items():
            table, _, key = dotted.partition("__")
            if key:
                values[table][key] = value
            else:
                values[table] = value
        return parse_recipe(values)

    return make


def _late(run):
    return sum(line["loss"] for line in run.metrics[-5:]) / 5


@pytest.mark.parametrize("case", CASES)
def test_every_objective_is_learned_from_nothing_and_goes_on_from_what_was_saved(recipe, case):
    reached = CASES[case][-1]
    first = train(recipe(case, 100), "run")
    assert _late(first) < reached < first.metrics[0]["loss"]
    assert "eval_loss" in first.metrics[-1]
    facts = json.loads((first.path / "facts.json").read_text(encoding="utf-8"))
    assert facts["data"]["eval_documents"]
    assert "overlap" in facts
    more = train(recipe(case, 10, "more", model={"from": str(first.checkpoint)}), "more")
    assert _late(more) < reached * 1.1
    assert "fresh" not in json.loads((more.checkpoint / "kun.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_ends_with_the_same_bits(recipe, monkeypatch, case):
    whole = train(recipe(case, 6, "whole", model__dropout=0.1), "run")
    step = Loop._step

    def interrupted(self):
        step(self)
        if self.state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(case, 6, model__dropout=0.1), "run")
    monkeypatch.setattr(Loop, "_step", step)
    again = train(recipe(case, 6, model__dropout=0.1), "run", resume=True)
    assert [line["loss"] for line in whole.metrics] == [line["loss"] for line in again.metrics]
    theirs = load_file(again.checkpoint / "model.safetensors")
    for name, tensor in load_file(whole.checkpoint / "model.safetensors").items():
        assert tensor.equal(theirs[name]), name


def test_a_process_without_rows_goes_along_and_has_weight_zero(recipe, monkeypatch):
    step, gradients, parts = PaddedFeed.at, ParallelLayout.gradients, []

    def without_rows(self, place):
        batches, after = step(self, place)
        return ([] if place.row and not place.epoch else batches), after

    def counted(self, task, batches, count):
        parts.append(len(batches))
        return gradients(self, task, batches, count)

    monkeypatch.setattr(PaddedFeed, "at", without_rows)
    monkeypatch.setattr(ParallelLayout, "gradients", counted)
    run = train(recipe("classes, BERT", 2), "run")
    assert min(parts) > 0
    assert [line["grad_norm"] > 0 for line in run.metrics] == [True, False]
    assert run.metrics[1]["loss"] == 0


def test_biases_are_not_decayed_though_they_stand_in_a_table():
    config = XLNetConfig(vocab_size=8, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    slots = Optimizer(XLNet(config), OptimizerTable(name="muon")).slots
    kept = {slot.name.rpartition(".")[2] for slot in slots if not slot.decays}
    assert {"content_bias", "distance_bias", "segment_bias", "bias", "lm_bias"} <= kept
    assert not any(slot.is_matrix for slot in slots if not slot.decays)
    assert any(slot.is_matrix for slot in slots)


@pytest.mark.parametrize(("case", "compiled"), [("next token, GPT", 1), ("permutations, XLNet", 0)])
def test_batches_whose_shapes_vary_are_not_compiled_unasked(recipe, monkeypatch, case, compiled):
    asked = []
    monkeypatch.setattr("kun.training.compiling._WORTH", 0.0)
    monkeypatch.setattr(Loop, "compile", lambda self: asked.append(self.task))
    train(recipe(case, 1), "run")
    assert len(asked) == compiled

"""An encoder is fine-tuned with the pooling that it was trained with; parts of a network may keep their weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import kun
from kun import api
from kun.errors import BadRecipe, UnsupportedFormat
from kun.families.bert.bert import Bert
from kun.families.bert.config import BertConfig
from kun.hub.layout import write_sentence_layout
from kun.hub.saving import save_checkpoint
from kun.text.learn import byte_tokenizer
from kun.training.recipe import parse_recipe
from kun.training.train import train

ROWS = [
    {"text": f"{word} number {n}", "label": label}
    for n in range(12)
    for word, label in (("warm", "good"), ("cold", "bad"))
]


@pytest.fixture
def encoder(tmp_path):
    """Writes an encoder's checkpoint whose files tell a pooling, or tell nothing."""

    def write(pooling):
        torch.manual_seed(1)
        net = Bert(BertConfig(vocab_size=320, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_positions=48))
        folder = save_checkpoint(tmp_path / f"encoder-{pooling}", net, tokenizer=byte_tokenizer())
        if pooling is None:
            (folder / "1_Pooling" / "config.json").unlink()
            (folder / "modules.json").unlink()
        else:
            write_sentence_layout(folder, 16, 48, pooling, {})
        return str(folder)

    return write


@pytest.fixture
def tuned(tmp_path):
    def go(source, **changes):
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
        values = {
            "stage": "classify",
            "out": str(tmp_path / f"run{len(list(tmp_path.iterdir()))}"),
            "model": {"from": source},
            "data": {"train": str(data)},
            "train": {"steps": 2, "context": 32, "batch_tokens": 128, "precision": "fp32"},
            **changes,
        }
        return train(parse_recipe(values), "run").checkpoint

    return go


def said_pooling(checkpoint):
    return json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("classifier_pooling")


@pytest.mark.parametrize(
    ("pooling", "kept"), [("mean", "mean"), ("max", "max"), ("cls", "cls"), (None, None)]
)
def test_a_sentence_encoder_is_fine_tuned_with_the_pooling_that_it_was_trained_with(
    encoder, tuned, pooling, kept
):
    made = tuned(encoder(pooling))
    assert said_pooling(made) == kept
    assert kun.load(made).net.config.pooling == kept


def test_a_mean_pooled_judge_reads_every_state_when_it_is_loaded_again_and_goes_on(encoder, tuned):
    made = tuned(encoder("mean"))
    judge = kun.load(made)
    ids = torch.tensor([judge.tokenizer.encode("warm number 1").ids])
    with torch.no_grad():
        logits = judge.net.head.classifier(judge.net.states(ids).mean(dim=1))
    shares = judge.classify("warm number 1").probabilities
    assert list(shares.values()) == pytest.approx(logits.softmax(-1)[0].tolist(), abs=1e-5)
    assert not any("pooler" in name for name in load_file(made / "model.safetensors"))
    assert said_pooling(tuned(str(made))) == "mean"


def test_a_recipe_may_ask_for_another_pooling(encoder, tuned):
    assert said_pooling(tuned(encoder("mean"), objective={"pooling": "cls"})) == "cls"
    new = {"family": "gpt2", "n_layers": 1, "n_heads": 2, "d_model": 16, "tokenizer": "bytes"}
    with pytest.raises(BadRecipe, match=r"objective\.pooling.*reads the last token's state"):
        tuned("", model=new, objective={"pooling": "mean"})


def test_a_pooling_that_no_other_library_reads_is_not_exported(encoder, tuned, tmp_path):
    with pytest.raises(UnsupportedFormat, match=r"pools by mean.*objective\.pooling"):
        api.export(tuned(encoder("mean")), tmp_path / "out")


def test_a_frozen_part_keeps_its_weights_and_the_rest_learns(encoder, tuned):
    source = encoder("mean")
    made = tuned(source, model={"from": source, "frozen": ["embeddings.words", "layers.0"]})
    before = load_file(Path(source) / "model.safetensors")
    after = {
        name.removeprefix("bert."): weight for name, weight in load_file(made / "model.safetensors").items()
    }
    same = {name for name in before if name in after and torch.equal(before[name], after[name])}
    frozen = {name for name in after if name.startswith(("embeddings.word_", "encoder.layer.0."))}
    assert frozen <= same
    assert {"encoder.layer.1.attention.self.query.weight", "embeddings.LayerNorm.weight"}.isdisjoint(same)


def test_a_frozen_part_that_is_not_there_is_named_with_those_that_are(encoder, tuned):
    source = encoder("mean")
    with pytest.raises(BadRecipe, match=r"no part is called 'embedding'; there are .*embeddings\.words"):
        tuned(source, model={"from": source, "frozen": ["embedding"]})
    with pytest.raises(BadRecipe, match="leaves nothing to learn"):
        tuned(source, model={"from": source, "frozen": ["embeddings", "layers", "head"]})
    with pytest.raises(BadRecipe, match="an adapter freezes all"):
        tuned(source, model={"from": source, "frozen": ["layers.0"]}, lora={"rank": 2})

"""Preferences without a reward model."""

import json
import math

import pytest
import torch
import transformers
from small_talk import talks, write

import kun
from kun.alignment.preference_data import Preferences, RankingTokenizer
from kun.alignment.task import compared_batch
from kun.alignment.tasks.dpo import branch_log_probs
from kun.data.rows import BadRows
from kun.data.sources import Rows
from kun.data.tokenized import RowTokenizer
from kun.hub.opening import open_checkpoint


def told(run):
    return [
        json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_the_first_loss_is_ln_2_and_preferred_answers_become_likelier(recipe):
    run = kun.train(recipe("dpo", steps=30))
    lines = told(run)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[0]["margin"] == 0
    assert lines[-1]["eval_accuracy"] > 0.9
    assert lines[-1]["eval_margin"] > 0
    assert kun.load(run.checkpoint).generate("sea", max_tokens=2) is not None


@pytest.mark.parametrize("adapter", ["", "[lora]\nrank = 4\n"])
def test_in_bfloat16_too_the_first_loss_is_ln_2(recipe, adapter):
    first = told(kun.train(recipe("dpo", steps=1, more=adapter, precision='"bf16"')))[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["margin"] == 0


def test_ipo_begins_at_the_square_of_what_it_asks_for(recipe):
    run = kun.train(recipe("dpo", steps=1, more='[objective]\nloss = "ipo"\nbeta = 0.25\n'))
    assert told(run)[0]["loss"] == pytest.approx(4.0)


def test_under_an_adapter_the_reference_is_the_base_and_no_copy_is_held(recipe):
    run = kun.train(recipe("dpo", steps=20, more="[lora]\nrank = 4\n"), {"optimizer.lr": 1e-2})
    lines = told(run)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[-1]["loss"] < 0.5
    assert (run.checkpoint / "adapter_model.safetensors").is_file()


def test_an_adapter_that_starts_from_an_adapter_has_it_for_a_reference_and_loads_alone(
    recipe, tmp_path, base
):
    lora = "[lora]\nrank = 2\n"
    first = kun.train(recipe("dpo", steps=5, more=lora), {"optimizer.lr": 1e-2}).checkpoint
    changes = {"model.from": str(first), "out": str(tmp_path / "second"), "optimizer.lr": 1e-2}
    run = kun.train(recipe("dpo", steps=5, more=lora), changes)
    assert told(run)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    made = open_checkpoint(run.checkpoint)
    assert made.base.identity == open_checkpoint(base).identity
    assert made.stated["r"] == 4


def test_log_probabilities_are_those_of_the_rendered_conversation_in_the_reference(recipe, tmp_path):
    base = kun.train(recipe("dpo", steps=1)).checkpoint
    rows = list(talks(6, seed=2))
    checkpoint = open_checkpoint(base)
    tokens = RowTokenizer(checkpoint.tokenizer, template=checkpoint.chat_template)
    path = write(tmp_path / "pairs.jsonl", rows)
    data = Preferences.read(Rows(str(path)), RankingTokenizer(tokens, 128), BadRows())
    net = checkpoint.network("float32", "cpu").eval()
    with torch.no_grad():
        made = branch_log_probs(net, compared_batch(data.rankings))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    wanted = []
    for row in rows:
        asked = [{"role": "user", "content": row["prompt"]}]
        for side in ("chosen", "rejected"):
            whole = tokenizer.apply_chat_template(
                [*asked, {"role": "assistant", "content": row[side]}], tokenize=False
            )
            prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(whole.rstrip("\n"), return_tensors="pt", add_special_tokens=False).input_ids
            start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
            with torch.no_grad():
                log_p = theirs(ids).logits[0].log_softmax(-1)
            wanted.append(log_p[start - 1 : -1].gather(1, ids[0, start:, None]).sum())
    torch.testing.assert_close(made, torch.stack(wanted), rtol=1e-5, atol=1e-4)

"""What is sampled to be learned from: where an answer begins and ends, who reads it, and what it costs to diverge."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from spread_alignment import experiences, policy

import kun
from kun.alignment.experience import Experience, averages, experience_batch, in_parts, statistics
from kun.alignment.prompts import Prompt
from kun.alignment.rl_task import VALUE_HEAD
from kun.alignment.rollouts import AnswerFrame, ByRewardModel, Rollout, tree_of, turn_end
from kun.alignment.tasks.grpo import Grpo
from kun.errors import BadRecipe, DamagedFile
from kun.objectives.text.model import TrainingModel
from kun.text.chat import ChatTemplate


def told(run):
    return [
        json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def rollout(ids, text="", ended=True):
    return Rollout(np.array(ids, np.int32), np.zeros(len(ids), np.float32), text, ended)


def experience(place, *answers):
    prompt = Prompt(({"role": "user", "content": "x"},), np.arange(place, place + 3, dtype=np.int32), "x:1")
    some = [rollout(ids) for ids in answers]
    return Experience(prompt, tree_of(prompt, some), some, np.arange(len(some), dtype=np.float32), {})


def whole(some):
    [part] = in_parts(some, 10**6)
    return experience_batch(part)


def test_what_the_template_writes_before_an_answer_is_no_part_of_it(recipe, lm):
    judge = kun.load(kun.train(recipe("reward", steps=4)).checkpoint)
    frame = AnswerFrame.of(judge.template)
    assert frame.before == " "
    asked = [{"role": "user", "content": "sea"}]
    rendered = judge.template.render(asked)
    assert rendered.endswith("Assistant:")
    prompt = Prompt(tuple(asked), np.array([1], np.int32), "x:1")
    [scores] = ByRewardModel(judge)([prompt], [[rollout([1], "salt"), rollout([1], "salt", ended=False)]])
    whole = judge.score([[*asked, {"role": "assistant", "content": "salt"}]])
    cut = judge.score([f"{rendered} salt"])
    np.testing.assert_allclose(scores, [whole[0], cut[0]], rtol=1e-6)


def test_an_answer_ends_at_the_first_special_token_that_the_template_writes_behind_it(lm):
    spaced = ChatTemplate(
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ ' ' + eos_token }}{% endif %}{% endfor %}",
        {"eos_token": "<|endoftext|>"},
    )
    model = TrainingModel(lm.net, lm.family, lm.tokenizer, 128, spaced)
    frame = AnswerFrame.of(spaced)
    assert frame == ("", " <|endoftext|>")
    assert turn_end(model, frame) == lm.tokenizer.token_to_id("<|endoftext|>")


def test_an_answer_ends_where_serving_would_end_it_too(letters, base, tmp_path):
    every = shutil.copytree(base, tmp_path / "every")
    ends = {"eos_token_id": [*range(kun.load(base).config.vocab_size)]}
    (every / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")
    path, changes = letters('verifier = "text"', steps=1)
    first = told(kun.train(path, changes | {"model.from": str(every)}))[0]
    assert first["length"] == first["ended"] == 1


def test_the_cost_of_divergence_in_a_loss_of_groups_is_the_one_that_is_told_and_adapted(letters, tmp_path):
    more = 'verifier = "text"\nanswers = 4\nkl = 0.5\nkl_target = 3.0'
    path, changes = letters(more, stage="grpo", steps=3)
    lines = told(kun.train(path, changes | {"optimizer.lr": 1e-2}))
    assert [round(line["kl_coefficient"], 6) for line in lines[:2]] == [0.5, 0.49]
    task, networks, losses = Grpo(Grpo.Options(answers=2, kl=0.1)), policy(), []
    judge, some = task.judge(), experiences(8, 2)
    for kl in (0.0, 0.7):
        judge.weigh(some, kl, torch.device("cpu"))
        losses.append(float(task.loss(networks, whole(some)).sum.detach()))
    assert losses[1] > losses[0] + 1
    path, changes = letters(
        'verifier = "text"\nanswers = 4\nkl = 0.0\nkl_target = 3.0', stage="grpo", steps=1
    )
    with pytest.raises(BadRecipe, match=r"objective\.kl_target adapts objective\.kl, which is 0"):
        kun.train(path, changes | {"out": str(tmp_path / "free")})


def test_dropout_is_refused_where_what_was_said_is_read_again(letters):
    for key in ("model.dropout", "lora.dropout"):
        path, changes = letters('verifier = "text"', steps=1)
        with pytest.raises(BadRecipe, match=r"leave model\.dropout and lora\.dropout out"):
            kun.train(path, changes | {key: 0.1})


def test_a_training_goes_on_with_the_value_head_of_the_one_that_it_starts_from(letters, tmp_path):
    path, changes = letters('verifier = "text"', steps=1)
    head = {"weight": torch.full((1, 32), 0.5), "bias": torch.full((1,), 2.0)}
    start = kun.train(path, changes).checkpoint
    save_file(head, start / VALUE_HEAD)
    again = changes | {"model.from": str(start), "out": str(tmp_path / "again"), "optimizer.lr": 1e-30}
    kept = load_file(kun.train(path, again).checkpoint / VALUE_HEAD)
    assert all(torch.equal(kept[name], head[name]) for name in head)
    groups, others = letters('verifier = "text"\nanswers = 4', stage="grpo", steps=1)
    assert not (kun.train(groups, others).checkpoint / VALUE_HEAD).exists()
    (start / VALUE_HEAD).write_bytes(b"torn")
    with pytest.raises(DamagedFile, match=VALUE_HEAD):
        kun.train(path, again | {"out": str(tmp_path / "torn")})


def test_that_all_prompts_get_one_answer_is_told_of_all_processes_together():
    def sums(answer):
        return statistics([experience(place, answer) for place in range(4)])

    here, there, other = sums([5, 6]), sums([5, 6]), sums([7])
    assert averages({name: here[name] + there[name] for name in here})["alike"] == 1
    assert averages({name: here[name] + other[name] for name in here})["alike"] < 1


def test_a_group_that_is_too_large_to_learn_from_at_once_is_cut_into_answers():
    one = experience(0, [1, 2], [3], [4, 5, 6], [7])
    other = experience(9, [1])
    parts = in_parts([one, other], 7)
    assert [[list(piece.answers) for piece in part] for part in parts] == [[[0, 1]], [[2, 3]], [[0]]]
    assert max(sum(piece.tree.size for piece in part) for part in parts) <= 7
    assert [len(part) for part in in_parts([one, other], 100)] == [2]
    assert [len(part) for part in in_parts([one], 1)] == [1, 1, 1, 1]


def test_a_process_without_prompts_scores_nothing(recipe):
    judge = kun.load(kun.train(recipe("reward", steps=1)).checkpoint)
    assert ByRewardModel(judge)([], []) == []

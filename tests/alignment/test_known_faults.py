"""The known faults of the field, each provoked: padding, ends, masks, no numbers, heads, rewards that are hacked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_talk import write
from test_branches import SMALL, tree

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import save_reward_model

import kun
from kun.alignment.advantages import token_rewards
from kun.alignment.branches import planted, states_at
from kun.alignment.length import LengthFlag, correlation
from kun.alignment.prompts import Prompt
from kun.alignment.rl_task import policy_loss
from kun.alignment.rollout_feed import Plan
from kun.alignment.rollouts import ByRewardModel, Rollout
from kun.alignment.tasks.ppo import Ppo
from kun.errors import KunError
from kun.families.llama.config import LlamaConfig
from kun.families.llama.llama import Llama
from kun.training.log_probs import token_log_probs

END = 2


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A reward model whose padding is its end of turn, as SmolLM2's is."""
    return save_reward_model(tmp_path_factory.mktemp("judge") / "judge", positions=512)


def talk(turns):
    said = [("user", "你好 fox"), ("assistant", "a café 🙂")] * turns
    return [{"role": role, "content": f"{text} {number}"} for number, (role, text) in enumerate(said)]


def test_padding_that_is_the_end_of_a_turn_moves_no_score_on_either_side_over_one_to_five_turns(judge):
    model = kun.load(judge)
    assert model.config.pad_id == END == model.tokenizer.token_to_id("<|im_end|>")
    talks = [talk(turns) for turns in range(1, 6)]
    rows = [model.tokens(one) for one in talks]
    alone = np.concatenate([model.score([one]) for one in talks])
    assert np.ptp(alone) > 1e-3
    np.testing.assert_allclose(model.score(talks), alone, rtol=1e-5, atol=1e-5)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(judge, dtype=torch.float32)
    longest = max(map(len, rows))
    for side in ("left", "right"):
        padded = torch.full((len(rows), longest), END)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for number, row in enumerate(rows):
            place = slice(longest - len(row), None) if side == "left" else slice(len(row))
            padded[number, place], mask[number, place] = torch.tensor(row), True
        with torch.no_grad():
            ours = model.net(padded, mask).logits[:, 0].numpy()
            reference = theirs.eval()(padded, mask.long()).logits[:, 0].numpy()
        np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(reference, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("turns", [1, 3, 5])
def test_a_conversation_has_one_end_a_turn_and_no_second_beginning(judge, turns):
    from tokenizers.processors import TemplateProcessing

    model = kun.load(judge)
    model.tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )  # as tokenizers that begin every text do; the template has said all there is to say
    ids = model.tokens(talk(turns))
    assert ids.count(END) == ids.count(1) == 2 * turns
    assert ids.count(0) == 0


def test_a_cut_answer_is_read_without_the_end_of_its_turn(judge):
    model = kun.load(judge)
    said = talk(1)
    prompt = model.template.render(said[:1])
    [cut] = model.score([said], ended=[False])
    assert cut == pytest.approx(model.score([prompt + said[1]["content"]])[0], rel=1e-5)
    assert abs(cut - model.score([said])[0]) > 1e-4
    asked = Prompt(tuple(said[:1]), np.array([1], np.int32), "x:1")
    answers = [
        Rollout(np.array([1], np.int32), np.zeros(1, np.float32), said[1]["content"], ended)
        for ended in (True, False)
    ]
    [scores] = ByRewardModel(model)([asked], [answers])
    np.testing.assert_allclose(scores, [model.score([said])[0], cut], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 48])
def test_token_rewards_add_up_to_the_score_less_beta_times_the_divergence(length):
    rng = np.random.default_rng(length)
    log_probs, reference = (rng.normal(-3, 1, length).astype(np.float32) for _ in range(2))
    rewards = token_rewards(0.75, log_probs, reference, 0.1)
    wanted = 0.75 - 0.1 * (log_probs.astype(np.float64) - reference).sum()
    assert rewards.astype(np.float64).sum() == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_where_nothing_is_learned_loss_and_gradients_are_zero():
    net, one = Llama(LlamaConfig(**SMALL, n_kv_heads=1, d_head=16, d_ff=64)), tree(3, [2, 4])
    for learned in one.learned:
        learned[:] = False
    batch = planted([one])
    states = states_at(net.states(batch["input_ids"], batch["attention_mask"]), batch["places"])
    new = token_log_probs(net.head, states, batch["targets"]).values
    losses, _ = policy_loss(new, {"advantages": torch.zeros(0)}, clip=0.2, importance_cap=2.0)
    losses.sum().backward()
    assert losses.sum() == 0
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())


def test_a_number_that_is_none_does_not_spread_from_padding():
    torch.manual_seed(0)
    net = Llama(LlamaConfig(**SMALL, n_kv_heads=1, d_head=16, d_ff=64))
    batch = planted([tree(4, [3, 5]), tree(2, [1])], row=12)
    padding = ~batch["attention_mask"].diagonal(dim1=1, dim2=2)
    assert padding.any()

    def gradients(fill):
        net.zero_grad()
        states = net.states(batch["input_ids"], batch["attention_mask"])
        states = states.masked_fill(padding[:, :, None], fill)
        token_log_probs(
            net.head, states_at(states, batch["places"]), batch["targets"]
        ).values.sum().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    assert torch.equal(gradients(float("nan")), gradients(0.0))
    assert gradients(0.0).isfinite().all()


def test_what_sampler_and_trainer_disagree_on_is_weighed_by_their_ratio_up_to_a_cap():
    old = torch.tensor([-1.0, -1.0, -1.0])
    batch = {"advantages": torch.ones(3), "old": old, "sampler": torch.tensor([-1.0, -1.5, -5.0])}
    losses, _ = policy_loss(old.clone(), batch, clip=0.2, importance_cap=2.0)
    torch.testing.assert_close(losses, -torch.tensor([1.0, float(np.exp(0.5)), 2.0]))


def test_scores_are_bit_equal_in_a_fresh_process_and_a_missing_head_is_an_error(judge, tmp_path):
    path = write(tmp_path / "talks.jsonl", [{"messages": talk(turns)} for turns in (1, 2)])
    line = [sys.executable, "-m", "kun", "score", str(judge), str(path), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    elsewhere = [row["scores"][0] for row in json.loads(done.stdout)["rows"]]
    assert elsewhere == kun.load(judge).score([talk(1), talk(2)]).tolist()
    broken = save_reward_model(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(KunError, match=r"score\.weight|model\.safetensors"):
        kun.load(broken)


def told(run):
    return [
        json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_a_reward_model_of_another_tokenizer_rewards_through_the_text(letters, judge):
    lines = told(kun.train(*letters(f'reward = "{judge}"', eval_every=2)))
    assert np.isfinite([line["reward"] for line in lines]).all()
    assert lines[0]["reward_std"] > 0


def test_a_reward_that_never_changes_is_no_fault(letters, monkeypatch):
    monkeypatch.setattr(
        "kun.alignment.verifiers.ByVerifier.__call__",
        lambda self, prompts, answers: [np.ones(len(some), np.float32) for some in answers],
    )
    lines = told(kun.train(*letters('verifier = "text"\nanswers = 4', stage="grpo", eval_every=2)))
    assert np.isfinite([line["loss"] for line in lines]).all()
    assert lines[-1]["eval_reward"] == 1
    assert lines[0]["length_correlation"] == lines[0]["signal"] == 0


def test_a_reward_that_is_length_is_flagged_as_it_trains_and_in_the_figures(letters, monkeypatch):
    monkeypatch.setattr(
        "kun.alignment.verifiers.ByVerifier.__call__",
        lambda self, prompts, answers: [
            np.array([len(one.ids) + 0.01 * len(one.text) for one in some], np.float32) for some in answers
        ],
    )
    said = []
    path, changes = letters('verifier = "text"\nkl_ceiling = 1e9', eval_every=1, steps=1)
    monkeypatch.setattr(LengthFlag, "__call__", lambda self, value: said.append(value))
    last = told(kun.train(path, changes))[-1]
    assert last["eval_length_correlation"] == pytest.approx(said[-1])


def test_the_flag_is_raised_once_and_correlations_are_pearsons():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    y += x
    sums = [50, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]
    assert correlation(sums) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert correlation([3, 3.0, 5.0, 3.0, 9.0, 5.0]) == 0
    said = []
    flag = LengthFlag(lambda what, done, total, note="": said.append((what, note)))
    for value in (0.5, 0.95, 0.99):
        flag(value)
    assert [what for what, _ in said] == ["reward is length"]
    assert "0.95: longer" in said[0][1]


class First:
    """Stands for the feed: how the first rollout was."""

    def __init__(self, prompts=16):
        self.plan = Plan(prompts, 1, 6, 1.0)
        self.first = self.start = {"length": 10.0, "distinct": 0.9, "alike": 0.1}
        self.held_out = ()


SOUND = {"kl": 1.0, "length": 12.0, "distinct": 0.8, "alike": 0.2, "length_correlation": 0.1}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({}, ""),
        ({"kl": 31.0}, "kl_ceiling"),
        ({"distinct": 0.1}, "repeat themselves"),
        ({"length": 25.0, "length_correlation": 0.95}, "2.5 times as long"),
        ({"length": 25.0}, ""),
        ({"length_correlation": 0.95}, ""),
        ({"alike": 1.0}, "the same answer"),
    ],
)
def test_guards_end_a_training_that_exploits_its_reward_and_say_why(bad, why):
    task = Ppo(Ppo.Options())
    task.made = First()
    reason = task.verdict(SOUND | bad)
    assert why in reason
    assert bool(reason) == bool(why)
    assert task.is_sound(SOUND | bad) == (not why)  # and of what is held out it is not kept
    task = Ppo(Ppo.Options(guards=False))
    task.made = First()
    assert bool(task.verdict(SOUND | bad)) == ("kl" in bad)


@pytest.mark.parametrize(("prompts", "said"), [(16, [0.95]), (4, [])])
def test_without_held_out_prompts_rollouts_tell_of_a_reward_that_is_length(prompts, said):
    task, heard = Ppo(Ppo.Options()), []
    task.made, task.say_where_length_rules = First(prompts), heard.append
    task.made.held_out = None
    task.verdict(SOUND | {"length_correlation": 0.95})
    assert heard == said


def test_that_few_prompts_get_one_answer_is_chance_and_ends_nothing():
    task = Ppo(Ppo.Options())
    task.made = First(prompts=4)
    assert not task.verdict(SOUND | {"alike": 1.0})


@pytest.mark.parametrize("eval_every", [1, 100])
def test_a_training_that_is_ended_keeps_what_was_sound_and_says_why(letters, base, eval_every):
    path, changes = letters('verifier = "text"\nkl_ceiling = 1e-9', eval_every=eval_every, steps=9)
    run = kun.train(path, changes)
    assert len(told(run)) < 9
    facts = json.loads((run.path / "facts.json").read_text(encoding="utf-8"))
    assert "kl_ceiling" in facts["note"]
    kept, start = (load_file(folder / "model.safetensors") for folder in (run.checkpoint, base))
    assert all(torch.equal(kept[name], start[name]) for name in start)  # whatever came later had gone too far

"""Training by rewards: what is sampled is what is learned from, and the field's known faults are not here."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_talk import write

import kun
from kun.alignment.advantages import generalized_advantages, group_advantages, token_rewards
from kun.alignment.rl_task import VALUE_HEAD
from kun.alignment.rollout_feed import RolloutFeed
from kun.blocks import attention
from kun.errors import BadInput, BadRecipe, BadRow, Diverged
from kun.generation.options import SamplingOptions

LETTERS = "abcdefghijklmnop"


def told(run):
    return [
        json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """Prompts of one letter, whose right answer is that letter."""
    rows = [{"prompt": letter, "completion": letter} for letter in LETTERS]
    return write(tmp_path_factory.mktemp("letters") / "letters.jsonl", rows)


@pytest.fixture
def rewarded(recipe, letters):
    """The recipe of a training by rewards, on prompts of one letter."""

    def made(stage, objective='verifier = "text"', **keys):
        more = f"[objective]\nmax_tokens = 6\n{objective}\n"
        path = recipe(stage, more=more, **{"batch": 8, "steps": 2, "eval_every": 2} | keys)
        text = path.read_text(encoding="utf-8")
        lines = [
            f'train = "{letters}"' if line.startswith("train = ") else line for line in text.splitlines()
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return made


@pytest.fixture
def letters_only(monkeypatch):
    """Letters are worth their share of an answer, so that 1 is the optimum; at first one token of sixteen is one."""

    def scores(self, prompts, answers):
        return [
            np.array([np.mean((one.ids >= 97) & (one.ids < 113)) for one in some], np.float32)
            for some in answers
        ]

    monkeypatch.setattr("kun.alignment.verifiers.ByVerifier.__call__", scores)


GROUPS = 'verifier = "text"\nanswers = 4'


@pytest.mark.parametrize(("stage", "objective"), [("ppo", 'verifier = "text"'), ("grpo", GROUPS)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_policy_against_itself_has_no_divergence_and_ratios_of_one(
    rewarded, stage, objective, temperature
):
    run = kun.train(rewarded(stage, f"{objective}\ntemperature = {temperature}", steps=1))
    first = told(run)[0]
    assert abs(first["kl"]) < 1e-6 * max(1.0, first["length"])
    assert first["clipped"] == 0
    assert abs(first["old_kl"]) < 5e-11  # the mean of half the square of what ratios differ from one by
    assert first["off_sampler"] < 0.02
    assert 1 <= first["length"] <= 6
    assert first["entropy"] > 0


def test_what_would_sample_from_another_distribution_than_is_learned_from_is_refused():
    for bent in (
        {"top_k": 5},
        {"top_p": 0.9},
        {"min_p": 0.1},
        {"temperature": 0.0},
        {"repetition_penalty": 1.1},
    ):
        with pytest.raises(BadInput, match="cannot be combined with for_training"):
            SamplingOptions(for_training=True, **bent)


def test_rewards_of_tokens_add_up_to_the_score_less_the_cost_of_divergence():
    rng = np.random.default_rng(0)
    log_probs, reference = (rng.normal(size=7).astype(np.float32) for _ in range(2))
    rewards = token_rewards(1.5, log_probs, reference, 0.1)
    assert rewards.sum() == pytest.approx(1.5 - 0.1 * (log_probs - reference).sum(), rel=1e-6)
    assert token_rewards(1.5, log_probs[:1], reference[:1], 0.0).tolist() == [1.5]


FINITE = st.floats(-10, 10, width=32)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=12), st.floats(0, 1), st.floats(0.5, 1))
def test_advantages_are_sums_of_discounted_errors(pairs, lam, gamma):
    rewards, values = (np.array(each, np.float32) for each in zip(*pairs, strict=True))
    advantages, returns = generalized_advantages(rewards, values, gamma=gamma, lam=lam)
    ahead = np.append(values[1:], 0.0)
    errors = rewards + gamma * ahead - values
    for place in range(len(rewards)):
        wanted = sum((gamma * lam) ** (later - place) * errors[later] for later in range(place, len(rewards)))
        assert advantages[place] == pytest.approx(wanted, abs=1e-3)
    np.testing.assert_allclose(returns, advantages + values, atol=1e-5)


def test_a_group_of_equal_rewards_teaches_nothing_and_is_counted(rewarded, tmp_path):
    assert group_advantages([0.5, 0.5, 0.5]).tolist() == [0, 0, 0]
    assert group_advantages([1.0, 0.0]).sum() == 0
    run = kun.train(rewarded("grpo", GROUPS, steps=1))  # letters alone are never said at random
    assert told(run)[0]["signal"] <= 0.5
    assert "signal" not in told(kun.train(rewarded("ppo", steps=1), {"out": str(tmp_path / "ppo")}))[0]


def test_a_training_by_rewards_goes_on_bit_for_bit(rewarded, tmp_path):
    objective = 'verifier = "text"\nepochs = 2\nminibatches = 2'
    last = {"train.keep": "last"}  # the best could be of steps that both have made
    whole = kun.train(
        rewarded("ppo", objective, steps=16, snapshot_every=8), last | {"out": str(tmp_path / "whole")}
    )
    half = rewarded("ppo", objective, steps=8, snapshot_every=8)
    kun.train(half, last | {"out": str(tmp_path / "half")})
    again = kun.train(half, last | {"out": str(tmp_path / "half"), "train.steps": 16}, resume=True)
    for file in ("model.safetensors", VALUE_HEAD):
        assert (whole.checkpoint / file).read_bytes() == (again.checkpoint / file).read_bytes()


def test_a_rollout_begun_at_the_end_is_learned_from_whole_and_evaluated_once(rewarded):
    objective = 'verifier = "text"\nepochs = 2\nminibatches = 2'
    run = kun.train(rewarded("ppo", objective, steps=1, eval_every=100), {"data.eval": 0.4})
    assert ["eval_reward" in line for line in told(run)] == [False, False, False, True]


def test_gradients_do_not_depend_on_how_a_batch_is_cut(rewarded, tmp_path):
    lines = [
        told(
            kun.train(rewarded("ppo", steps=1, micro_batch_tokens=most), {"out": str(tmp_path / str(most))})
        )[0]
        for most in (8192, 200, 1)
    ]
    for other in lines[1:]:
        assert other["grad_norm"] == pytest.approx(lines[0]["grad_norm"], rel=1e-4)
        assert other["loss"] == pytest.approx(lines[0]["loss"], abs=1e-5)


def test_one_reward_that_is_no_number_stops_the_run_and_names_the_prompt(rewarded, monkeypatch):
    def scores(self, prompts, answers):
        return [np.full(len(some), np.nan, np.float32) for some in answers]

    monkeypatch.setattr("kun.alignment.verifiers.ByVerifier.__call__", scores)
    with pytest.raises(Diverged, match=r"letters\.jsonl:\d+"):
        kun.train(rewarded("ppo", steps=1))


def test_a_prompt_without_a_right_answer_cannot_be_verified(rewarded, tmp_path):
    path = write(tmp_path / "texts.jsonl", [{"text": "a"}, {"text": "b"}])
    with pytest.raises(BadRow, match="no answer that others could be compared with"):
        kun.train(rewarded("ppo", steps=1), {"data.train": str(path), "data.eval": 0.5})


def test_a_recipe_names_what_rewards(rewarded):
    with pytest.raises(BadRecipe, match="name one"):
        kun.train(rewarded("ppo", ""))
    with pytest.raises(BadRecipe, match="no whole groups"):
        kun.train(rewarded("grpo", 'verifier = "text"\nanswers = 3'))
    with pytest.raises(BadRecipe, match="leaves no room for a prompt"):
        kun.train(rewarded("ppo", 'verifier = "text"'), {"objective.max_tokens": 500})


def test_going_too_far_from_the_reference_ends_the_training_and_says_why(rewarded):
    run = kun.train(rewarded("ppo", 'verifier = "text"\nkl_ceiling = 1e-9', steps=6))
    assert len(told(run)) < 6
    facts = json.loads((run.path / "facts.json").read_text(encoding="utf-8"))
    assert "kl_ceiling" in facts["note"]


@pytest.mark.usefixtures("letters_only")
def test_under_an_adapter_the_reference_is_the_base_with_the_adapter_off(rewarded, tmp_path):
    changes = {"lora.rank": 4, "optimizer.lr": 3e-2, "train.keep": "last", "data.eval": 0.4}
    run = kun.train(rewarded("ppo", steps=6), changes)
    lines = told(run)
    assert abs(lines[0]["kl"]) < 1e-6 * max(1.0, lines[0]["length"])
    assert abs(lines[-1]["kl"]) > 1e-3  # with the adapter on it would be none
    assert (run.checkpoint / "adapter_model.safetensors").is_file()
    assert (run.checkpoint / VALUE_HEAD).is_file()
    path, start = rewarded("ppo", steps=1), {"model.from": str(run.checkpoint), "lora.rank": 4}
    first = told(kun.train(path, start | {"out": str(tmp_path / "second")}))[0]
    assert abs(first["kl"]) < 1e-6 * max(
        1.0, first["length"]
    )  # the start, itself an adapter, is the reference


def test_what_was_pretrained_is_mixed_in_and_goes_on_bit_for_bit(rewarded, tmp_path):
    text = write(
        tmp_path / "text.jsonl", [{"text": f"the sea is {number} miles wide"} for number in range(40)]
    )
    mixed = f'verifier = "text"\nptx = 1.0\nptx_data = "{text}"\nptx_tokens = 256'
    plain = told(kun.train(rewarded("ppo", steps=1), {"out": str(tmp_path / "plain")}))[0]
    last = {"train.keep": "last"}
    whole = kun.train(
        rewarded("ppo", mixed, steps=4, snapshot_every=2), last | {"out": str(tmp_path / "whole")}
    )
    assert told(whole)[0]["loss"] > plain["loss"] + 1  # nats of a token, of which it knows none yet
    assert told(whole)[0]["entropy"] == pytest.approx(plain["entropy"])
    half = rewarded("ppo", mixed, steps=2, snapshot_every=2)
    kun.train(half, last | {"out": str(tmp_path / "half")})
    again = kun.train(half, last | {"out": str(tmp_path / "half"), "train.steps": 4}, resume=True)
    first, second = ((run.checkpoint / "model.safetensors").read_bytes() for run in (whole, again))
    assert first == second
    with pytest.raises(BadRecipe, match="belong together"):
        kun.train(rewarded("ppo", 'verifier = "text"\nptx = 1.0'))


@pytest.mark.usefixtures("letters_only")
@pytest.mark.parametrize(("stage", "objective"), [("ppo", 'verifier = "text"'), ("grpo", GROUPS)])
def test_it_finds_what_is_rewarded_most(rewarded, stage, objective):
    path = rewarded(stage, f"{objective}\nkl = 0.0\nkl_ceiling = 1e9\nepochs = 2", steps=80, batch=32)
    lines = told(kun.train(path, {"optimizer.lr": 1e-2, "data.eval": 0.4, "train.eval_every": 40}))
    assert lines[0]["reward"] < 0.2
    assert lines[-1]["reward"] > 0.95
    assert lines[-1]["eval_reward"] > 0.95
    assert lines[-1]["kl"] > lines[0]["kl"]


def test_a_reward_model_rewards_and_the_same_prompts_are_shown_as_training_goes_on(rewarded, recipe):
    judge = kun.train(recipe("reward", steps=20)).checkpoint
    path = rewarded("ppo", f'reward = "{judge}"', steps=4, eval_every=2)
    run = kun.train(path, {"data.eval": 0.4})
    last = told(run)[-1]
    assert {"eval_gain", "eval_reward", "eval_kl", "length_correlation", "explained_variance"} <= last.keys()
    samples = [
        json.loads(line) for line in (run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    shown = len(samples) // 3
    assert [sample["step"] for sample in samples] == [0] * shown + [2] * shown + [4] * shown
    before, between, after = (
        [one["prompt"] for one in samples[first : first + shown]] for first in (0, shown, 2 * shown)
    )
    assert before == between == after


def test_under_adapters_policy_and_reward_model_have_one_base(rewarded, recipe, base):
    judge = kun.train(recipe("reward", steps=20), {"lora.rank": 4}).checkpoint
    model, policy = kun.load(judge), kun.load(base)
    talks = [[{"role": "user", "content": text}, {"role": "assistant", "content": text}] for text in LETTERS]
    alone = model.score(talks)
    saved = model.share(policy.net.requires_grad_(False))
    theirs = dict(policy.net.named_parameters())
    shared = [name for name, weight in model.net.decoder.named_parameters() if theirs.get(name) is weight]
    assert (
        saved
        == sum(theirs[name].nbytes for name in shared)
        > 0.7
        * sum(
            weight.nbytes
            for weight in theirs.values()  # all but the head of words, which no score needs
        )
    )
    np.testing.assert_allclose(
        model.score(talks), alone, atol=3e-5
    )  # pairs beside matrices, or added to them

    told = []
    path = rewarded("ppo", f'reward = "{judge}"', steps=2)
    kun.train(path, {"lora.rank": 4}, progress=lambda what, done, total, detail: told.append(what))
    assert "shared with the reward model" in told


@pytest.mark.parametrize("adapter", [{}, {"lora.rank": 4}], ids=["whole", "adapter"])
def test_in_bfloat16_ratios_begin_at_one_for_both_sides_are_read_by_the_same_kernels(
    rewarded, monkeypatch, adapter
):
    used, reads = set(), RolloutFeed._read

    def counted(*given, **named):
        used.add("another kernel than training's")
        return torch.nn.functional.scaled_dot_product_attention(*given, **named)

    def read(feed, some):
        with monkeypatch.context() as patch:
            other = SimpleNamespace(**vars(torch.nn.functional) | {"scaled_dot_product_attention": counted})
            patch.setattr(attention, "F", other)
            reads(feed, some)

    monkeypatch.setattr(RolloutFeed, "_read", read)
    path = rewarded("ppo", steps=1, batch=64, precision='"bf16"')
    first = told(kun.train(path, adapter))[0]
    assert first["clipped"] == 0
    assert abs(first["old_kl"]) < 1e-7
    assert abs(first["kl"]) < 1e-5
    assert not used

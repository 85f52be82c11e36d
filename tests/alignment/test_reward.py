"""Reward models: learned from pairs and rankings, and the same score wherever a conversation stands."""

import json
import math

import numpy as np
import pytest
import torch
import transformers
from small_talk import talks, write
from torch import nn

import kun
from kun.alignment.preference_data import Compared, Preferences, RankingTokenizer
from kun.alignment.probe import PairStates, fitted_head
from kun.alignment.scoring import score_file
from kun.alignment.task import compared_batch
from kun.alignment.tasks.reward import Reward, branch_scores
from kun.data.rows import BadRows
from kun.data.sources import Rows
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput
from kun.hub.opening import open_checkpoint
from kun.training.networks import Networks


@pytest.fixture
def trained(recipe):
    return kun.train(recipe("reward"))


def told(run):
    return [
        json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def conversation(row, side):
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]


def test_a_reward_model_learns_what_people_prefer_and_says_how_sure_it_is(trained):
    lines = told(trained)
    assert lines[0]["loss"] < 0.9 * math.log(2)  # by the head that was fitted before the first step
    last = lines[-1]
    assert last["eval_accuracy"] > 0.9
    assert 0 <= last["eval_accuracy_error"] < 0.1
    assert last["eval_margin"] > 0
    assert 0 <= last["eval_calibration_error"] < 0.5
    model = kun.load(trained.checkpoint)
    unseen = list(talks(50, seed=7))
    better, worse = (
        model.score([conversation(row, side) for row in unseen]) for side in ("chosen", "rejected")
    )
    assert better.dtype == np.float32
    assert (better > worse).mean() > 0.9


def test_without_a_fitted_head_the_first_loss_is_that_of_a_coin(recipe):
    run = kun.train(recipe("reward", steps=1, more="[objective]\nprobe = 0\n"))
    assert told(run)[0]["loss"] == pytest.approx(math.log(2))


def test_the_head_that_is_fitted_finds_what_better_answers_have_in_common_and_nothing_in_noise():
    chance = torch.Generator().manual_seed(3)
    worse, noise = (torch.randn(300, 40, generator=chance) for _ in range(2))
    sought = torch.zeros(40)
    sought[7] = 1.0
    ones, zeros, own = torch.ones(300), torch.zeros(300), list(range(300))
    far = 5 * torch.ones(40)  # where all states are, which tells nothing of an answer
    better = worse + noise + 1.5 * sought
    head = fitted_head(PairStates(better + far, worse + far, ones, zeros, own), center=0.01)
    assert head is not None
    assert torch.nn.functional.cosine_similarity(head, sought, dim=0) > 0.9
    assert ((better + worse) / 2 + far).mean(dim=0) @ head < 0.3 * sought @ head
    nothing = fitted_head(PairStates(worse + noise, worse, ones, zeros, own), center=0.01)
    assert nothing is None or nothing.norm() < 0.2 * head.norm()
    few = [number % 10 for number in own]
    assert fitted_head(PairStates(better, worse, ones, zeros, few), center=0.01) is None


def test_transformers_loads_it_and_gives_the_same_scores_padded_on_either_side(trained):
    rows = list(talks(6, seed=3))
    model = kun.load(trained.checkpoint, dtype="float32")
    chats = [conversation(row, "chosen") for row in rows]
    chats.append([*chats[0], {"role": "user", "content": "more"}, {"role": "assistant", "content": "no"}])
    scores = model.score(chats)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        trained.checkpoint, dtype=torch.float32
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.checkpoint)
    assert theirs.config.num_labels == 1
    for side in ("left", "right"):
        tokenizer.padding_side = side
        encoded = tokenizer.apply_chat_template(chats, padding=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            logits = theirs(**encoded).logits[:, 0]
        np.testing.assert_allclose(scores, logits.numpy(), atol=1e-4)


def test_a_score_is_the_same_alone_and_among_others_over_one_to_five_turns(trained):
    model = kun.load(trained.checkpoint, dtype="float32")
    chats = []
    for turns in range(1, 6):
        said = [message for row in talks(turns, seed=turns) for message in conversation(row, "chosen")]
        chats.append(said)
    chats += [conversation(row, which) for row in talks(3) for which in ("chosen", "rejected")]
    together = model.score(chats)
    alone = np.concatenate([model.score([chat]) for chat in chats])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert model.score(chats).tolist() == together.tolist()


def test_a_conversation_beyond_the_context_is_cut_from_its_front(trained):
    model = kun.load(trained.checkpoint)
    limit = model.config.context_length
    long = [{"role": "user", "content": "a" * (2 * limit)}, {"role": "assistant", "content": "b"}]
    longer = [{"role": "user", "content": "c" + "a" * (2 * limit)}, {"role": "assistant", "content": "b"}]
    first, second = model.score([long, longer])
    assert first == second


def test_nothing_to_score_is_refused(trained):
    model = kun.load(trained.checkpoint)
    with pytest.raises(BadInput, match="without a word"):
        model.score([""])
    assert model.score([]).shape == (0,)


class Bag(nn.Module):
    """Stands for the network: only its scores matter to the loss."""


def losses(groups, scores, monkeypatch, **options):
    """The loss of one ranking whose branches have these scores."""
    from test_branches import tree

    ranks = tuple(rank for rank, size in enumerate(groups) for _ in range(size))
    one = Compared(tree(3, list(range(1, len(ranks) + 1))), ranks, "x:1", options.pop("margin", 0.0))
    batch = compared_batch([one])
    task = Reward(Reward.Options(**options))
    monkeypatch.setattr(
        "kun.alignment.tasks.reward.branch_scores",
        lambda net, batch: torch.tensor(scores, requires_grad=True),
    )
    return float(task.loss(Networks(Bag()), batch).sum)


def test_all_pairs_of_a_ranking_count_one_together_and_ties_are_not_compared(monkeypatch):
    scores = [2.0, 1.0, 0.5, -1.0]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
    wanted = np.mean([math.log1p(math.exp(scores[b] - scores[a])) for a, b in pairs])
    assert losses([1, 2, 1], scores, monkeypatch, center=0.0) == pytest.approx(wanted, rel=1e-6)


def test_a_margin_asks_for_more_and_centring_for_scores_around_zero(monkeypatch):
    plain = losses([1, 1], [1.0, 0.0], monkeypatch, center=0.0)
    assert plain == pytest.approx(math.log1p(math.exp(-1)))
    assert losses([1, 1], [1.0, 0.0], monkeypatch, center=0.0, margin=0.5) == pytest.approx(
        math.log1p(math.exp(-0.5))
    )
    assert losses([1, 1], [1.0, 0.0], monkeypatch, center=0.1) == pytest.approx(plain + 0.1)


def test_rankings_teach_the_same_stage(recipe, tmp_path):
    rows = [
        {"prompt": row["prompt"], "ranking": [row["chosen"], [row["rejected"], row["rejected"] + " no"]]}
        for row in talks(40)
    ]
    path = write(tmp_path / "rankings.jsonl", rows)
    run = kun.train(recipe("reward", steps=3), {"data.train": str(path), "data.eval": 0.3})
    assert told(run)[-1]["step"] == 3


def test_equal_answers_and_contradictions_are_counted_and_named(recipe, tmp_path):
    rows = list(talks(20))
    rows.append({"prompt": "same", "chosen": "a", "rejected": "a"})
    rows.append({"prompt": rows[0]["prompt"], "chosen": rows[0]["rejected"], "rejected": rows[0]["chosen"]})
    path = write(tmp_path / "odd.jsonl", rows)
    for option, dropped in (("keep", 1), ("drop", 3)):
        out = tmp_path / option
        run = kun.train(
            recipe("reward", steps=1, more=f'[objective]\ncontradictory = "{option}"\n'),
            {"data.train": str(path), "data.eval": 0.3, "out": str(out)},
        )
        facts = json.loads((run.path / "facts.json").read_text(encoding="utf-8"))["data"]
        assert facts["dropped"] == dropped
        assert facts["contradicted"] == 2
        assert "odd.jsonl:21" in facts["examples"][0]


def test_a_reward_model_goes_on_bit_for_bit_where_it_was_interrupted(recipe, tmp_path):
    whole = kun.train(recipe("reward", steps=6, snapshot_every=3), {"out": str(tmp_path / "whole")})
    half = recipe("reward", steps=3, snapshot_every=3)
    kun.train(half, {"out": str(tmp_path / "half")})
    again = kun.train(half, {"out": str(tmp_path / "half"), "train.steps": 6}, resume=True)
    first, second = ((run.checkpoint / "model.safetensors").read_bytes() for run in (whole, again))
    assert first == second


def test_the_gradient_does_not_depend_on_how_a_batch_is_cut(recipe, tmp_path):
    lines = [
        told(
            kun.train(
                recipe("reward", steps=2, micro_batch_tokens=tokens), {"out": str(tmp_path / str(tokens))}
            )
        )
        for tokens in (8192, 200, 1)
    ]
    for other in lines[1:]:
        for a, b in zip(lines[0], other, strict=True):
            assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-4)
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)


def test_a_prompt_is_cut_from_its_front_and_an_answer_that_does_not_fit_is_left_out(recipe, tmp_path):
    rows = list(talks(10))
    rows.append({"prompt": "x" * 400, "chosen": "short please", "rejected": "short"})
    rows.append({"prompt": "y", "chosen": "long " * 60, "rejected": "short"})
    path = write(tmp_path / "long.jsonl", rows)
    run = kun.train(recipe("reward", steps=1), {"data.train": str(path), "data.eval": 0.3})
    facts = json.loads((run.path / "facts.json").read_text(encoding="utf-8"))["data"]
    assert (facts["cut"], facts["dropped"]) == (1, 1)
    assert "long.jsonl:12: an answer alone has more than 127 tokens" in facts["examples"][0]


def test_training_gives_a_conversation_the_number_that_scoring_gives_it(trained, tmp_path):
    model, checkpoint = kun.load(trained.checkpoint), open_checkpoint(trained.checkpoint)
    tokens = RowTokenizer(checkpoint.tokenizer, template=checkpoint.chat_template)
    system = {"role": "system", "content": "Be kind."}
    turns = [system, *conversation({"prompt": "sea", "chosen": "salt"}, "chosen")]
    rows = [{**row, "prompt": [*turns, {"role": "user", "content": row["prompt"]}]} for row in talks(4)]
    for row in rows:
        row |= {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    data = Preferences.read(
        Rows(str(write(tmp_path / "turns.jsonl", rows))), RankingTokenizer(tokens, 256), BadRows()
    )
    with torch.no_grad():
        trained_on = branch_scores(model.net, compared_batch(data.rankings)).tolist()
    scored = model.score([row["prompt"] + row[side] for row in rows for side in ("chosen", "rejected")])
    np.testing.assert_allclose(scored, trained_on, rtol=1e-5, atol=1e-5)


def test_what_is_cut_is_the_front_of_the_prompt(trained, tmp_path):
    checkpoint = open_checkpoint(trained.checkpoint)
    tokens = RowTokenizer(checkpoint.tokenizer, template=checkpoint.chat_template)
    row = {"prompt": "".join(chr(97 + n % 26) for n in range(400)), "chosen": "please", "rejected": "no"}
    path = write(tmp_path / "long.jsonl", [row])
    whole, cut = (
        Preferences.read(Rows(str(path)), RankingTokenizer(tokens, longest), BadRows()).rankings[0].tree
        for longest in (1000, 128)
    )
    assert cut.longest == 128
    assert cut.trunk.tolist() == whole.trunk[-len(cut.trunk) :].tolist()
    assert [one.tolist() for one in cut.branches] == [one.tolist() for one in whole.branches]


def test_data_of_another_kind_is_refused_with_what_to_name(recipe, tmp_path):
    path = write(tmp_path / "text.jsonl", [{"text": "a"}])
    with pytest.raises(BadInput, match="learns from preferences"):
        kun.train(recipe("reward"), {"data.train": str(path)})


def test_kun_score_tells_how_often_the_better_answer_has_the_higher_score(trained, tmp_path, capsys):
    from kun.cli.app import run

    path = write(tmp_path / "unseen.jsonl", talks(30, seed=9))
    assert run(["score", str(trained.checkpoint), str(path), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["accuracy"]["rankings"] == len(made["rows"]) == 30
    assert made["accuracy"]["mean"] > 0.9
    assert run(["score", str(trained.checkpoint), str(path)]) == 0
    assert "of 30 rankings" in capsys.readouterr().out
    talks_only = write(
        tmp_path / "talks.jsonl", [{"messages": conversation(row, "chosen")} for row in talks(3)]
    )
    assert run(["score", str(trained.checkpoint), str(talks_only)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_score_that_is_no_number_names_its_row(tmp_path):
    class Broken:
        name = "broken"

        def score(self, talks):
            return np.where(np.arange(len(talks)) == 3, np.nan, 0.5)

    path = write(tmp_path / "unseen.jsonl", talks(3))
    with pytest.raises(BadInput, match=r"unseen\.jsonl:2.*nan.*broken"):
        list(score_file(Broken(), path))


def test_kun_score_refuses_what_is_no_reward_model(base, tmp_path, capsys):
    from kun.cli.app import run

    path = write(tmp_path / "unseen.jsonl", talks(3))
    assert run(["score", str(base), str(path)]) == 2
    assert "is no reward model" in capsys.readouterr().err

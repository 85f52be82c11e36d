"""Best of n and rejection sampling: what is sampled, which answer is taken, and what is written to learn from."""

import json
import math

import numpy as np
import pytest
from small_talk import write

import kun
from kun.alignment import candidates
from kun.alignment.candidates import (
    Candidates,
    Sampling,
    read_prompts,
    sampled_answers,
    scored_candidates,
    write_kept,
)
from kun.alignment.prompts import Prompt
from kun.alignment.rollouts import ByRewardModel, Rollout
from kun.cli.app import run as command
from kun.data.rows import Conversation
from kun.data.sources import Rows
from kun.errors import BadInput


def answer(text, ended=True):
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return Rollout(ids, np.zeros(len(ids), np.float32), text, ended)


def asked(*answers, scores, question="a"):
    prompt = Prompt(({"role": "user", "content": question},), np.array([1], np.int32), "file:1")
    return Candidates(prompt, answers, scores)


def by_letters(prompts, answers):
    """The share of letters in each answer."""
    return [
        np.array([np.mean([each.isalpha() for each in one.text] or [0]) for one in some], np.float32)
        for some in answers
    ]


@pytest.fixture
def prompts(tmp_path):
    return write(
        tmp_path / "prompts.jsonl", [{"prompt": letter, "completion": letter} for letter in "abcdef"]
    )


def test_the_best_answer_has_the_highest_score_of_those_that_came_to_an_end():
    one = asked(answer("x"), answer("y"), answer("z", ended=False), answer("w"), scores=(0.1, 0.7, 2.0, 0.7))
    assert (one.best, one.answer) == (1, "y")
    cut = asked(answer("x", ended=False), answer("y", ended=False), scores=(1.0, 2.0))
    assert cut.answer == "y"
    assert not cut.is_kept(-math.inf)
    assert not asked(answer(" "), scores=(5.0,)).is_kept(0)
    assert one.is_kept(0.7)
    assert not one.is_kept(0.71)


def test_the_best_of_n_differs_by_no_more_than_a_known_number_of_nats():
    assert Sampling(1).divergence == 0
    assert Sampling(8).divergence == pytest.approx(math.log(8) - 7 / 8)


@pytest.mark.parametrize("wrong", [{"answers": 0}, {"answers": 1000}, {"answers": 2, "temperature": 0.0}])
def test_what_cannot_be_sampled_is_refused(wrong):
    with pytest.raises(BadInput):
        Sampling(**wrong)


def test_what_is_drawn_depends_on_the_seed_and_the_prompts_number_alone(lm, prompts, monkeypatch):
    how = Sampling(3, 6, 1.0, seed=5)
    read = read_prompts(lm, prompts, how).prompts
    whole = [[one.text for one in some] for _, some in sampled_answers(lm, read, how)]
    monkeypatch.setattr(candidates, "_AT_ONCE", 4)
    few = [[one.text for one in some] for _, some in sampled_answers(lm, read[:3], how)]
    assert few == whole[:3]
    other = [[one.text for one in some] for _, some in sampled_answers(lm, read, Sampling(3, 6, 1.0, seed=6))]
    assert other != whole


def test_the_best_of_more_answers_is_better_and_what_is_written_is_what_training_reads(lm, prompts, tmp_path):
    how = Sampling(8, 6)
    read = read_prompts(lm, prompts, how).prompts
    found = list(scored_candidates(lm, by_letters, read, how))
    assert [len(one.answers) for one in found] == [8] * 6
    mean = np.mean([one.scores for one in found])
    assert np.mean([max(one.scores) for one in found]) > mean
    ended = [
        asked(answer("yes"), answer("no"), scores=(0.2, 0.9), question="a"),
        asked(answer("cut", ended=False), scores=(0.9,), question="b"),
        asked(answer("bad"), scores=(0.1,), question="c"),
    ]
    path = tmp_path / "kept.jsonl"
    kept = write_kept(ended, path, least=0.5)
    assert (kept.prompts, kept.kept) == (3, 1)
    assert kept.best == pytest.approx((0.9 + 0.9 + 0.1) / 3)
    [row] = Rows(path)
    assert isinstance(row, Conversation)
    assert [message["content"] for message in row.messages] == ["a", "no"]


def test_nothing_is_written_where_no_answer_is_worth_learning_from(tmp_path):
    path = tmp_path / "kept.jsonl"
    with pytest.raises(BadInput, match="None of 1 prompts"):
        write_kept([asked(answer("x"), scores=(0.0,))], path, least=0.5)
    assert not path.exists()


def test_a_score_that_is_no_number_names_the_prompt(lm, prompts):
    how = Sampling(2, 2)
    read = read_prompts(lm, prompts, how).prompts
    with pytest.raises(BadInput, match=r"prompts\.jsonl:1"):
        list(scored_candidates(lm, lambda _, answers: [np.full(len(a), np.nan) for a in answers], read, how))


def test_prompts_that_leave_no_room_are_left_out(lm, tmp_path):
    path = write(tmp_path / "long.jsonl", [{"text": "short"}, {"text": "long " * 100}])
    assert read_prompts(lm, path, Sampling(2, 20)).counts.dropped == 1
    with pytest.raises(BadInput, match="leave no room"):
        read_prompts(lm, path, Sampling(2, 500))


def test_a_reward_model_takes_something_off_what_was_cut():
    class Same:
        def score(self, talks, ended=None):
            return np.ones(len(talks), np.float32)

    prompt = asked(answer("x"), scores=(0.0,)).prompt
    [scores] = ByRewardModel(Same(), cut_penalty=0.75)([prompt], [[answer("x"), answer("y", ended=False)]])
    assert scores.tolist() == [1.0, 0.25]


def test_kun_score_samples_and_shows_the_best_answers_and_writes_those_worth_learning_from(
    lm, recipe, prompts, tmp_path, capsys
):
    judge = kun.train(recipe("reward", steps=2)).checkpoint
    prompts.write_text(prompts.read_text() + prompts.read_text().splitlines()[0] + "\n")  # asked twice
    policy, out = str(lm.checkpoint.path), tmp_path / "kept.jsonl"
    asks = [str(prompts), "--best-of", "4", "--from", policy, "--quantize", "none", "--max-tokens", "4"]
    assert command(["score", str(judge), *asks, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["rows"]) == 6
    assert (told["dropped"], told["duplicates"]) == (0, 1)
    assert all(row["score"] <= max(row["scores"]) for row in told["rows"])
    assert command(["score", str(judge), *asks]) == 0
    shown = capsys.readouterr().out
    assert "of the best of 4 to 6 prompts" in shown
    assert "1 prompts were left out: the file asks the same before" in shown
    assert command(["score", "verifier:text", *asks, "-o", str(out)]) == 2  # it never says a letter and ends
    assert "sample more answers" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (["--best-of", "2"], "--from MODEL"),
        (["--from", "x"], "--best-of N"),
        (["-o", "x"], "--best-of N"),
    ],
)
def test_what_belongs_to_sampled_answers_is_not_taken_without_them(prompts, capsys, given, wrong):
    assert command(["score", "verifier:text", str(prompts), *given]) == 2
    assert wrong in capsys.readouterr().err


def test_a_verifier_that_is_none_is_refused_with_those_there_are(lm, prompts, capsys):
    given = ["--best-of", "2", "--from", str(lm.checkpoint.path)]
    assert command(["score", "verifier:taste", str(prompts), *given]) == 2
    assert "verifier:number" in capsys.readouterr().err

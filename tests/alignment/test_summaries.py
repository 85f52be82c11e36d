"""Summaries: the shipped articles and their rankings, and ROUGE with the reward next to it."""

import sys
from pathlib import Path

import pytest
from small_talk import write

import kun
from kun.data.rows import Conversation, Pair, Ranking
from kun.data.sources import Rows
from kun.errors import BadInput
from kun.training.recipe import read_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "recipes" / "data" / "summaries"
KINDS = {
    "demonstrations": Conversation,
    "rankings": Ranking,
    "held-out": Pair,
    "held-out-rankings": Ranking,
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_shipped_summaries_are_read_and_the_best_is_ranked_first(language):
    read = {name: list(Rows(DATA / f"{language}-{name}.jsonl")) for name in KINDS}
    for name, kind in KINDS.items():
        assert all(isinstance(row, kind) for row in read[name])
    for ranking in read["rankings"]:
        article = ranking.prompt[-1]["content"]
        best, incomplete, beginning, *bad = (answer[0]["content"] for answer in ranking.answers)
        assert ranking.ranks[:3] == (0, 1, 2)
        assert len(bad) == 2
        assert beginning in article
        assert len(incomplete) < len(best) < len(article)
    learned = {row.prompt[-1]["content"] for row in read["rankings"]}
    learned |= {row.messages[0]["content"] for row in read["demonstrations"]}
    assert not learned & {row.source for row in read["held-out"]}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_shipped_demonstrations_are_conversations_that_begin_a_supervised_start(language):
    rows = list(Rows(EXAMPLES / "recipes" / "data" / "demonstrations" / f"{language}.jsonl"))
    assert len(rows) == 20
    assert all([message["role"] for message in row.messages] == ["user", "assistant"] for row in rows)
    assert read_recipe(EXAMPLES / "recipes" / "demonstrations.toml").stage == "finetune"


def test_the_shipped_summaries_are_what_their_script_makes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(DATA))
    sys.modules.pop("make", None)
    import make

    make.write(tmp_path, 0)
    for path in sorted(DATA.glob("*.jsonl")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_three_recipes_follow_each_other():
    recipes = [
        read_recipe(EXAMPLES / "recipes" / f"summaries-{name}.toml") for name in ("start", "reward", "ppo")
    ]
    assert [recipe.stage for recipe in recipes] == ["finetune", "reward", "ppo"]
    start, reward, ppo = recipes
    assert reward.model.source == ppo.model.source == f"{start.out}/checkpoint"
    assert ppo.objective.options["reward"] == f"{reward.out}/checkpoint"


def test_the_reward_stands_next_to_rouge(lm, recipe, tmp_path):
    judge = kun.train(recipe("reward", steps=2)).checkpoint
    write(
        tmp_path / "rows.jsonl", [{"text": "sea fish", "summary": "sea"}, {"text": "bird", "summary": "bird"}]
    )
    task = {
        "kind": "summary",
        "data": str(tmp_path / "rows.jsonl"),
        "target": "summary",
        "chat": True,
        "max_tokens": 4,
    }
    plain = kun.evaluate(lm, task).measures
    both = kun.evaluate(lm, task | {"reward": str(judge)}).measures
    assert list(both) == [*plain, "reward", "reward of the references"]
    talks = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": wanted}]
        for asked, wanted in (("sea fish", "sea"), ("bird", "bird"))
    ]
    assert both["reward of the references"].value == pytest.approx(
        kun.load(judge).score(talks).mean(), abs=1e-6
    )
    with pytest.raises(BadInput, match="is no reward model"):
        kun.evaluate(lm, task | {"reward": str(lm.checkpoint.path)})

"""Recall over a distance: rows whose answers are known, and what a small network makes of them."""

from pathlib import Path

import pytest
import torch

import kun
from kun.errors import BadRecipe
from kun.families import family_of
from kun.objectives import recall
from kun.objectives.recall import RecallFeed, recall_tokenizer, rows
from kun.objectives.text.fresh import new_config
from kun.training.cross_entropy import IGNORED
from kun.training.recipe import read_recipe
from kun.training.tables import Model

EXAMPLE = Path(__file__).parents[2] / "examples" / "recipes" / "recall.toml"
SMALL = {
    "train.context": 32,
    "train.steps": 2,
    "train.eval_every": 2,
    "train.batch_tokens": 256,
    "objective.asked": 8,
}


def _words(row: torch.Tensor) -> list[str]:
    known = recall.vocabulary()
    return [known[index] for index in row.tolist()]


def test_a_question_is_answered_by_what_its_name_stood_for_before_it():
    given, answers = rows(20, 64, torch.Generator().manual_seed(1))
    assert bool((answers != IGNORED).any(-1).all())
    for row, wanted in zip(given, answers, strict=True):
        words = _words(row)
        for place, answer in enumerate(wanted.tolist()):
            if answer != IGNORED:
                name, word = words[place].removesuffix("?"), recall.vocabulary()[recall.FIRST_ANSWER + answer]
                assert f"{name}={word}" in words[:place]


@pytest.mark.parametrize("distance", [10, 30, 100])
def test_one_question_at_the_end_is_about_the_name_so_many_tokens_before_it(distance):
    given, answers = rows(8, distance + 16, torch.Generator().manual_seed(distance), distance)
    for row, wanted in zip(given, answers, strict=True):
        words = _words(row)
        assert words[-1 - distance].startswith(words[-1].removesuffix("?") + "=")
        assert [answer != IGNORED for answer in wanted.tolist()].count(True) == 1


def test_rows_are_the_same_for_a_seed_and_a_step_and_go_on_from_a_state():
    feed, other = RecallFeed(3, 64, 256), RecallFeed(3, 64, 256)
    first = [feed.step()[0] for _ in range(4)]
    other.load({"steps": 3})
    assert torch.equal(other.step()[0]["input_ids"], first[3]["input_ids"])
    assert not any(
        torch.equal(held_out["input_ids"], row["input_ids"])
        for held_out in feed.evaluation()
        for row in first
    )


def test_the_words_of_a_row_are_its_tokens():
    given, _ = rows(1, 24, torch.Generator().manual_seed(0))
    assert recall.LETTERS == 32  # as the weights of the tour were trained on
    tokenizer = recall_tokenizer()
    assert tokenizer.encode(" ".join(_words(given[0]))).ids == given[0].tolist()


def test_both_networks_of_the_recipe_are_of_equal_size_within_a_hundredth():
    recipe = read_recipe(EXAMPLE)
    assert recipe.compare is not None
    lstm = Model.model_validate(recipe.compare.runs["LSTM"]["model"])
    sizes = []
    for model in (recipe.model, lstm):
        config = new_config(model, recall_tokenizer(), recipe.train.context)
        with torch.device("meta"):
            net = family_of({"model_type": config.model_type}).network(config)
        sizes.append(sum(weight.numel() for weight in net.parameters()))
    assert max(sizes) / min(sizes) < 1.01


def test_one_command_trains_both_and_draws_recall_and_speed(tmp_path):
    made = kun.train(EXAMPLE, {**SMALL, "out": str(tmp_path / "run")})
    assert set(made.runs) == {"Transformer", "LSTM"}
    drawn = made.picture.read_text(encoding="utf-8")
    assert all(
        f">{text}<" in drawn
        for text in ("Transformer", "LSTM", "recall by distance", "tokens per second by length", "tokens ago")
    )
    last = made.runs["LSTM"].metrics[-1]
    assert 0 <= last["eval_recall_10"] <= 1


def test_a_transformer_learns_to_look_back_within_seconds(tmp_path):
    changes = {
        "out": str(tmp_path / "run"),
        "train.context": 32,
        "train.steps": 240,
        "train.eval_every": 240,
        "train.batch_tokens": 1024,
        "optimizer.warmup": 10,
        "compare": None,
    }
    run = kun.train(EXAMPLE, changes)
    assert run.metrics[-1]["eval_recall_10"] > 0.9  # one of sixteen is chance
    asked = "so Ada=apple to all of Ben=key the Ada?"  # as the docs do
    assert kun.load(run.checkpoint).generate(asked, max_tokens=1, temperature=0).strip() == "apple"


def test_decoders_of_the_next_token_learn_it_and_encoders_do_not():
    assert recall.Recall.fits(family_of({"model_type": "lstm"}))
    assert not recall.Recall.fits(family_of({"model_type": "bert"}))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"train.epochs": 1.0}, "whose rows have no end"),
        ({"train.context": 8}, "too short for recall: set 16 at least"),
        ({"model": {"family": "bert"}, "compare": None}, "does not fit"),
    ],
)
def test_recall_refuses_what_it_cannot_do(changes, fault, tmp_path):
    with pytest.raises(BadRecipe, match=fault):
        kun.train(EXAMPLE, {**SMALL, **changes, "out": str(tmp_path / "run")})


def test_a_task_that_makes_its_rows_needs_no_data_and_others_do(tmp_path):
    assert read_recipe(EXAMPLE).data.train == []
    path = tmp_path / "recipe.toml"
    path.write_text('stage = "pretrain"\n[model]\nfamily = "gpt2"\n[train]\nsteps = 1\n', encoding="utf-8")
    with pytest.raises(BadRecipe, match="data is missing"):
        read_recipe(path)

"""`data.share`: less to learn from, the same held-out documents."""

import pytest

import kun
from kun.errors import BadRecipe


def _documents(recipe, out, **changes):
    run = kun.train(recipe, {"out": str(out), "train.steps": 1, "train.eval_every": 1, **changes})
    return run.facts["data"]


def test_a_share_of_the_documents_is_learned_and_the_held_out_ones_stay(recipe, tmp_path):
    whole = _documents(recipe, tmp_path / "whole")
    tenth = _documents(recipe, tmp_path / "tenth", **{"data.share": 0.1})
    assert 0.03 < tenth["documents"] / whole["documents"] < 0.2
    assert (tenth["eval_documents"], tenth["eval_tokens"]) == (whole["eval_documents"], whole["eval_tokens"])


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(recipe, share):
    with pytest.raises(BadRecipe, match=r"data\.share"):
        kun.train(recipe, {"data.share": share})

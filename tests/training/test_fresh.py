"""What a recipe's few words make of a published config."""

from dataclasses import replace

import pytest

from kun.errors import BadRecipe
from kun.families.switch.gshard_config import GShardConfig
from kun.objectives.text.fresh import dropouts, new_config
from kun.text.learn import byte_tokenizer
from kun.training.tables import Model


@pytest.mark.parametrize(
    ("family", "dropping"),
    [
        ("transformer", {"dropout"}),
        ("gpt2", {"dropout", "embedding_dropout", "attention_dropout"}),
        ("bloom", {"dropout", "attention_dropout"}),
        ("gshard", {"dropout", "attention_dropout"}),
    ],
)
def test_dropout_goes_where_the_published_network_has_some(family, dropping):
    made = new_config(Model(family=family, dropout=0.3), byte_tokenizer(), 64)
    set_ = {name for name in vars(made) if name.endswith("dropout") and getattr(made, name) == 0.3}
    assert set_ == dropping
    named = new_config(Model(family="transformer", dropout=0.3, attention_dropout=0.2), byte_tokenizer(), 64)
    assert (named.attention_dropout, named.activation_dropout) == (0.2, 0.0)


def test_dropout_stays_where_a_network_that_goes_on_has_it():
    made = new_config(Model(family="transformer", dropout=0.3), byte_tokenizer(), 64)
    assert dropouts(made, made, 0.2) == {"dropout": 0.2}
    without = new_config(Model(family="transformer"), byte_tokenizer(), 64)
    assert dropouts(without, made, 0.2) == {"dropout": 0.2}
    skips = replace(GShardConfig(), layer_dropout=0.1)
    assert "layer_dropout" not in dropouts(skips, skips, 0.2)
    assert set(dropouts(skips, skips, 0.0).values()) == {0.0}
    assert dropouts(skips, skips, 0.0)["layer_dropout"] == 0.0


@pytest.mark.parametrize("family", ["llama", "glm"])
def test_dropout_is_refused_where_a_family_has_none(family):
    with pytest.raises(BadRecipe, match="has no dropout"):
        new_config(Model(family=family, dropout=0.3), byte_tokenizer(), 64)
    new_config(Model(family=family, dropout=0.0), byte_tokenizer(), 64)

"""What a recipe's few words make of a published config."""

import pytest

from kun.text.learn import byte_tokenizer
from kun.training.fresh import new_config
from kun.training.recipe import Model


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

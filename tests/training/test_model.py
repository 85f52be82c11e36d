"""What belongs to a network that is trained."""

from types import SimpleNamespace

import pytest

from kun.objectives.text.model import TrainingModel
from kun.text.learn import byte_tokenizer


@pytest.mark.parametrize(
    ("own", "wanted"),
    [({"mask_token": "<mask>", "eos_token": "<eos>"}, ("<mask>", "<eos>")), ({}, ("[MASK]", "</s>"))],
)
def test_a_checkpoints_own_tokens_go_before_those_that_are_usual(own, wanted):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(["[MASK]", "<mask>", "</s>", "<eos>"])
    model = TrainingModel(None, None, tokenizer, 32, origin=SimpleNamespace(special_tokens=own))
    assert tokenizer.id_to_token(model.mask) == wanted[0]
    if own:
        assert tokenizer.id_to_token(model.end) == wanted[1]

"""A classifying head that reads all of a text's states, and not the first token's alone."""

from dataclasses import replace

import pytest
import torch

from kun.families.bert.bert import Bert
from kun.families.bert.config import BertConfig
from kun.families.bert.roberta import Roberta, RobertaConfig

SIZES = {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32, "max_positions": 24}
IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def classifier(pooling, family="bert"):
    torch.manual_seed(3)
    kind, network = (BertConfig, Bert) if family == "bert" else (RobertaConfig, Roberta)
    config = kind(**SIZES, head="SequenceClassification", labels=("a", "b", "c"), pooling=pooling)
    return network(config).eval()


@pytest.mark.parametrize("pooling", ["mean", "max"])
@torch.no_grad()
def test_the_head_reads_the_mean_or_the_maximum_of_the_real_tokens(pooling):
    net = classifier(pooling)
    assert net.pooler is None
    states = net.states(IDS, MASK)
    rows = [states[0], states[1, :3]]
    read = torch.stack([row.mean(0) if pooling == "mean" else row.amax(0) for row in rows])
    torch.testing.assert_close(net(IDS, MASK).logits, net.head.classifier(read))


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["mean", "max", "cls", None])
@torch.no_grad()
def test_padded_rows_packed_rows_and_rows_alone_give_the_same(family, pooling):
    net = classifier(pooling, family)
    padded = net(IDS, MASK).logits
    packed = net(torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]]), lengths=[5, 3]).logits
    alone = torch.cat([net(IDS[:1]).logits, net(IDS[1:, :3]).logits])
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_the_pooling_is_written_under_its_key_and_left_out_where_nothing_was_said():
    said = BertConfig(**SIZES, head="SequenceClassification", pooling="mean")
    assert said.to_hf()["classifier_pooling"] == "mean"
    assert BertConfig.from_hf(said.to_hf()) == said
    usual = replace(said, pooling=None)
    assert "classifier_pooling" not in usual.to_hf()
    assert BertConfig.from_hf(usual.to_hf()) == usual

"""Several documents in one row: what a mask of document numbers promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kun.blocks.attention import positions_of
from kun.families.bert.bert import Bert
from kun.families.bert.config import BertConfig
from kun.families.bert.ernie import Ernie, ErnieConfig
from kun.families.bert.roberta import Roberta, RobertaConfig
from kun.families.bloom import Bloom, BloomConfig
from kun.families.glm import GLM, GLMConfig
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.families.llama.config import LlamaConfig
from kun.families.llama.llama import Llama
from kun.families.lstm import LSTM, LSTMConfig

SMALL = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2}


def _networks():
    torch.manual_seed(0)
    yield "gpt2", GPT(GPTConfig(**SMALL, d_ff=64, max_positions=64))
    yield "banded", GPT(GPTConfig(**SMALL, d_ff=64, max_positions=64, pattern=("local",), window=3))
    yield "llama", Llama(LlamaConfig(**SMALL, n_kv_heads=1, d_head=16, d_ff=64))
    yield "bloom", Bloom(BloomConfig(**SMALL))
    yield "glm", GLM(GLMConfig(**SMALL, n_kv_heads=1, d_head=16, d_ff=64, max_positions=64))
    yield "lstm", LSTM(LSTMConfig(vocab_size=64, d_model=32, n_layers=2))
    yield "bert", Bert(BertConfig(**SMALL, d_ff=64, max_positions=64, head="MaskedLM"))
    yield "roberta", Roberta(RobertaConfig(**SMALL, d_ff=64, max_positions=64, head="MaskedLM"))
    yield "ernie", Ernie(ErnieConfig(**SMALL, d_ff=64, max_positions=64, tasks=2, head="MaskedLM"))


NETWORKS = dict(_networks())


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    padding=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_a_document_in_a_shared_row_is_read_as_if_it_stood_alone(name, lengths, padding, seed):
    net = NETWORKS[name].eval()
    torch.manual_seed(seed)
    documents = [torch.randint(0, 64, (length,)) for length in lengths]
    row = torch.cat([*documents, torch.zeros(padding, dtype=torch.int64)])[None]
    numbers = torch.cat(
        [torch.full((n,), i + 1) for i, n in enumerate(lengths)] + [torch.zeros(padding)]
    ).int()[None]
    with torch.no_grad():
        packed = net(row, numbers).logits[0]
        start = 0
        for document in documents:
            alone = net(document[None]).logits[0]
            torch.testing.assert_close(packed[start : start + len(document)], alone, atol=2e-5, rtol=1e-4)
            start += len(document)
    assert torch.isfinite(packed).all()


def test_each_document_counts_its_places_from_zero():
    numbers = torch.tensor([[1, 1, 2, 3, 3, 3, 0, 0]])
    assert positions_of(numbers, 8, numbers.device).tolist() == [[0, 1, 0, 0, 1, 2, 0, 1]]

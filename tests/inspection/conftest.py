"""A tiny decoder and a tiny encoder, opened for looking at."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import LLAMA, byte_level_tokenizer, network

from kun.inspection.opened import Opened

BERT = {
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="session")
def decoder() -> Opened:
    tokenizer = byte_level_tokenizer()
    size = {"vocab_size": tokenizer.get_vocab_size()}
    return Opened.of("tiny-llama", network(LLAMA | size), tokenizer, "decoder")


@pytest.fixture(scope="session")
def encoder() -> Opened:
    tokenizer = byte_level_tokenizer()
    return Opened.of(
        "tiny-bert", network(BERT | {"vocab_size": tokenizer.get_vocab_size()}), tokenizer, "encoder"
    )

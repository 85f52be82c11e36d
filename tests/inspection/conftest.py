"""Tiny networks of each kind, opened for looking at."""

import sys
from pathlib import Path

import pytest
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import LLAMA, byte_level_tokenizer, network

from kun.families import family_of
from kun.inspection.opened import Opened
from kun.networks.network import load_state

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


TOKENIZER = byte_level_tokenizer()
SIZE = TOKENIZER.get_vocab_size()
PREFIX = {
    "model_type": "chatglm",
    "vocab_size": SIZE + 8,
    "hidden_size": 64,
    "inner_hidden_size": 96,
    "num_layers": 2,
    "num_attention_heads": 4,
    "max_sequence_length": 128,
    "position_encoding_2d": True,
    "pad_token_id": 3,
} | {name: SIZE + i for i, name in enumerate(
    ("bos_token_id", "eos_token_id", "mask_token_id", "gmask_token_id")
)}  # fmt: skip
XLNET = {"model_type": "xlnet", "vocab_size": SIZE, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96}
BOTH = {"vocab_size": SIZE, "d_model": 64, "decoder_start_token_id": 0, "pad_token_id": 0}
T5 = {"d_kv": 16, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
MARIAN = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in (
    ("layers", 2), ("attention_heads", 4), ("ffn_dim", 96)
)} | {"max_position_embeddings": 128, "init_std": 0.2, "eos_token_id": 0}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
TRANSLATORS = {
    "t5": transformers.T5Config(**BOTH, **T5),
    "marian": transformers.MarianConfig(**BOTH, **MARIAN),
    "switch": transformers.SwitchTransformersConfig(**BOTH, **T5, **EXPERTS),
    "nllb-moe": transformers.NllbMoeConfig(**BOTH, **MARIAN, num_experts=4),
}


@pytest.fixture(scope="session", params=TRANSLATORS)
def translator(request: pytest.FixtureRequest) -> tuple[Opened, transformers.PreTrainedModel]:
    """One that reads a text and writes another, and the reference with the same weights."""
    torch.manual_seed(5)
    config = TRANSLATORS[request.param]
    theirs = transformers.AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    family = family_of(theirs.config.to_dict())
    net = family.network(family.config.from_hf(theirs.config.to_dict())).eval()
    load_state(net, net.names.ours({name: t.clone() for name, t in theirs.state_dict().items()}))
    return Opened.of(f"tiny-{request.param}", net, TOKENIZER, "encoder-decoder"), theirs


@pytest.fixture(scope="session")
def prefix() -> Opened:
    """One that sees all of a prompt before it writes."""
    return Opened.of("tiny-chatglm", network(PREFIX), TOKENIZER, "decoder")


@pytest.fixture(scope="session")
def xlnet() -> Opened:
    return Opened.of("tiny-xlnet", network(XLNET), TOKENIZER, "decoder")

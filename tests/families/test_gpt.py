"""What differs among the GPTs: the band of GPT-3's layers, and the names of their files."""

from typing import Any

import pytest
import torch
from decoder_pairs import gpt_neo_config
from parity import ours, reference

from kun.errors import BadInput, UnsupportedFormat
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.networks.network import load_state


@torch.no_grad()
def test_a_banded_layer_sees_the_last_tokens_alone() -> None:
    net = GPT(GPTConfig(97, 32, 1, 2, 64, 32, pattern=("local",), window=4, model_type="gpt_neo")).eval()
    ids = torch.arange(12)[None]
    before = net(ids).logits[0, -1]
    assert torch.equal(net(ids.index_fill(1, torch.tensor([7]), 50)).logits[0, -1], before)
    assert not torch.allclose(net(ids.index_fill(1, torch.tensor([8]), 50)).logits[0, -1], before)


@pytest.mark.parametrize("name", ["gpt1", "gpt3"])
def test_weights_load_as_they_were_published(name: str) -> None:
    """Without the prefix, with the causal masks of each layer stored as if they were weights."""
    theirs = reference(name)
    net = ours(theirs)
    state = {n.removeprefix("transformer."): t for n, t in theirs.state_dict().items() if "lm_head" not in n}
    part = "attn.attention" if name == "gpt3" else "attn"
    state[f"h.0.{part}.bias"] = torch.ones(1, 1, 64, 64)
    state[f"h.0.{part}.masked_bias"] = torch.tensor(-1e9)
    load_state(ours(theirs), net.names.ours(state))


@pytest.mark.parametrize(
    "blocks",
    [
        [[["global", "local"], 3]],
        [[["global", "sparse"], 2]],
        [[["global"], -4]],
        [["global", 4]],
        "global",
        [7],
        [[["global"], 10**12]],
    ],
)
def test_kinds_of_layers_that_fit_no_network_are_refused(blocks: Any) -> None:
    config = gpt_neo_config().to_dict() | {"attention_types": blocks}
    with pytest.raises(BadInput, match="attention_types"):
        GPTConfig.from_hf(config)


def test_any_pattern_of_bands_is_read_and_written() -> None:
    values = gpt_neo_config().to_dict() | {
        "attention_types": [[["local"], 1], [["global", "local", "local"], 1]]
    }
    config = GPTConfig.from_hf(values)
    assert (config.window, config.pattern) == (7, ("local", "global", "local"))
    assert [config.window_of(layer) for layer in range(4)] == [7, None, 7, 7]
    assert GPTConfig.from_hf(config.to_hf()) == config


def test_what_the_first_gpt_calls_gelu_is_the_tanh_approximation() -> None:
    config = GPTConfig.from_hf({"model_type": "openai-gpt"})
    assert config.activation == "gelu_new"
    assert config.to_hf()["afn"] == "gelu"
    with pytest.raises(UnsupportedFormat, match="afn"):
        GPTConfig.from_hf({"model_type": "openai-gpt", "afn": "gelu_new"})

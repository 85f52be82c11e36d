"""What cannot be loaded says why: an impossible config, a missing, surplus or misshapen tensor."""

import math
import subprocess
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from parity import bert_config, gpt_config, llama_config, ours, qwen_config, reference

from kun.errors import BadInput, DamagedFile, KunError, UnsupportedFormat
from kun.families import FAMILIES, family_of
from kun.families.bert.bert import PRESETS as BERTS
from kun.families.bert.bert import Bert
from kun.networks.network import load_state

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": llama_config("yarn").to_dict(),
    "qwen2": qwen_config().to_dict(),
    "gpt2": gpt_config().to_dict(),
    "bert": bert_config().to_dict(),
}

WRONG = [
    ("llama", "vocab_size", 0),
    ("llama", "vocab_size", None),
    ("llama", "hidden_size", -64),
    ("llama", "hidden_size", 66),
    ("llama", "hidden_size", "64"),
    ("llama", "hidden_size", 2**40),
    ("llama", "num_hidden_layers", True),
    ("llama", "num_attention_heads", 5),
    ("llama", "num_key_value_heads", 3),
    ("llama", "num_key_value_heads", 8),
    ("llama", "head_dim", 15),
    ("llama", "intermediate_size", 1.5),
    ("llama", "rms_norm_eps", -1),
    ("llama", "rms_norm_eps", math.nan),
    ("llama", "tie_word_embeddings", "yes"),
    ("llama", "rope_parameters", [1]),
    ("qwen2", "sliding_window", 0),
    ("qwen2", "layer_types", ["full_attention"]),
    ("qwen2", "layer_types", [1, 2, 3]),
    ("gpt2", "n_embd", 65),
    ("gpt2", "n_positions", 0),
    ("gpt2", "resid_pdrop", 2.0),
    ("bert", "type_vocab_size", -1),
    ("bert", "num_attention_heads", 7),
    ("bert", "layer_norm_eps", "tiny"),
]


@pytest.mark.parametrize(("model_type", "name", "value"), WRONG)
def test_an_impossible_size_is_an_error_that_names_the_field(model_type: str, name: str, value: Any) -> None:
    windowed = {"use_sliding_window": True, "sliding_window": 5} if model_type == "qwen2" else {}
    config = CONFIGS[model_type] | windowed | {name: value}
    config |= {"head_dim": None} if name == "hidden_size" else {}
    with pytest.raises(BadInput, match=name if name != "num_attention_heads" else "multiple|num_attention"):
        family_of(config).config.from_hf(config)


@pytest.mark.parametrize(
    ("model_type", "name", "value"),
    [
        ("llama", "hidden_act", "gelu"),
        ("llama", "rope_parameters", {"rope_theta": 1e4, "rope_type": "longrope", "factor": 2.0}),
        ("llama", "rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "activation_function", "mish"),
        ("bert", "position_embedding_type", "relative_key"),
        ("bert", "is_decoder", True),
    ],
)
def test_a_switch_that_we_lack_is_refused_not_ignored(model_type: str, name: str, value: Any) -> None:
    config = CONFIGS[model_type] | {name: value}
    with pytest.raises(UnsupportedFormat):
        family_of(config).config.from_hf(config)


@pytest.mark.parametrize(
    "rope",
    [{"rope_type": "linear"}, {"rope_type": "yarn", "factor": 0.5}, {"rope_type": "llama3", "factor": -1}],
)
def test_a_scaling_without_a_usable_factor_is_refused(rope: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="factor"):
        family_of(CONFIGS["llama"]).config.from_hf(CONFIGS["llama"] | {"rope_parameters": rope})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(CONFIGS)), st.data())
def test_whatever_a_config_holds_it_is_read_or_refused_as_the_users_error(model_type: str, data: Any) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(CONFIGS[model_type])), max_size=4))
    config = CONFIGS[model_type] | {name: data.draw(json_values) for name in names}
    with suppress(KunError):
        family_of(config).config.from_hf(config)


def test_the_older_layout_of_rotary_scaling_reads_alike() -> None:
    new = CONFIGS["llama"]
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    scaling = dict(new["rope_parameters"])
    old |= {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling}
    old["rope_scaling"]["type"] = old["rope_scaling"].pop("rope_type")
    read = family_of(new).config.from_hf
    assert read(old) == read(new)


@pytest.mark.parametrize("name", ["llama-default", "qwen2-tied", "gpt2", "bert"])
def test_wrong_weights_say_which_tensor_and_what_was_expected(name: str) -> None:
    net = ours(reference(name))
    state = net.state_dict()
    first = next(
        key for key in state if "layers.0" in key and key.endswith("weight") and state[key].dim() == 2
    )
    with pytest.raises(DamagedFile, match=first):
        load_state(net, {key: value for key, value in state.items() if key != first})
    with pytest.raises(DamagedFile, match=r"layers\.9\.q, which"):
        load_state(net, state | {"layers.9.q": torch.ones(1)})
    with pytest.raises(DamagedFile, match=rf"{first} has shape \[3, 4\]; the config asks for \[\d+, \d+\]"):
        load_state(net, state | {first: torch.ones(3, 4)})
    with pytest.raises(DamagedFile, match="floating point"):
        load_state(net, state | {first: state[first].long()})


def test_a_tied_head_may_be_in_the_file_if_it_is_the_embedding() -> None:
    net = ours(reference("qwen2-tied"))
    state = net.state_dict()
    load_state(net, state | {"lm_head.weight": state["embed.weight"].clone()})
    with pytest.raises(DamagedFile, match="ties"):
        load_state(net, state | {"lm_head.weight": state["embed.weight"] + 1})


def test_bert_without_a_pooler_in_its_weights_has_none() -> None:
    net = ours(reference("bert"))
    load_state(net, {name: value for name, value in net.state_dict().items() if "pooler" not in name})
    assert net(torch.tensor([[1, 2]])).pooler_output is None


def test_gpt_weights_load_as_they_were_published() -> None:
    """Without the prefix, with the causal masks of each layer stored as if they were weights."""
    theirs = reference("gpt2")
    state = {n.removeprefix("transformer."): t for n, t in theirs.state_dict().items() if "lm_head" not in n}
    state["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    state["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    net = ours(theirs)
    load_state(net, net.names.ours(state))


PARAMETERS = {
    "bert-base-uncased": 109_482_240,
    "bert-large-uncased": 335_141_888,
    "bert-base-chinese": 102_267_648,
    "all-minilm-l6-v2": 22_713_216,
    "multilingual-e5-small": 117_653_760,
}


@pytest.mark.parametrize("name", BERTS)
def test_published_sizes_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        net = Bert(BERTS[name])
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[name]
    assert type(BERTS[name]).from_hf(BERTS[name].to_hf()) == BERTS[name]


def test_asking_for_a_family_imports_no_torch_and_each_is_found(python: str) -> None:
    code = "import sys, kun.families; assert 'torch' not in sys.modules"
    subprocess.run([python, "-c", code], check=True)
    for model_type in FAMILIES:
        assert model_type in family_of({"model_type": model_type}).model_types

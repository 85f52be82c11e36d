"""What every family does with bad input: it says what is wrong, which, and what was expected. None is left out."""

import dataclasses
import inspect
import json
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kun.errors import BadInput, DamagedFile, KunError, UnsupportedFormat
from kun.families import FAMILIES, family_of
from kun.networks.network import load_state

SMALL = {
    "vocab_size": 50, "d_model": 32, "n_layers": 2, "n_decoder_layers": 2, "n_sparse_layers": 1,
    "n_sparse_decoder_layers": 1, "sparse_step": 2, "decoder_sparse_step": 2, "n_heads": 4, "n_decoder_heads": 4,
    "n_kv_heads": 4, "d_head": 8, "turned": 4, "d_ff": 128, "d_decoder_ff": 128, "n_experts": 3,
    "max_positions": 40, "start_token": 0, "pad_token": 1, "bos_token_id": 2, "eos_token_id": 5, "mask_token_id": 3,
    "gmask_token_id": 4, "pad_token_id": 1,
}  # fmt: skip
"""Sizes under the names that the families' configs share; each takes those that it has."""

SIZES = ("vocab_size", "hidden_size", "d_model", "n_embd", "num_hidden_layers", "num_layers", "n_layer",
         "num_attention_heads", "num_heads", "n_head", "intermediate_size", "d_ff", "n_inner", "d_inner", "num_experts",
         "encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings",
         "n_positions", "type_vocab_size", "n_layers")  # fmt: skip
"""What the reference's configs call their sizes."""


def small_config(model_type: str) -> Any:
    """A small config of the family that reads `model_type`, made of one of its published ones."""
    presets = family_of({"model_type": model_type}).presets
    preset = next((p for p in presets.values() if p.model_type == model_type), None)
    if preset is None:
        preset = dataclasses.replace(next(iter(presets.values())), model_type=model_type)
    fields = {field.name for field in dataclasses.fields(preset) if field.init}
    assert isinstance(preset, family_of(preset.to_hf()).config)
    sizes = {name: size for name, size in SMALL.items() if name in fields}
    if getattr(preset, "windows", ()):
        # Mistral's config has one window for all of its layers
        sizes["windows"] = (0, 1) if model_type == "mistral" else (1,)
    return dataclasses.replace(preset, **sizes)


class Case:
    """One `model_type` with a small network of random weights, and how it is called."""

    def __init__(self, model_type: str) -> None:
        torch.manual_seed(0)
        self.config = small_config(model_type)
        self.family = family_of(self.config.to_hf())
        self.net: Any = self.family.network(self.config).eval()
        self.hf = json.loads(json.dumps(self.config.to_hf()))

    def run(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """The logits, or an encoder's states, of padded rows; the source is the target too."""
        given_ids = {"decoder_input_ids": ids, "decoder_attention_mask": mask} if self.both else {}
        output = self.net(ids, mask, **given_ids)
        return output.logits if hasattr(output, "logits") else output.last_hidden_state

    @property
    def both(self) -> bool:
        return self.family.kind == "encoder-decoder"

    @property
    def limit(self) -> int | None:
        """How many positions a padded call has; None where they have no end."""
        if not hasattr(self.config, "max_positions"):
            return None
        return getattr(self.config, "longest", self.config.context_length)


@pytest.fixture(params=sorted(FAMILIES), scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def ids_of(rows: int, length: int) -> Tensor:
    return torch.randint(
        2, SMALL["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(length)
    )


@pytest.mark.parametrize("value", [0, -3, 2**40, 1.5, "8", True, [8]])
def test_an_impossible_size_is_an_error_that_names_the_field(case: Case, value: Any) -> None:
    names = [name for name in SIZES if name in case.hf and case.hf[name] is not None]
    assert len(names) > 2
    for name in names:
        with pytest.raises(BadInput) as caught:
            case.family.config.from_hf(case.hf | {name: value})
        assert name in str(caught.value), name


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
CONFIGS = {model_type: json.loads(json.dumps(small_config(model_type).to_hf())) for model_type in FAMILIES}


@given(st.sampled_from(sorted(FAMILIES)), st.data())
def test_whatever_a_config_holds_it_is_read_or_refused_as_the_users_error(model_type: str, data: Any) -> None:
    config = CONFIGS[model_type]
    names = data.draw(st.lists(st.sampled_from(sorted(config)), max_size=4))
    with suppress(KunError):
        family_of(config).config.from_hf(config | {name: data.draw(json_values) for name in names})


def test_a_config_survives_there_and_back(case: Case) -> None:
    assert case.family.config.from_hf(case.hf) == case.config
    assert case.hf["model_type"] in case.family.model_types
    assert case.hf["architectures"]


def test_wrong_weights_say_which_tensor_what_was_expected_and_what_was_found(case: Case) -> None:
    state = case.net.state_dict()
    optional = tuple(f"{name}." for name in getattr(case.net, "optional", ()))
    name = next(n for n, t in state.items() if t.dim() == 2 and not n.startswith(optional or ("\0",)))
    shape = list(state[name].shape)
    with pytest.raises(DamagedFile, match=f"lack {name}"):
        load_state(case.net, {n: t for n, t in state.items() if n != name})
    with pytest.raises(DamagedFile, match=r"hold layers\.99\.more, which this architecture has no place for"):
        load_state(case.net, state | {"layers.99.more": torch.ones(1)})
    with pytest.raises(DamagedFile) as caught:
        load_state(case.net, state | {name: torch.ones(3, 5)})
    assert f"{name} has shape [3, 5]; the config asks for {shape}" in str(caught.value)
    with pytest.raises(DamagedFile, match="floating point"):
        load_state(case.net, state | {name: torch.ones(shape, dtype=torch.long)})


def test_a_state_under_the_reference_names_comes_back_whole(case: Case) -> None:
    state = case.net.state_dict()
    again = case.net.names.ours(case.net.names.reference(state))
    aliases = getattr(case.net, "aliases", {})
    assert again.keys() - aliases.keys() == state.keys()
    assert all(torch.allclose(again[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("wrong", [SMALL["vocab_size"], -1, 2**40])
def test_an_id_outside_the_vocabulary_is_named(case: Case, wrong: int) -> None:
    with pytest.raises(BadInput, match=f"{wrong} is outside the vocabulary of {SMALL['vocab_size']}"):
        case.run(torch.tensor([[2, wrong, 3]]))


def test_ids_of_the_wrong_kind_or_shape_are_refused(case: Case) -> None:
    with pytest.raises(BadInput, match="whole numbers"):
        case.run(torch.ones(1, 3))
    with pytest.raises(BadInput, match="rows, tokens"):
        case.run(torch.tensor([2, 3]))
    with pytest.raises(BadInput, match="attention_mask has shape"):
        case.run(ids_of(1, 3), torch.ones(1, 4))
    with pytest.raises(BadInput, match="either"):
        case.net()


def test_a_position_beyond_the_last_is_named(case: Case) -> None:
    if case.limit is None:
        assert torch.isfinite(case.run(ids_of(1, 200))).all()
        return
    assert torch.isfinite(case.run(ids_of(1, case.limit))).all()
    with pytest.raises(BadInput, match=f"beyond the {case.limit} positions"):
        case.run(ids_of(1, case.limit + 1))


def test_rows_without_a_real_token_give_no_nan_not_even_in_gradients(case: Case) -> None:
    case.net.zero_grad()
    mask = torch.tensor([[0] * 6, [1] * 6, [0, 0, 1, 1, 1, 0]])
    out = case.run(ids_of(3, 6), mask)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in case.net.parameters() if p.grad is not None)
    assert torch.allclose(out[1], case.run(ids_of(3, 6)[1:2])[0], atol=1e-4)


@torch.no_grad()
def test_a_batch_may_be_empty_but_not_a_row(case: Case) -> None:
    assert case.run(torch.zeros(0, 5, dtype=torch.long)).shape[:2] == (0, 5)
    with pytest.raises(BadInput, match="rows without a token"):
        case.run(torch.zeros(2, 0, dtype=torch.long))


def test_an_unknown_architecture_is_refused_by_its_name() -> None:
    with pytest.raises(UnsupportedFormat, match="'llamas'; known are bert, "):
        family_of({"model_type": "llamas"})
    with pytest.raises(UnsupportedFormat, match="known are bert, "):
        family_of({"model_type": "\0"})
    for wrong in ({}, {"model_type": None}, {"model_type": 3}):
        with pytest.raises(BadInput, match="no model_type"):
            family_of(wrong)


def test_every_network_is_called_by_the_same_names(case: Case) -> None:
    names = list(inspect.signature(case.net.forward).parameters)
    assert names[:2] == ["input_ids", "attention_mask"]
    assert "inputs_embeds" in names
    if case.family.kind != "encoder":
        assert {"cache", "logits_at"} <= set(names)
        assert callable(case.net.new_state)
    assert isinstance(case.net, nn.Module)

"""Same weights in, same numbers out, both ways."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from decoder_pairs import gradient_factor
from parity import tokens
from safetensors.torch import save_file
from torch import nn

EXACT = ("llama", "mistral", "qwen2")
"""Families whose sums run in the reference's order; GPT-2's reference multiplies by the weight transposed."""

Pair = tuple[nn.Module, nn.Module]


def save(net: nn.Module, folder: Path) -> Path:
    state = {name: tensor.contiguous() for name, tensor in net.names.reference(net.state_dict()).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(net.config.to_hf()))
    return folder


@torch.no_grad()
def test_a_decoder_gives_the_reference_logits(decoders: Pair) -> None:
    theirs, mine = decoders
    ids = tokens(3, 40)
    wanted, got = theirs(ids).logits, mine(ids).logits
    assert torch.allclose(got, wanted, atol=1e-4)
    if mine.config.model_type in EXACT:
        assert torch.equal(got, wanted)


@torch.no_grad()
def test_a_padded_batch_gives_the_reference_logits(decoders: Pair) -> None:
    theirs, mine = decoders
    ids, mask = tokens(2, 20), torch.ones(2, 20, dtype=torch.long)
    mask[0, 13:] = 0
    mask[1, :6] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    wanted = theirs(ids, attention_mask=mask, position_ids=positions).logits
    assert torch.allclose(mine(ids, mask).logits[mask.bool()], wanted[mask.bool()], atol=1e-4)


@torch.no_grad()
def test_what_we_save_the_reference_loads_and_computes_alike(decoders: Pair, tmp_path: Path) -> None:
    _, mine = decoders
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        save(mine, tmp_path), output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(loaded).__name__ == mine.config.architecture
    ids = tokens(2, 40)
    assert torch.allclose(loaded.eval()(ids).logits, mine(ids).logits, atol=1e-4)


def test_gradients_are_the_reference_gradients(decoders: Pair) -> None:
    theirs, mine = decoders
    ids, weights = tokens(2, 24), torch.randn(2, 24, 97, generator=torch.Generator().manual_seed(1))
    for net in decoders:
        net.zero_grad()
        (net(ids).logits * weights).mean().backward()
    named = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    got = mine.names.reference({name: parameter.grad for name, parameter in mine.named_parameters()})
    assert got.keys() == named.keys()
    for name, gradient in named.items():
        mapped = got[name] * gradient_factor(mine.config, name)
        assert torch.allclose(mapped, gradient, atol=1e-5 * max(1.0, float(gradient.abs().max()))), name


def test_a_config_survives_there_and_back(decoders: Pair) -> None:
    _, mine = decoders
    assert type(mine.config).from_hf(json.loads(json.dumps(mine.config.to_hf()))) == mine.config


@torch.no_grad()
def test_bert_gives_the_reference_states_and_pooled_output(encoders: Pair) -> None:
    theirs, mine = encoders
    ids, types = tokens(3, 40), torch.arange(40).expand(3, 40) // 25
    wanted, got = theirs(ids, token_type_ids=types), mine(ids, token_type_ids=types)
    assert torch.equal(got.last_hidden_state, wanted.last_hidden_state)
    assert torch.equal(got.pooler_output, wanted.pooler_output)


@torch.no_grad()
def test_bert_gives_the_reference_states_of_a_padded_batch(encoders: Pair) -> None:
    theirs, mine = encoders
    ids, mask = tokens(2, 20), torch.ones(2, 20, dtype=torch.long)
    mask[0, 13:] = 0
    wanted, got = theirs(ids, attention_mask=mask), mine(ids, mask)
    real = mask.bool()
    assert torch.allclose(got.last_hidden_state[real], wanted.last_hidden_state[real], atol=1e-5)


@torch.no_grad()
def test_a_saved_bert_loads_in_the_reference(encoders: Pair, tmp_path: Path) -> None:
    _, mine = encoders
    loaded, report = transformers.AutoModel.from_pretrained(
        save(mine, tmp_path), output_loading_info=True, attn_implementation="sdpa"
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = tokens(2, 30)
    assert torch.allclose(loaded.eval()(ids).last_hidden_state, mine(ids).last_hidden_state, atol=1e-5)
    assert type(mine.config).from_hf(mine.config.to_hf()) == mine.config


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_bert_weights_load_from_every_layout_in_use(encoders: Pair, prefix: str) -> None:
    """With the prefix of a task's model, TensorFlow's names of norms, stored positions, a pre-training head."""
    theirs, mine = encoders
    state = {
        prefix + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    state |= {
        f"{prefix}embeddings.position_ids": torch.arange(64)[None],
        "cls.predictions.bias": torch.ones(3),
    }
    named = mine.names.ours(state)
    got = {name: tensor for name, tensor in named.items() if not name.startswith("head.")}
    assert got.keys() == mine.state_dict().keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in mine.state_dict().items())

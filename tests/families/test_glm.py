"""GLM's two kinds of files: Hugging Face's, and those of the ChatGLM repositories."""

from typing import Any

import pytest
import torch
import transformers
from parity import ours, reference, tokens
from torch import nn

from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.families.glm import GLM, GLMConfig
from kun.networks.network import load_state

ORIGINAL = {
    "model_type": "chatglm",
    "padded_vocab_size": 97,
    "hidden_size": 64,
    "num_layers": 3,
    "num_attention_heads": 4,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "kv_channels": 16,
    "ffn_hidden_size": 96,
    "seq_length": 64,
    "layernorm_epsilon": 1.5625e-07,
    "rmsnorm": True,
    "post_layer_norm": True,
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False,
    "original_rope": True,
    "tie_word_embeddings": False,
}
RENAMED = {
    "model.embed_tokens": "transformer.embedding.word_embeddings",
    "model.layers": "transformer.encoder.layers",
    "model.norm": "transformer.encoder.final_layernorm",
    "lm_head": "transformer.output_layer",
    "self_attn.o_proj": "self_attention.dense",
    "mlp.gate_up_proj": "mlp.dense_h_to_4h",
    "mlp.down_proj": "mlp.dense_4h_to_h",
}


def original_state(theirs: nn.Module) -> dict[str, torch.Tensor]:
    """The reference's weights as the ChatGLM repositories name and fuse them."""
    state = theirs.state_dict()
    out = {"transformer.rotary_pos_emb.inv_freq": torch.ones(4)}
    for full, tensor in state.items():
        name = full
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        if ".q_proj." in name:
            parts = [state[full.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            out[name.replace("self_attn.q_proj", "self_attention.query_key_value")] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            out[name] = tensor
    return out


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return reference("glm")


def test_the_original_files_give_the_reference_logits(theirs: nn.Module) -> None:
    net = GLM(family_of(ORIGINAL).config.from_hf(ORIGINAL))
    assert net.config == GLMConfig.from_hf(theirs.config.to_dict())
    load_state(net, net.names.ours(original_state(theirs)))
    ids = tokens(2, 30)
    with torch.no_grad():
        assert torch.allclose(net.eval()(ids).logits, theirs(ids).logits, atol=1e-4)
    assert net.config.to_hf()["model_type"] == "glm"


def test_the_ratio_of_the_original_stretches_the_base_of_the_turns() -> None:
    config = GLMConfig.from_hf(ORIGINAL | {"rope_ratio": 500})
    assert config.rotary.theta == 5e6
    assert config.to_hf()["rope_parameters"]["rope_theta"] == 5e6


def test_the_ratio_of_chatglm2_divides_positions_as_linear_scaling_does() -> None:
    config = GLMConfig.from_hf(ORIGINAL | {"rope_ratio": 4, "_name_or_path": "THUDM/chatglm2-6b-32k"})
    theirs = transformers.GlmForCausalLM(
        transformers.GlmConfig(**config.to_hf(), initializer_range=0.2)
    ).eval()
    assert GLMConfig.from_hf(theirs.config.to_dict()) == config
    net = ours(theirs)
    ids = tokens(2, 30)
    # as the original computes it: the positions themselves, divided
    divided = GLM(GLMConfig.from_hf(ORIGINAL)).eval()
    load_state(divided, net.state_dict())
    with torch.no_grad():
        wanted = theirs(ids).logits
        assert torch.allclose(net(ids).logits, wanted, atol=1e-4)
        assert torch.allclose(divided(ids, positions=torch.arange(30)[None] / 4).logits, wanted, atol=1e-4)
        assert not torch.allclose(divided(ids).logits, wanted, atol=1e-1)
    named = {"rope_ratio": 4, "_name_or_path": "THUDM/chatglm3-6b-32k"}
    assert GLMConfig.from_hf(ORIGINAL | named).rotary.theta == 4e4


def test_the_older_layout_of_hugging_face_reads_alike(theirs: nn.Module) -> None:
    new = theirs.config.to_dict()
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    old |= {"rope_theta": 1e4, "partial_rotary_factor": 0.5}
    assert GLMConfig.from_hf(old) == GLMConfig.from_hf(new)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("kv_channels", 6, BadInput),
        ("multi_query_group_num", 3, BadInput),
        ("padded_vocab_size", None, BadInput),
        ("rope_ratio", 0, BadInput),
        ("pad_token_id", 97, BadInput),
        ("multi_query_attention", False, UnsupportedFormat),
        ("rmsnorm", False, UnsupportedFormat),
        ("quantization_bit", 8, UnsupportedFormat),
        ("apply_residual_connection_post_layernorm", True, UnsupportedFormat),
    ],
)
def test_what_the_original_config_cannot_be_is_refused_by_name(
    name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        GLMConfig.from_hf(ORIGINAL | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("head_dim", 15, BadInput),
        ("num_key_value_heads", 3, BadInput),
        ("rope_parameters", {"rope_theta": 1e4, "rope_type": "yarn", "factor": 2.0}, UnsupportedFormat),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 1.5}, BadInput),
    ],
)
def test_what_a_config_cannot_be_is_refused_by_name(
    theirs: nn.Module, name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"{name}|partial_rotary_factor"):
        GLMConfig.from_hf(theirs.config.to_dict() | {name: value})


def test_a_fused_tensor_of_the_wrong_size_is_named(theirs: nn.Module) -> None:
    net, state = ours(theirs), dict(theirs.state_dict())
    name = "model.layers.1.mlp.gate_up_proj.weight"
    with pytest.raises(DamagedFile, match=rf"{name} has shape \[190, 64\]; the config asks for 192 rows"):
        net.names.ours(state | {name: torch.ones(190, 64)})

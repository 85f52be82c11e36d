"""LLaMA's relatives: what their files say otherwise."""

import pytest
import torch
from decoder_pairs import ernie_config, qwen3_config
from hypothesis import given
from hypothesis import strategies as st
from parity import ours, reference, tokens

from kun.adaptation import native
from kun.adaptation.fuse import fuse
from kun.adaptation.quantize import quantize
from kun.blocks.rotary import Rotary, RotaryConfig, rotate
from kun.errors import BadInput, DamagedFile
from kun.families.llama.config import LlamaConfig
from kun.networks.network import load_state
from kun.networks.rope_fields import interleaved, rotate_half


@given(st.integers(1, 3), st.integers(1, 4), st.data())
def test_rows_for_neighbours_are_put_in_halves_and_back(heads: int, half: int, data: st.DataObject) -> None:
    d_head = 2 * half + data.draw(st.integers(0, 3))
    weight = torch.randn(heads * d_head, 5)
    halves = rotate_half(weight, d_head, 2 * half)
    assert torch.equal(interleaved(halves, d_head, 2 * half), weight)
    assert torch.equal(halves[0::d_head], weight[0::d_head])
    assert torch.equal(halves[half::d_head], weight[1::d_head])
    assert torch.equal(
        halves.unflatten(0, (heads, -1))[:, 2 * half :], weight.unflatten(0, (heads, -1))[:, 2 * half :]
    )


def test_turning_halves_of_reordered_rows_scores_as_turning_neighbours_of_the_rows() -> None:
    torch.manual_seed(0)
    d_head, positions = 8, torch.tensor([[3, 11]])
    q, k, x = torch.randn(d_head, 6), torch.randn(d_head, 6), torch.randn(2, 6)
    cos, sin = Rotary(RotaryConfig(), d_head)(positions, torch.float32)

    def neighbours(row: torch.Tensor, place: int) -> torch.Tensor:
        pairs = torch.view_as_complex(row.view(-1, 2))
        turn = torch.complex(cos[0, place, : d_head // 2], sin[0, place, : d_head // 2])
        return torch.view_as_real(pairs * turn).flatten()

    wanted = neighbours(q @ x[0], 0) @ neighbours(k @ x[1], 1)
    turned = [rotate((x @ rotate_half(w, d_head).T)[None, :, None], cos, sin)[0, :, 0] for w in (q, k)]
    assert torch.allclose(turned[0][0] @ turned[1][1], wanted, atol=1e-5)


def test_a_turned_tensor_of_the_wrong_shape_is_named() -> None:
    net = ours(reference("ernie4.5"))
    name = "model.layers.0.self_attn.q_proj.weight"
    for shape in ((63, 64), (1,), ()):
        state = net.names.reference(net.state_dict()) | {name: torch.ones(shape)}
        with pytest.raises(DamagedFile, match=r"layers\.0\.attention\.q\.weight has shape"):
            load_state(net, net.names.ours(state))


def test_a_head_that_the_file_leaves_out_is_as_wide_as_the_reference_has_it() -> None:
    for make in (qwen3_config, ernie_config):
        values = make().to_dict()
        del values["head_dim"]
        assert LlamaConfig.from_hf(values).d_head == 128
        with pytest.raises(BadInput, match="head_dim"):
            LlamaConfig.from_hf(values | {"head_dim": 15})


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "compiled"), [("qwen3", False), ("ernie4.5", True), ("ernie4.5-biased-untied", True)]
)
def test_compiled_steps_compute_the_network_or_are_left_alone(name: str, compiled: bool) -> None:
    net = quantize(ours(reference(name)), "int8")
    fused = fuse(net)
    assert (fused is not net) == (compiled and native.available())
    ids = tokens(1, 9)
    step = fused.new_state(8, 4, torch.float32, torch.device("cpu")).cache.step([[0, 1, 2]], [0], [9])
    assert torch.allclose(fused(ids, cache=step).logits, net(ids).logits, atol=1e-3)

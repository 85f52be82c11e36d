"""ALiBi's slopes, and BLOOM's files as they were published."""

import pytest
import torch
from parity import ours, reference, tokens

from kun.blocks.positions import Alibi, alibi_slopes
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families.bloom import BloomConfig
from kun.networks.network import load_state


def test_slopes_are_the_papers_where_heads_are_a_power_of_two() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert torch.allclose(alibi_slopes(16), torch.tensor([2 ** (-i / 2) for i in range(1, 17)]))
    assert alibi_slopes(1).tolist() == [2.0**-8]


@pytest.mark.parametrize("n_heads", [3, 12, 25, 112])
def test_slopes_of_other_counts_are_taken_from_both_neighbouring_powers(n_heads: int) -> None:
    smaller = 1 << (n_heads.bit_length() - 1)
    slopes = alibi_slopes(n_heads)
    assert torch.equal(slopes[:smaller], alibi_slopes(smaller))
    assert torch.allclose(slopes[smaller:], alibi_slopes(2 * smaller)[::2][: n_heads - smaller])


def test_a_key_counts_less_the_further_away_it_is() -> None:
    bias = Alibi(2)(torch.tensor([[5]]), torch.tensor([[5, 4, 1]]))
    assert torch.equal(bias[0, :, 0], alibi_slopes(2)[:, None] * torch.tensor([0.0, -1.0, -4.0]))


def test_weights_and_config_load_as_they_were_published() -> None:
    """Without the prefix, without the head, and with the older names of the sizes."""
    theirs = reference("bloom")
    net = ours(theirs)
    state = {n.removeprefix("transformer."): t for n, t in theirs.state_dict().items() if "lm_head" not in n}
    load_state(ours(theirs), net.names.ours(state))
    old = {"model_type": "bloom", "vocab_size": 97, "n_embed": 64, "n_layer": 3, "num_attention_heads": 4}
    assert BloomConfig.from_hf(old | {"seq_length": 2048}) == net.config


@torch.no_grad()
def test_a_text_may_be_longer_than_those_of_the_training() -> None:
    theirs = reference("bloom")
    net = ours(theirs)
    ids = tokens(1, net.config.context_length + 2)
    assert torch.allclose(net(ids).logits[:, -9:], theirs(ids).logits[:, -9:], atol=1e-3)


def test_a_fused_tensor_of_the_wrong_size_is_named() -> None:
    net, name = ours(reference("bloom")), "transformer.h.0.self_attention.query_key_value.bias"
    with pytest.raises(DamagedFile, match=rf"{name} has shape \[190\]; the config asks for 192 rows"):
        net.names.ours({name: torch.ones(190)})


def test_what_a_config_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="n_embed is 66; it must be a multiple of num_attention_heads, 4"):
        BloomConfig.from_hf({"n_embed": 66, "num_attention_heads": 4})
    with pytest.raises(UnsupportedFormat, match="apply_residual_connection_post_layernorm"):
        BloomConfig.from_hf({"apply_residual_connection_post_layernorm": True})

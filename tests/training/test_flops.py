"""How much arithmetic a token takes: a product forward, one for the states' gradient, one for the weights'."""

import pytest
import torch

from kun.adaptation.lora import LoraConfig, add_lora
from kun.adaptation.quantize import quantize
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.families.switch import gshard, gshard_config, switch, switch_config
from kun.training.flops import flops_per_token

SIZES = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 64, "max_positions": 32}
MATRICES, HEAD = 2 * (4 * 32 * 32 + 2 * 32 * 64), 64 * 32
ATTENTION = 6 * 2 * 16 * 32


def test_a_weight_that_learns_takes_six_operations():
    assert flops_per_token(GPT(GPTConfig(**SIZES)), 16) == 6 * (MATRICES + HEAD) + ATTENTION


@pytest.mark.parametrize("precision", [None, "int8"])
def test_a_frozen_weight_takes_four(precision):
    net = GPT(GPTConfig(**SIZES))
    if precision:
        quantize(net, precision)
    add_lora(net, LoraConfig(2, targets=("q",)))
    assert flops_per_token(net, 16) == 4 * (MATRICES + HEAD) + 6 * 2 * (2 * 32 * 2) + ATTENTION


@pytest.mark.parametrize("kind", ["switch", "gshard"])
def test_only_the_experts_that_a_token_goes_to_are_counted(kind):
    def of(n_experts, d_ff=64):
        torch.manual_seed(0)
        sizes = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "n_decoder_layers": 2}
        widths = {"d_ff": d_ff, "d_decoder_ff": d_ff}
        if kind == "switch":
            sparse = {"n_sparse_layers": 1, "n_sparse_decoder_layers": 1}
            config = switch_config.SwitchConfig(**sizes, **sparse, d_ff=d_ff, d_head=16, n_experts=n_experts)
            net = switch.Switch(config)
        else:
            net = gshard.GShard(
                gshard_config.GShardConfig(
                    **sizes, **widths, sparse_step=2, decoder_sparse_step=2, n_experts=n_experts
                )
            )
        routers = sum(isinstance(part, switch.Router) for part in net.modules())
        assert routers
        return flops_per_token(net, 16) - routers * 6 * 32 * n_experts

    assert of(4) == of(8)
    each, dense, sparse = 6 * 2 * 32 * 64, 2, 2
    assert of(4, 128) - of(4, 64) == each * (dense + sparse * {"switch": 1, "gshard": 2}[kind])

"""Networks with experts write through the engine, and whoever shares their batch changes nothing."""

from typing import Any

import pytest
import torch
from tiny import END, tokenizer

from kun.families.switch.gshard import GShard, GShardConfig
from kun.families.switch.switch import Switch, SwitchConfig
from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel

GREEDY = SamplingOptions(max_tokens=16, temperature=0, ignore_eos=True)
PROMPTS = ["a", "Once upon a time", "x" * 70, "Once upon a hill", "第一章 绪论", "Once upon a time"]
SIZES: dict[str, Any] = {
    "vocab_size": 260, "d_model": 32, "n_layers": 2, "n_decoder_layers": 2, "n_heads": 4, "d_ff": 48,
    "n_experts": 4, "expert_capacity": 1, "start_token": 259, "pad_token": 258,
}  # fmt: skip


def network(name: str) -> Any:
    """Random, and with a capacity that would drop nearly all tokens."""
    torch.manual_seed(5)
    if name == "switch":
        net: Any = Switch(SwitchConfig(**SIZES, d_head=8, n_sparse_layers=1, n_sparse_decoder_layers=1))
    else:
        net = GShard(
            GShardConfig(**SIZES, n_decoder_heads=4, d_decoder_ff=48, sparse_step=2, decoder_sparse_step=2)
        )
    for parameter in net.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


@torch.no_grad()
def written(net: Any, source: list[int], count: int) -> list[int]:
    """The likeliest tokens, one whole pass for each."""
    tokens = [net.config.start_token]
    for _ in range(count):
        logits = net(torch.tensor([source]), None, torch.tensor([tokens])).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[1:]


@pytest.mark.parametrize("name", ["switch", "gshard"])
def test_a_batch_of_several_sources_writes_what_each_writes_alone(name: str) -> None:
    net = network(name)
    said = {"eos_token_id": END, "bos_token_id": END}
    with LanguageModel(net, tokenizer(), net.config, generation_config=said) as lm:
        running = [lm.submit(prompt, GREEDY) for prompt in PROMPTS]
        for prompt, one in zip(PROMPTS, running, strict=True):
            assert one.result()[0].token_ids == written(net, lm.encode(prompt), 16)
        assert lm.stats()["pages_used"] == 0

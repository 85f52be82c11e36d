"""Every decoder writes through the one engine what its reference writes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from tiny import CHAT, END, tokenizer

from kun.errors import BadInput, ContextOverflow
from kun.families import family_of
from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel
from kun.networks.network import load_state
from kun.text.chat import ChatTemplate

GREEDY = SamplingOptions(max_tokens=16, temperature=0, ignore_eos=True)
PROMPTS = ["a", "Once upon a time", "x" * 70, "Once upon a hill", "第一章 绪论", "Once upon a time"]
SPECIAL: dict[str, Any] = {
    "vocab_size": 260,
    "bos_token_id": END,
    "eos_token_id": END,
    "initializer_range": 0.3,
}
GATED: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": END,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "gpt1": lambda: transformers.OpenAIGPTConfig(n_embd=32, n_layer=2, n_head=4, n_positions=128, **SPECIAL),
    "gpt3": lambda: transformers.GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=128,
        attention_types=[[["global", "local"], 1]], window_size=11, **SPECIAL,
    ),
    "qwen3": lambda: transformers.Qwen3Config(**GATED, **SPECIAL),
    "ernie4.5": lambda: transformers.Ernie4_5Config(**GATED, **SPECIAL),
    "bloom": lambda: transformers.BloomConfig(hidden_size=48, n_layer=2, n_head=6, **SPECIAL),
    "glm": lambda: transformers.GlmConfig(**GATED, **SPECIAL),
}  # fmt: skip


def language_model(config: dict[str, Any], state: dict[str, torch.Tensor] | None = None) -> LanguageModel:
    family = family_of(config)
    net = family.network(family.config.from_hf(config))
    if state is not None:
        load_state(net, net.names.ours(state))
    ends = {"eos_token_id": END, "bos_token_id": END}
    return LanguageModel(
        net.eval(), tokenizer(), net.config, generation_config=ends, template=ChatTemplate(CHAT)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_ragged_batch_writes_what_the_reference_writes_alone(name: str) -> None:
    torch.manual_seed(5)
    theirs = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with language_model(theirs.config.to_dict(), theirs.state_dict()) as lm:
        running = [lm.submit(prompt, GREEDY) for prompt in PROMPTS]
        for prompt, one in zip(PROMPTS, running, strict=True):
            given = torch.tensor([lm.encode(prompt)])
            out = theirs.generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=16, min_new_tokens=16,
                do_sample=False, eos_token_id=None, pad_token_id=END,
            )  # fmt: skip
            assert one.result()[0].token_ids == out[0, given.shape[1] :].tolist()
        assert lm.stats()["cached_tokens"] > 0


CHATGLM = {
    "model_type": "chatglm",
    "vocab_size": 264,
    "hidden_size": 32,
    "num_layers": 2,
    "num_attention_heads": 2,
    "inner_hidden_size": 64,
    "max_sequence_length": 128,
    "position_encoding_2d": True,
    "bos_token_id": 263,
    "eos_token_id": END,
    "mask_token_id": 260,
    "gmask_token_id": 261,
    "pad_token_id": 262,
}


@pytest.fixture(scope="module")
def chatglm() -> Any:
    torch.manual_seed(5)
    with language_model(CHATGLM) as lm:
        for parameter in lm.net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        yield lm


@torch.no_grad()
def test_the_first_chatglm_writes_what_whole_passes_choose(chatglm: LanguageModel) -> None:
    """Also where the same prompt comes again, and where two prompts begin alike, which share no page."""
    running = [chatglm.submit(prompt, GREEDY) for prompt in PROMPTS]
    for prompt, one in zip(PROMPTS, running, strict=True):
        ids = [*chatglm.encode(prompt), 261, 263]
        for _ in range(16):
            ids.append(int(chatglm.net(torch.tensor([ids])).logits[0, -1].argmax()))
        assert one.result()[0].token_ids == ids[-16:]


def test_a_prompt_that_is_read_as_a_whole_has_no_log_probabilities(chatglm: LanguageModel) -> None:
    with pytest.raises(BadInput, match="reads a prompt as a whole"):
        chatglm.prompt_logprobs("Once upon a time")


def test_a_prompt_leaves_room_for_what_the_family_adds_to_it(chatglm: LanguageModel) -> None:
    with pytest.raises(ContextOverflow):
        chatglm.submit("x" * 127, GREEDY)

"""Steps of a few tokens in compiled code: those of every family agree with its network."""

from typing import Any

import pytest
import torch
from nets import float_net

from kun.adaptation import float_step
from kun.adaptation.float_step import MOST_TOKENS, FloatStep
from kun.adaptation.fuse import fuse
from kun.adaptation.trace import LINEAR, Op, Trace, TracedContext, Untraceable, grouped
from kun.blocks.rotary import rotate
from kun.families import family_of
from kun.networks.decoding import DecodingState, RowState
from kun.networks.network import LanguageNetwork

VOCAB = 90
GATED: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
STACKS: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "max_position_embeddings": 128, "pad_token_id": 0,
    "decoder_start_token_id": 0, "is_encoder_decoder": True,
}  # fmt: skip
T5: dict[str, Any] = {
    "d_model": 48, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 4, "is_encoder_decoder": True,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "gpt_neo": {
        "hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 128, "window_size": 5,
        "attention_types": [[["global", "local"], 1]],
    },
    "llama": GATED | {"num_attention_heads": 3, "num_key_value_heads": 1},
    "qwen3": GATED,
    "glm": GATED,
    "chatglm": {
        "hidden_size": 64, "num_layers": 2, "num_attention_heads": 2, "inner_hidden_size": 96, "bos_token_id": 1,
        "eos_token_id": 2, "mask_token_id": 3, "gmask_token_id": 4, "max_sequence_length": 128,
        "position_encoding_2d": True,
    },
    "bloom": {"hidden_size": 96, "n_layer": 2, "n_head": 6},
    "t5": T5,
    "t5, gated": T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "switch_transformers": T5 | {"num_experts": 3, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
    "marian": STACKS | {"activation_function": "gelu"},
    "nllb-moe": STACKS | {"num_experts": 3, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
}  # fmt: skip
PROMPTS = ([5, 9, 2, 7, 7], [11], list(range(20, 57)))


def network(name: str) -> LanguageNetwork:
    torch.manual_seed(0)
    hf = {"model_type": name.partition(",")[0], "vocab_size": VOCAB} | CONFIGS[name]
    family = family_of(hf)
    net = family.network(family.config.from_hf(hf)).eval()
    assert isinstance(net, LanguageNetwork)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


class Rows:
    """Rows of prompts over a state of their own, run step by step."""

    def __init__(self, net: LanguageNetwork, run: torch.nn.Module, prompts: tuple[list[int], ...]) -> None:
        self.run = run
        self.state: DecodingState = net.new_state(128, 4, torch.float32, torch.device("cpu"))
        self.rows: list[RowState] = [self.state.start(prompt) for prompt in prompts]
        self.tables = [list(range(20 * row, 20 * row + 20)) for row in range(len(prompts))]
        self.before = [0] * len(prompts)

    def step(self, tokens: list[list[int]]) -> torch.Tensor:
        counts = [len(each) for each in tokens]
        step = self.state.step(self.rows, self.tables, self.before, counts)
        self.before = [old + new for old, new in zip(self.before, counts, strict=True)]
        last = torch.tensor(counts).cumsum(0) - 1
        with torch.no_grad():
            logits: torch.Tensor = self.run(
                torch.tensor([[token for row in tokens for token in row]]), cache=step, logits_at=last
            ).logits
        return logits[0]

    def begin(self) -> torch.Tensor:
        return self.step([list(row.tokens) for row in self.rows])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_steps_of_every_family_agree_with_its_network(name: str) -> None:
    net = network(name)
    fused = fuse(net)
    assert isinstance(fused, FloatStep)
    ours, theirs = Rows(net, fused, PROMPTS), Rows(net, net, PROMPTS)
    torch.testing.assert_close(ours.begin(), theirs.begin(), rtol=1e-4, atol=1e-4)
    for tokens in ([[8], [3], [4]], [[6, 7, 8], [9], [10, 12]], [[1], [1], [13]]):
        torch.testing.assert_close(ours.step(tokens), theirs.step(tokens), rtol=1e-4, atol=1e-4)
    assert fused.compiled


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_a_row_of_a_decoder_gets_the_same_bits_in_any_step_of_a_few_tokens(name: str) -> None:
    net = network(name)
    fused = fuse(net)
    short = ([5, 9, 2], [11], [1, 2], [3], [4], [6])
    together, alone = Rows(net, fused, short), Rows(net, fused, short[:1])
    assert torch.equal(together.begin()[:1], alone.begin())
    assert torch.equal(together.step([[7]] * 6)[:1], alone.step([[7]]))


@pytest.mark.usefixtures("compiled")
def test_a_row_that_looks_at_a_source_gets_the_same_logits_in_any_step_up_to_rounding() -> None:
    net = network("t5")
    fused = fuse(net)
    short = ([5, 9, 2], [11], [1, 2], [3], [4], [6])
    together, alone = Rows(net, fused, short), Rows(net, fused, short[:1])
    torch.testing.assert_close(together.begin()[:1], alone.begin(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.step([[7]] * 6)[:1], alone.step([[7]]), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_weights_that_are_put_in_the_place_of_others_count_from_the_next_step_on(name: str) -> None:
    net, other = network(name), network(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    fused = fuse(net)
    Rows(net, fused, PROMPTS[:2]).begin()
    for parameter, new in zip(net.parameters(), other.parameters(), strict=True):
        parameter.data = new.data
    got, wanted = Rows(net, fused, PROMPTS[:2]).begin(), Rows(other, other, PROMPTS[:2]).begin()
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("compiled")
def test_long_steps_and_bfloat16_go_to_the_network_itself() -> None:
    net = network("llama")
    fused = fuse(net)
    assert isinstance(fused, FloatStep)
    Rows(net, fused, (list(range(MOST_TOKENS + 1)),)).begin()
    assert not fused.compiled
    assert fuse(network("llama").bfloat16()).__class__ is net.__class__


@pytest.mark.usefixtures("compiled")
def test_what_compiled_code_has_no_word_for_is_run_by_the_network() -> None:
    narrow = float_net()
    narrow.norm.register_forward_hook(lambda _, given, made: made.abs())
    fused = fuse(narrow)
    assert isinstance(fused, FloatStep)
    got, wanted = Rows(narrow, fused, PROMPTS[:2]).begin(), Rows(narrow, narrow, PROMPTS[:2]).begin()
    assert torch.equal(got, wanted)
    assert not fused.compiled


@pytest.mark.usefixtures("compiled")
def test_numbers_that_change_in_their_own_place_count_from_the_next_step_on_also_those_of_biases() -> None:
    net = network("t5")
    fused = fuse(net)
    Rows(net, fused, PROMPTS[:2]).begin()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.5)
    got, wanted = Rows(net, fused, PROMPTS[:2]).begin(), Rows(net, net, PROMPTS[:2]).begin()
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("compiled")
def test_large_weights_move_into_large_pages_once_and_say_the_same_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(float_step, "_LARGE_PAGE", 2**12)
    net, other = network("llama"), network("llama")
    fused = fuse(net)
    assert isinstance(fused, FloatStep)
    assert fused.in_large_pages
    places = [parameter.data_ptr() for parameter in net.parameters()]
    assert places != [parameter.data_ptr() for parameter in other.parameters()]
    got, wanted = Rows(net, fused, PROMPTS[:2]).begin(), Rows(other, other, PROMPTS[:2]).begin()
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    again = fuse(net)
    assert isinstance(again, FloatStep)
    assert again.in_large_pages
    assert places == [parameter.data_ptr() for parameter in net.parameters()]


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("free", [None, 2**10])
def test_weights_stay_where_they_are_on_a_machine_without_memory_to_spare(
    monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    monkeypatch.setattr(float_step, "_LARGE_PAGE", 2**12)
    monkeypatch.setattr(float_step, "machine_memory", lambda: (2**40, free))
    net = network("llama")
    places = [parameter.data_ptr() for parameter in net.parameters()]
    fused = fuse(net)
    assert isinstance(fused, FloatStep)
    assert not fused.in_large_pages
    assert places == [parameter.data_ptr() for parameter in net.parameters()]


@pytest.mark.usefixtures("compiled")
def test_a_weight_that_is_made_on_the_way_leaves_its_network_to_torch() -> None:
    net = network("llama")
    head: Any = net.lm_head
    head.forward = lambda x: torch.nn.functional.linear(x, head.weight * 2)
    fused = fuse(net)
    assert isinstance(fused, FloatStep)
    got, wanted = Rows(net, fused, PROMPTS[:2]).begin(), Rows(net, net, PROMPTS[:2]).begin()
    assert torch.equal(got, wanted)
    assert not fused.compiled


def test_what_would_read_other_numbers_than_the_layers_do_is_not_traced() -> None:
    trace = Trace()
    cos, sin = trace.value(32), trace.value(32)
    x: Any = trace.value(64)
    heads = x.unflatten(-1, (-1, 32))
    turned: Any = rotate(heads, cos, sin)  # type: ignore[arg-type]
    assert turned.flatten(-2).width == 64
    for early in (lambda: heads.flatten(-2), lambda: x + x, lambda: heads.chunk(2)):
        with pytest.raises(Untraceable):
            early()
    context = TracedContext(trace)
    wide: Any = trace.value(64)
    narrow: Any = trace.value(32)
    keys, values = wide.unflatten(-1, (-1, 32)), narrow.unflatten(-1, (-1, 32))
    three: Any = trace.value(96)
    for q, k, v in (
        (turned, keys, values),  # a head of values less: it would be read beyond its end
        (turned, wide.unflatten(-1, (-1, 16)), wide.unflatten(-1, (-1, 16))),
        (turned.chunk(2)[0], keys, keys),
        (three.unflatten(-1, (-1, 32)), keys, keys),  # three heads on two
        (wide, wide, wide),
    ):
        with pytest.raises(Untraceable):
            context.attend(0, q, k, v)
    context.attend(0, turned, keys, keys)


def test_a_layer_that_adds_what_another_makes_waits_for_it() -> None:
    first = Op(LINEAR, 0, 1)
    assert grouped([first, Op(LINEAR, 0, 2)]) == [2, 1]
    assert grouped([first, Op(LINEAR, 0, 2, other=1)]) == [1, 1]
    assert grouped([first, Op(LINEAR, 0, 2), Op(LINEAR, 0, 3, other=1)]) == [1, 2, 1]

"""The first ChatGLM against the same computation written out in loops over tokens, heads and keys."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kun.errors import BadInput, ContextOverflow, DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.families.chatglm import FAMILY, ChatGLM, ChatGLMConfig
from kun.families.glm import FAMILY as LATER
from kun.networks.network import load_state

MASK, GMASK, BOS, EOS, PAD = 90, 91, 94, 95, 3
CONFIG = {
    "model_type": "chatglm",
    "vocab_size": 97,
    "hidden_size": 32,
    "num_layers": 3,
    "num_attention_heads": 2,
    "inner_hidden_size": 48,
    "max_sequence_length": 64,
    "layernorm_epsilon": 1e-5,
    "position_encoding_2d": True,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "mask_token_id": MASK,
    "gmask_token_id": GMASK,
    "pad_token_id": PAD,
}
State = dict[str, torch.Tensor]


def original_state() -> State:
    """Random weights under the original's names, query, key and value of a head side by side."""
    torch.manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {"transformer.word_embeddings.weight": (97, 32)}
    for layer in range(3):
        start = f"transformer.layers.{layer}."
        for name, out, into in (
            ("attention.query_key_value", 96, 32),
            ("attention.dense", 32, 32),
            ("mlp.dense_h_to_4h", 48, 32),
            ("mlp.dense_4h_to_h", 32, 48),
        ):
            shapes |= {f"{start}{name}.weight": (out, into), f"{start}{name}.bias": (out,)}
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{start}{name}.weight": (32,), f"{start}{name}.bias": (32,)}
    shapes |= {"transformer.final_layernorm.weight": (32,), "transformer.final_layernorm.bias": (32,)}
    return {name: torch.randn(shape) * (0.3 if len(shape) == 2 else 1.0) for name, shape in shapes.items()}


STATE = original_state()


def network(state: State = STATE, **changes: Any) -> ChatGLM:
    net = ChatGLM(ChatGLMConfig.from_hf(CONFIG | changes))
    load_state(net, net.names.ours(state))
    return net.eval()


NET = network()


def written_out(ids: list[int]) -> np.ndarray:
    """Logits [t, vocabulary] of one row, in float64, a token and a head and a key at a time."""
    w = {name.removeprefix("transformer."): tensor.double().numpy() for name, tensor in STATE.items()}
    prompt = ids.index(BOS) if BOS in ids else len(ids)
    blank = ids.index(GMASK) if GMASK in ids else ids.index(MASK) if MASK in ids else None
    heads, width, n = 2, 16, len(ids)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def turned(half: np.ndarray, position: int) -> np.ndarray:
        out = np.empty(8)
        for i in range(4):
            angle = position / 10000 ** (2 * i / 8)
            out[i] = half[i] * math.cos(angle) - half[i + 4] * math.sin(angle)
            out[i + 4] = half[i + 4] * math.cos(angle) + half[i] * math.sin(angle)
        return out

    def placed(head: np.ndarray, token: int) -> np.ndarray:
        answers = token >= prompt
        in_text = blank if answers and blank is not None else token
        in_blank = token - prompt + 1 if answers else 0
        return np.concatenate([turned(head[:8], in_text), turned(head[8:], in_blank)])

    x = [w["word_embeddings.weight"][token] for token in ids]
    alpha = math.sqrt(2 * 3)
    for layer in range(3):
        name = f"layers.{layer}."
        x = [norm(state, name + "input_layernorm") for state in x]
        fused = [linear(state, name + "attention.query_key_value") for state in x]
        mixed = [np.zeros(32) for _ in ids]
        for head in range(heads):
            part = [fused[t][head * 48 : (head + 1) * 48] for t in range(n)]
            q = [placed(part[t][:width], t) for t in range(n)]
            k = [placed(part[t][width : 2 * width], t) for t in range(n)]
            for t in range(n):
                seen = [s for s in range(n) if s <= t or s < prompt]
                scores = np.array([q[t] @ k[s] / math.sqrt(width) for s in seen])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                for weight, s in zip(weights, seen, strict=True):
                    mixed[t][head * width : (head + 1) * width] += weight * part[s][2 * width :]
        for t in range(n):
            state = norm(
                alpha * x[t] + linear(mixed[t], name + "attention.dense"), name + "post_attention_layernorm"
            )
            inner = linear(state, name + "mlp.dense_h_to_4h")
            gelu = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
            x[t] = alpha * state + linear(gelu, name + "mlp.dense_4h_to_h")
    return np.stack([w["word_embeddings.weight"] @ norm(state, "final_layernorm") for state in x])


words = st.lists(st.integers(4, 89), min_size=1, max_size=7)
rows = st.one_of(
    st.builds(lambda prompt, answer: [*prompt, GMASK, BOS, *answer], words, words),
    st.builds(lambda before, after, answer: [*before, MASK, *after, BOS, *answer], words, words, words),
    st.builds(
        lambda before, after, answer: [*before, MASK, *after, GMASK, BOS, *answer], words, words, words
    ),
    st.builds(lambda prompt, answer: [*prompt, BOS, *answer], words, words),
    st.builds(lambda prompt: [*prompt, GMASK, BOS], words),
    words,
)


@torch.no_grad()
def logits(net: ChatGLM, ids: list[int]) -> torch.Tensor:
    return net(torch.tensor([ids])).logits[0]


@given(rows)
def test_logits_are_those_of_the_computation_written_out(ids: list[int]) -> None:
    assert torch.allclose(logits(NET, ids).double(), torch.from_numpy(written_out(ids)), atol=1e-4)


@given(rows, st.integers(0, 5), st.integers(0, 5))
def test_padding_on_either_side_changes_nothing(ids: list[int], left: int, right: int) -> None:
    padded = torch.tensor([[PAD] * left + ids + [PAD] * right])
    mask = torch.tensor([[0] * left + [1] * len(ids) + [0] * right])
    with torch.no_grad():
        among = NET(padded, mask).logits[0]
    assert torch.isfinite(among).all()
    assert torch.allclose(among[left : left + len(ids)], logits(NET, ids), atol=1e-4)


def test_a_prompt_sees_all_of_itself_and_nothing_of_the_answer() -> None:
    ids = [5, 6, 7, GMASK, BOS, 8, 9]
    first = logits(NET, ids)[0]
    assert not torch.allclose(logits(NET, [5, 6, 50, *ids[3:]])[0], first, atol=1e-2)
    assert torch.allclose(logits(NET, [*ids[:6], 60])[:6], logits(NET, ids)[:6], atol=1e-5)


@given(st.lists(st.tuples(rows.filter(lambda ids: BOS in ids), st.integers(1, 4)), min_size=1, max_size=3))
def test_packed_steps_over_a_cache_equal_one_uncached_pass(asked: list[tuple[list[int], int]]) -> None:
    """The prompt with its start token in one step, then tokens in chunks of any size, rows side by side."""
    state = NET.new_state(64, 4, torch.float32, torch.device("cpu"))
    texts = [ids for ids, _ in asked]
    started = [state.start(ids) for ids in texts]
    assert [row.tokens for row in started] == texts
    tables = [list(range(row * 8, row * 8 + 8)) for row in range(len(texts))]
    done = [0] * len(texts)
    while any(end < len(ids) for end, ids in zip(done, texts, strict=True)):
        run = [row for row, ids in enumerate(texts) if done[row] < len(ids)]
        counts = [
            min(asked[row][1] if done[row] else started[row].prefix + 1, len(texts[row]) - done[row])
            for row in run
        ]
        step = state.step([started[r] for r in run], [tables[r] for r in run], [done[r] for r in run], counts)
        packed = [
            token
            for r, count in zip(run, counts, strict=True)
            for token in texts[r][done[r] : done[r] + count]
        ]
        with torch.no_grad():
            got = NET(torch.tensor([packed]), cache=step).logits[0].split(counts)
        for row, count, piece in zip(run, counts, got, strict=True):
            wanted = logits(NET, texts[row])[done[row] : done[row] + count]
            assert torch.allclose(piece, wanted, atol=1e-4)
            done[row] += count


def test_a_row_begins_with_its_prompt_a_blank_and_the_start_token() -> None:
    state = NET.new_state(4, 4, torch.float32, torch.device("cpu"))
    row = state.start([5, 6])
    assert (row.tokens, row.prefix, row.blank) == ([5, 6, GMASK, BOS], 3, 2)
    row = state.start([5, MASK, 6])
    assert (row.tokens, row.prefix, row.blank) == ([5, MASK, 6, BOS], 3, 1)
    row = state.start([5, GMASK, BOS, 7])
    assert (row.tokens, row.prefix, row.blank) == ([5, GMASK, BOS, 7], 2, 1)
    with pytest.raises(ContextOverflow, match="66 tokens and leaves no room in the context of 64"):
        state.start([5] * 64)


def test_pages_are_shared_by_rows_of_one_prompt_alone() -> None:
    """What a prompt's tokens compute depends on all of it."""
    state = NET.new_state(4, 4, torch.float32, torch.device("cpu"))
    assert state.start([5, 6, 7, 8]).root == state.start([5, 6, 7, 8]).root
    assert state.start([5, 6, 7, 8]).root != state.start([5, 6, 7, 9]).root


def test_weights_go_out_as_they_came_in() -> None:
    assert NET.names.reference(NET.state_dict()).keys() == STATE.keys()
    assert all(
        torch.equal(tensor, STATE[name]) for name, tensor in NET.names.reference(NET.state_dict()).items()
    )
    buffers = {f"transformer.layers.{i}.attention.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}
    head = {"lm_head.weight": STATE["transformer.word_embeddings.weight"].clone()}
    assert torch.equal(logits(network(STATE | buffers | head), [5, GMASK, BOS]), logits(NET, [5, GMASK, BOS]))
    untied = network(STATE | head, tie_word_embeddings=False)
    assert torch.equal(logits(untied, [5, GMASK, BOS]), logits(NET, [5, GMASK, BOS]))


def test_gradients_reach_every_weight_and_a_masked_row_gives_no_nan() -> None:
    net = network()
    out = net(
        torch.tensor([[5, 6, GMASK, BOS, 7], [5, 6, GMASK, BOS, 7]]), torch.tensor([[1] * 5, [0] * 5])
    ).logits
    out.square().mean().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_first_and_the_later_ones_are_told_apart_by_their_fields() -> None:
    assert family_of(CONFIG) is FAMILY
    assert family_of({"model_type": "chatglm", "multi_query_group_num": 2}) is LATER
    config = ChatGLMConfig.from_hf(CONFIG)
    assert ChatGLMConfig.from_hf(config.to_hf()) == config
    assert family_of(config.to_hf()) is FAMILY


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("hidden_size", 36, BadInput),
        ("gmask_token_id", 97, BadInput),
        ("num_layers", 0, BadInput),
        ("position_encoding_2d", False, UnsupportedFormat),
        ("quantization_bit", 4, UnsupportedFormat),
        ("pre_seq_len", 128, UnsupportedFormat),
    ],
)
def test_what_a_config_cannot_be_is_refused_by_name(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        ChatGLMConfig.from_hf(CONFIG | {name: value})


def test_bad_input_is_named() -> None:
    fused = "transformer.layers.0.attention.query_key_value.weight"
    with pytest.raises(DamagedFile, match=rf"{fused} has shape \[95, 32\]; the config asks for 96 rows"):
        network(STATE | {fused: torch.ones(95, 32)})
    with pytest.raises(BadInput, match="beyond the 64 positions"):
        NET(torch.full((1, 65), 5))
    with pytest.raises(BadInput, match="outside the vocabulary of 97"):
        NET(torch.tensor([[97]]))
    with pytest.raises(BadInput, match="needs positions"):
        NET(inputs_embeds=torch.ones(1, 2, 32))
    state = NET.new_state(4, 4, torch.float32, torch.device("cpu"))
    with pytest.raises(BadInput, match="must be run at once"):
        state.step([state.start([5, 6, 7])], [[0, 1]], [0], [2])


@torch.no_grad()
def test_embeddings_and_positions_can_be_given_in_place_of_ids() -> None:
    ids = torch.tensor([[5, 6, GMASK, BOS, 7]])
    positions = torch.tensor([[[0, 1, 2, 2, 2], [0, 0, 0, 1, 2]]])
    assert torch.equal(NET(inputs_embeds=NET.embed(ids), positions=positions).logits, NET(ids).logits)

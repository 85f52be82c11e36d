"""A network runs packed steps over a cache, and padding changes nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from parity import DECODERS, SIZE, VOCAB, ours, reference, tokens
from torch import nn

from kun.blocks.cache import PagedCache
from kun.errors import BadInput
from kun.networks.decoder import Decoder

Pair = tuple[nn.Module, nn.Module]
PAGE = 4


def new_cache(net: nn.Module, n_pages: int = 64) -> PagedCache:
    return net.new_state(n_pages, PAGE, torch.float32, torch.device("cpu")).cache


@torch.no_grad()
def test_cached_steps_equal_one_uncached_pass(decoders: Pair) -> None:
    """Prompts of different lengths, then single tokens, a prompt that joins late, page boundaries crossed."""
    _, net = decoders
    ids, cache = tokens(3, 30), new_cache(net)
    whole = net(ids).logits
    tables = [[9, 2, 30, 11, 4, 5, 6, 7], [8, 1, 0, 3, 10, 12, 13, 14], [20, 21, 22, 23, 24, 25, 26, 27]]
    done = [0, 0, 0]
    for counts in ([13, 4, 0], [1, 1, 0], [1, 1, 9], [3, 1, 1], [1, 1, 1], [5, 8, 2]):
        rows = [row for row, count in enumerate(counts) if count]
        step = cache.step([tables[r] for r in rows], [done[r] for r in rows], [counts[r] for r in rows])
        packed = torch.cat([ids[r, done[r] : done[r] + counts[r]] for r in rows])[None]
        wanted = torch.cat([whole[r, done[r] : done[r] + counts[r]] for r in rows])
        got = net(packed, positions=step.positions, cache=step).logits[0]
        assert torch.allclose(got, wanted, atol=1e-4)
        done = [before + count for before, count in zip(done, counts, strict=True)]


@torch.no_grad()
def test_logits_can_be_had_for_some_tokens_alone(decoders: Pair) -> None:
    _, net = decoders
    ids, at = tokens(1, 12), torch.tensor([11, 3])
    step = new_cache(net).step([[0, 1, 2]], [0], [12])
    wanted = net(ids).logits[:, at]
    assert torch.allclose(net(ids, logits_at=at).logits, wanted, atol=1e-5)
    assert torch.allclose(net(ids, cache=step, logits_at=at).logits, wanted, atol=1e-4)


@torch.no_grad()
def test_embeddings_can_be_given_in_place_of_ids(decoders: Pair) -> None:
    _, net = decoders
    ids = tokens(2, 9)
    assert torch.equal(net(inputs_embeds=net.embed(ids)).logits, net(ids).logits)
    for wrong in ({}, {"input_ids": ids, "inputs_embeds": net.embed(ids)}):
        with pytest.raises(BadInput, match="either"):
            net(**wrong)


NETS = {
    name: ours(reference(name))
    for name in (
        "llama-yarn",
        "qwen2-window",
        "mistral-window",
        "gpt2",
        "bert",
        "gpt1",
        "gpt3",
        "qwen3",
        "ernie4.5",
        "bloom",
        "glm",
    )
}


@given(st.sampled_from(sorted(NETS)), st.integers(1, 12), st.integers(0, 6), st.integers(0, 6))
def test_padding_on_either_side_changes_nothing(name: str, length: int, left: int, right: int) -> None:
    net, ids = NETS[name], tokens(1, length)
    padded = torch.nn.functional.pad(ids, (left, right), value=3)
    mask = torch.nn.functional.pad(torch.ones_like(ids), (left, right))
    with torch.no_grad():
        alone, among = net(ids)[0], net(padded, mask)[0]
    assert torch.allclose(among[:, left : left + length], alone, atol=1e-4)
    assert torch.isfinite(among).all()


@pytest.mark.parametrize("name", sorted(NETS))
def test_a_fully_masked_row_gives_no_nan_not_even_in_gradients(name: str) -> None:
    net, ids = NETS[name], tokens(2, 6)
    mask = torch.tensor([[0] * 6, [1] * 6])
    net.zero_grad()
    out = net(ids, mask)[0]
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert torch.allclose(out[1], net(ids[1:])[0][0], atol=1e-4)


@pytest.mark.parametrize("name", sorted(NETS))
@pytest.mark.parametrize("wrong", [VOCAB, -1, 2**40])
def test_an_id_outside_the_vocabulary_is_named(name: str, wrong: int) -> None:
    with pytest.raises(BadInput, match=f"{wrong} is outside the vocabulary of {VOCAB}"):
        NETS[name](torch.tensor([[1, wrong]]))


@pytest.mark.parametrize("name", sorted(NETS))
def test_input_of_the_wrong_kind_or_shape_is_refused(name: str) -> None:
    net = NETS[name]
    with pytest.raises(BadInput, match="whole numbers"):
        net(torch.ones(1, 3))
    with pytest.raises(BadInput, match="rows, tokens"):
        net(torch.tensor([1, 2]))
    with pytest.raises(BadInput, match="attention_mask has shape"):
        net(tokens(1, 3), torch.ones(1, 4))


@pytest.mark.parametrize("name", [*DECODERS, "bert"])
def test_a_position_beyond_the_table_is_named(name: str) -> None:
    net = ours(reference(name))
    limit = net.longest(cached=False) if isinstance(net, Decoder) else net.config.context_length
    if limit is None:
        return
    net(tokens(1, limit))
    with pytest.raises(BadInput, match=f"beyond the {limit} positions"):
        net(tokens(1, limit + 1))


def test_a_cache_ends_where_dynamic_scaling_would_turn_old_keys_again() -> None:
    net = ours(reference("llama-dynamic"))
    step = new_cache(net).step([list(range(9))], [0], [33])
    with pytest.raises(BadInput, match="beyond the 32 positions"):
        net(tokens(1, 33), cache=step)


def test_a_step_of_another_size_than_the_input_is_refused() -> None:
    net = NETS["gpt2"]
    with pytest.raises(BadInput, match="step has 3 tokens"):
        net(tokens(1, 4), cache=new_cache(net).step([[0]], [0], [3]))


@torch.no_grad()
def test_packed_texts_equal_padded_ones() -> None:
    net, ids = NETS["bert"], tokens(3, 12)
    lengths = [12, 1, 7]
    packed = torch.cat([row[:n] for row, n in zip(ids, lengths, strict=True)])[None]
    got = net(packed, lengths=lengths)
    for row, part in enumerate(got.last_hidden_state[0].split(lengths)):
        alone = net(ids[row : row + 1, : lengths[row]])
        assert torch.allclose(part, alone.last_hidden_state[0], atol=1e-5)
        assert torch.allclose(got.pooler_output[row], alone.pooler_output[0], atol=1e-5)
    for wrong in ([12, 1], [12, 0, 8], []):
        with pytest.raises(BadInput, match="Packed rows"):
            net(packed, lengths=wrong)


def test_a_token_type_that_bert_lacks_is_refused() -> None:
    with pytest.raises(BadInput, match="vocabulary of 2"):
        NETS["bert"](tokens(1, 3), token_type_ids=torch.full((1, 3), 2))


@torch.no_grad()
def test_bfloat16_stays_near_float32() -> None:
    net = ours(reference("llama-default"))
    wanted = net(tokens(2, 20)).logits
    got = net.bfloat16()(tokens(2, 20)).logits
    assert got.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(got.float(), wanted, dim=-1).min() > 0.99
    assert net.embed.weight.shape[1] == SIZE

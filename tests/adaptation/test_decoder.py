"""A quantized decoder: near to the float one, the same whether fused or not, the same in any batch."""

import importlib
from dataclasses import replace

import pytest
import torch
from nets import CONFIG, float_net, new_cache, prompt, quantized_net, run, tables
from torch import nn

from kun.adaptation.fuse import FusedLlama, fuse
from kun.adaptation.packing import pack, unpack
from kun.adaptation.quantize import (
    QuantizedEmbedding,
    QuantizedLinear,
    load_quantized,
    quantize,
    quantized_state,
)
from kun.blocks.rotary import RotaryConfig
from kun.errors import BadInput, DamagedFile
from kun.families.llama.llama import Layer, Llama

QWEN = replace(
    CONFIG,
    model_type="qwen2",
    attention_bias=True,
    tied=True,
    window=9,
    windows=(1,),
    rotary=RotaryConfig(theta=1e6),
)


@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.05), ("int4", 0.35)])
def test_logits_stay_near_those_of_floats(precision: str, bound: float) -> None:
    ids = prompt(40)
    with torch.no_grad():
        wanted, got = float_net()(ids).logits, quantized_net(precision)(ids).logits
    assert (got - wanted).norm() < bound * wanted.norm()


def test_without_a_compiler_it_is_the_same_up_to_rounding(uncompiled: None) -> None:
    ids = prompt(40)
    net = quantized_net("int8")
    assert fuse(net) is net
    with torch.no_grad():
        wanted, got = float_net()(ids).logits, net(ids).logits
    assert (got - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("config", [CONFIG, QWEN], ids=["llama", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fused_step_agrees_with_the_network(config: object, dtype: torch.dtype) -> None:
    net = quantized_net("int4", config)  # type: ignore[arg-type]
    fused = fuse(net)
    assert isinstance(fused, FusedLlama)
    caches, pages = [new_cache(dtype=dtype) for _ in range(2)], tables([70, 20, 40])
    for before, counts in (([0, 0, 0], [50, 3, 17]), ([50, 3, 17], [1, 1, 1]), ([51, 4, 18], [9, 1, 20])):
        ids = prompt(sum(counts), seed=sum(before))
        wanted, got = (
            run(each, ids, cache.step(pages, before, counts))
            for each, cache in zip((net, fused), caches, strict=True)
        )
        # not nearer: a value midway between two steps of the 8 bits may go to either
        assert (got - wanted).norm() < 0.03 * wanted.norm()
        assert (got.argmax(-1) == wanted.argmax(-1)).float().mean() > 0.9


@pytest.mark.usefixtures("compiled")
def test_a_row_is_the_same_bits_whatever_it_is_batched_with() -> None:
    """Read at once or in chunks, alone or among others, then written on."""
    fused, ids = fuse(quantized_net()), prompt(60)
    pages = tables([80, 80, 80])
    cache = new_cache()
    alone = run(fused, ids, cache.step(pages[:1], [0], [60]))
    after = run(fused, prompt(1, 9), cache.step(pages[:1], [60], [1]))
    cache = new_cache()
    for start, count in ((0, 7), (7, 33), (40, 20)):
        others = prompt(count + 2, seed=start)
        packed = torch.cat([others[:, :count], ids[:, start : start + count], others[:, count:]], dim=1)
        step = cache.step([pages[1], pages[0], pages[2]], [start, start, start // 2], [count, count, 2])
        assert torch.equal(run(fused, packed, step)[count : 2 * count], alone[start : start + count])
    rows = torch.cat([prompt(1, 3), prompt(1, 9)], dim=1)
    assert torch.equal(run(fused, rows, cache.step([pages[1], pages[0]], [60, 60], [1, 1]))[1:], after)


@pytest.mark.usefixtures("compiled")
def test_wanted_logits_are_those_of_all() -> None:
    fused, ids, pages = fuse(quantized_net()), prompt(33), tables([33])
    whole = run(fused, ids, new_cache().step(pages, [0], [33]))
    for places in ([32], [0, 31, 5], []):
        at = torch.tensor(places, dtype=torch.long)
        assert torch.equal(run(fused, ids, new_cache().step(pages, [0], [33]), at), whole[at])
    with pytest.raises(IndexError, match="outside the 33 tokens"):
        run(fused, ids, new_cache().step(pages, [0], [33]), torch.tensor([33]))


def test_embeddings_take_eight_bits_and_a_tied_head_is_the_embedding() -> None:
    net = quantized_net("int4", replace(CONFIG, tied=True))
    assert isinstance(net.embed, QuantizedEmbedding)
    assert isinstance(net.lm_head, QuantizedLinear)
    assert net.embed.packed.bits == net.lm_head.packed.bits == 8
    assert net.lm_head.codes.data_ptr() == net.embed.codes.data_ptr()
    assert not any(name.startswith("lm_head") for name in quantized_state(net))


def bits_of(net: torch.nn.Module) -> dict[str, int]:
    """Of every layer's matrices."""
    return {
        name: part.packed.bits
        for name, part in net.named_modules()
        if name.startswith("layers") and isinstance(part, QuantizedLinear)
    }


def code_bytes(net: torch.nn.Module) -> int:
    return sum(part.codes.nbytes + part.scales.nbytes for part in net.modules() if hasattr(part, "codes"))


def test_in_int4_keys_and_values_that_queries_share_take_eight_bits() -> None:
    bits = bits_of(quantized_net("int4"))
    assert all(bits[f"layers.{i}.attention.{part}"] == 8 for i in range(CONFIG.n_layers) for part in "kv")
    assert all(each == 4 for name, each in bits.items() if "mlp" in name)
    assert set(bits_of(quantized_net("int8")).values()) == {8}


def test_matrices_of_eight_bits_make_a_network_of_four_a_tenth_larger_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mixed = code_bytes(quantized_net("int4"))
    monkeypatch.setattr(importlib.import_module("kun.adaptation.quantize"), "RAISED_SHARE", 0.0)
    assert set(bits_of(quantized_net("int4")).values()) == {4}
    assert code_bytes(quantized_net("int4")) < mixed <= 1.1 * code_bytes(quantized_net("int4"))


def test_weights_that_four_bits_hold_stay_there() -> None:
    net = float_net()
    with torch.no_grad():
        for layer in net.layers:
            assert isinstance(layer, Layer)
            values = layer.attention.v.weight
            values.copy_(unpack(pack(values, 4), *values.shape))
    bits = bits_of(quantize(net, "int4"))
    assert all(bits[f"layers.{i}.attention.v"] == 4 for i in range(CONFIG.n_layers))
    assert all(bits[f"layers.{i}.attention.k"] == 8 for i in range(CONFIG.n_layers))


def test_one_of_many_experts_is_not_taken_for_a_small_matrix() -> None:
    torch.manual_seed(0)
    net = nn.Module()
    net.shared = nn.Linear(64, 64)
    net.experts = nn.ModuleList(nn.Linear(64, 32) for _ in range(16))
    quantize(net, "int4")
    assert isinstance(net.shared, QuantizedLinear)
    assert net.shared.packed.bits == 8
    assert all(expert.packed.bits == 4 for expert in net.experts if isinstance(expert, QuantizedLinear))


def test_what_is_kept_stays_float() -> None:
    net = quantize(float_net(), "int8", keep=["layers.0", "lm_head"])
    quantized = {
        name.split(".")[1] for name, part in net.named_modules() if isinstance(part, QuantizedLinear)
    }
    assert quantized == {"1", "2"}


@pytest.mark.parametrize("tied", [False, True])
def test_a_stored_network_comes_back(tied: bool) -> None:
    config = replace(CONFIG, tied=tied)
    net = quantized_net("int4", config)
    with torch.device("meta"):
        empty = Llama(config).eval()
    back = load_quantized(empty, quantized_state(net))
    with torch.no_grad():
        assert torch.equal(back(prompt(20)).logits, net(prompt(20)).logits)


@pytest.mark.parametrize("change", ["lost", "strange", "cut", "typed"])
def test_stored_weights_that_do_not_fit_are_named(change: str) -> None:
    state = quantized_state(quantized_net())
    name = "layers.1.mlp.down.codes"
    if change == "lost":
        del state[name]
    elif change == "strange":
        state["layers.9.mlp.down.codes"] = state[name]
    else:
        state[name] = state[name][:-1] if change == "cut" else state[name].int()
    with pytest.raises(DamagedFile, match="anew"):
        load_quantized(float_net(), state)


def test_other_bits_are_refused() -> None:
    with pytest.raises(BadInput, match="int3"):
        quantize(float_net(), "int3")  # type: ignore[arg-type]

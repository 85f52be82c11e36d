"""Several adapters beside one network: each row has its own, as if it were the merged model alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from nets import CONFIG, PAGE, float_net, new_cache, prompt, quantized_net, tables
from torch import Tensor, nn

from kun.adaptation.adapters import Adapted
from kun.adaptation.fuse import FusedLlama, fuse
from kun.adaptation.lora import LoraConfig, Pair, add_lora, attach, lora_pairs, merge
from kun.blocks.cache import CacheStep
from kun.errors import BadInput

EVERYWHERE = ("q", "k", "v", "o", "gate", "up", "down", "lm_head")


def pairs(
    seed: int, rank: int = 4, targets: tuple[str, ...] = EVERYWHERE, config: Any = CONFIG
) -> dict[str, Pair]:
    """A random adapter that changes much."""
    torch.manual_seed(seed)
    net = add_lora(float_net(config), LoraConfig(rank=rank, targets=targets))
    torch.manual_seed(seed)
    found = {name: pair.pair for name, pair in lora_pairs(net).items()}
    return {
        n: Pair(torch.randn_like(p.a) * 0.1, torch.randn_like(p.b) * 0.1, p.scale) for n, p in found.items()
    }


Adapters = dict[str, dict[str, Pair]]
ADAPTERS: Adapters = {
    "one": pairs(1),
    "few": pairs(2, rank=19, targets=("q", "down")),
    "last": pairs(3, rank=3, targets=("layers.2.*",)),
}


def run(
    net: nn.Module, ids: Tensor, step: CacheStep, who: list[str | None], at: Tensor | None = None
) -> Tensor:
    step.adapters = who
    with torch.no_grad():
        logits: Tensor = net(ids, cache=step, logits_at=at).logits[0]
    return logits


def merged(net: nn.Module, name: str | None, adapters: Adapters = ADAPTERS) -> nn.Module:
    """A float network with the weights that `net` has, and the adapter merged into them."""
    plain = float_net(net.config)  # type: ignore[arg-type]
    for layer, module in plain.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data = net.get_submodule(layer).weight.detach().clone()
    return plain if name is None else merge(attach(plain, adapters[name]))


def beside(net: nn.Module, adapters: Adapters = ADAPTERS) -> Adapted:
    adapted = Adapted(net)
    for name, adapter in adapters.items():
        adapted.add(name, adapter)
    return adapted


ROWS: list[tuple[str | None, int]] = [("one", 9), (None, 5), ("few", 30), ("one", 1), ("last", 14)]


def test_each_row_is_what_its_merged_model_says() -> None:
    adapted, counts = beside(float_net()), [count for _, count in ROWS]
    packed, lengths = [prompt(n, seed) for seed, n in enumerate(counts)], [n + PAGE for n in counts]
    cache, pages = new_cache(), tables(lengths)
    got = run(adapted, torch.cat(packed, 1), cache.step(pages, [0] * 5, counts), [name for name, _ in ROWS])
    after = run(adapted, prompt(5, 77), cache.step(pages, counts, [1] * 5), [name for name, _ in ROWS])
    for row, (read, part) in enumerate(zip(packed, got.split(counts), strict=True)):
        ids = torch.cat([read, prompt(5, 77)[:, row : row + 1]], 1)
        with torch.no_grad():
            wanted = merged(float_net(), ROWS[row][0])(ids).logits[0]
        torch.testing.assert_close(part, wanted[:-1], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(after[row], wanted[-1], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("precision", ["int4", "int8"])
@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, model_type="qwen2", attention_bias=True, d_ff=88)]
)
def test_a_fused_row_agrees_with_its_merged_model(precision: str, config: Any) -> None:
    """As near as the compiled step without adapters is to the floats that its codes stand for."""
    net = quantized_net(precision, config)
    fused, counts = fuse(net), [count for _, count in ROWS]
    assert isinstance(fused, FusedLlama)
    adapters = {name: pairs(seed, 3 + 8 * seed, config=config) for seed, name in enumerate(ADAPTERS)}
    adapted = beside(fused, adapters)
    ids = torch.cat([prompt(n, seed) for seed, n in enumerate(counts)], 1)
    step = new_cache(config).step(tables(counts), [0] * 5, counts)
    got = run(adapted, ids, step, [name for name, _ in ROWS]).split(counts)
    for part, row, (name, _) in zip(got, ids.split(counts, 1), ROWS, strict=True):
        with torch.no_grad():
            wanted = merged(net, name, adapters)(row).logits[0]
        assert (part - wanted).norm() < 0.04 * wanted.norm()


@pytest.mark.usefixtures("compiled")
def test_a_fused_row_is_the_same_bits_whatever_adapters_are_with_it() -> None:
    """Alone or among others, read at once or in chunks, and without an adapter as if there were none."""
    adapted, plain, ids = beside(fuse(quantized_net())), fuse(quantized_net()), prompt(60)
    pages = tables([80, 80, 80])
    for name in (None, "one", "few", "last"):
        alone = run(adapted, ids, new_cache().step(pages[:1], [0], [60]), [name])
        if name is None:
            assert torch.equal(alone, run(plain, ids, new_cache().step(pages[:1], [0], [60]), [None]))
        cache = new_cache()
        for start, count in ((0, 7), (7, 33), (40, 20)):
            others = prompt(count + 2, seed=start)
            packed = torch.cat([others[:, :count], ids[:, start : start + count], others[:, count:]], 1)
            step = cache.step([pages[1], pages[0], pages[2]], [start, start, start // 2], [count, count, 2])
            got = run(adapted, packed, step, ["few", name, "one"])
            assert torch.equal(got[count : 2 * count], alone[start : start + count])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("rank", [1, 8, 16, 21])
def test_compiled_pairs_add_what_float_ones_add_up_to_the_rounding_of_bfloat16(rank: int) -> None:
    """On the head, after which nothing bends what is added."""
    net, ids, counts = quantized_net(), prompt(23), [3, 1, 19]
    adapter = {"one": pairs(4, rank, targets=("lm_head",))}
    added = []
    for each in (beside(fuse(net), adapter), beside(net, adapter)):
        with_it, without = (
            run(each, ids, new_cache().step(tables(counts), [0] * 3, counts), who)
            for who in (["one", None, "one"], [None] * 3)
        )
        assert torch.equal(with_it[3], without[3])
        added.append(with_it - without)
    assert added[1].norm() > 0.1
    assert (added[0] - added[1]).norm() < 2**-7 * added[1].norm()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("places", [[32], [0, 31, 5], [], list(range(39)), list(range(38, -1, -1))])
def test_wanted_logits_are_those_of_all(fused: bool, places: list[int]) -> None:
    adapted = beside(fuse(quantized_net()) if fused else float_net())
    ids, pages, who = prompt(39), tables([20, 19]), ["one", None]
    whole = run(adapted, ids, new_cache().step(pages, [0, 0], [20, 19]), who)
    at = torch.tensor(places, dtype=torch.long)
    got = run(adapted, ids, new_cache().step(pages, [0, 0], [20, 19]), who, at)
    torch.testing.assert_close(got, whole[at], rtol=1e-4, atol=1e-5 if not fused else 0)


def test_the_base_itself_stays_as_it_is() -> None:
    net, ids = float_net(), prompt(9)
    with torch.no_grad():
        before = net(ids).logits
        beside(net)
        assert torch.equal(net(ids).logits, before)
    assert net.state_dict().keys() == float_net().state_dict().keys()


def test_what_is_not_there_or_does_not_fit_is_named() -> None:
    adapted = beside(float_net())
    assert "none" not in adapted
    assert "one" in adapted
    with pytest.raises(BadInput, match="'none'"):
        run(adapted, prompt(3), new_cache().step(tables([3]), [0], [3]), ["none"])
    with pytest.raises(BadInput, match="no layer"):
        adapted.add("odd", {"layers.9.attention.q": next(iter(ADAPTERS["one"].values()))})
    wrong = ADAPTERS["one"]["layers.0.mlp.down"]
    with pytest.raises(BadInput, match="shapes"):
        adapted.add("odd", {"layers.0.attention.q": wrong})

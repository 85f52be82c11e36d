"""Low-rank adapters: they start as nothing, they alone train, and merged they are the same network."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import CONFIG, float_net, prompt, quantized_net
from torch import Tensor, nn

from kun.adaptation.fuse import fuse
from kun.adaptation.lora import LoraConfig, add_lora, attach, base_state, lora_pairs, merge
from kun.errors import BadInput


def logits(net: nn.Module, seed: int = 0) -> Tensor:
    with torch.no_grad():
        out: Tensor = net(prompt(12, seed)).logits
    return out


def trained(net: nn.Module, steps: int = 4, lr: float = 0.02) -> list[float]:
    """The losses of a few steps on one sentence."""
    ids, losses = prompt(24), []
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=lr, weight_decay=0)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(net(ids).logits[0, :-1], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_new_adapter_changes_nothing() -> None:
    net = float_net()
    before = logits(net)
    add_lora(net, LoraConfig(rank=4))
    assert torch.equal(logits(net), before)
    assert len(lora_pairs(net)) == 7 * CONFIG.n_layers


@pytest.mark.parametrize("precision", [None, "int8", "int4"])
def test_only_the_adapter_trains_over_any_base(precision: str | None) -> None:
    net = float_net() if precision is None else quantized_net(precision)
    add_lora(net, LoraConfig(rank=4))
    before = {name: tensor.clone() for name, tensor in base_state(net).items()}
    losses = trained(net)
    assert losses[-1] < losses[0] - 0.05
    assert all(torch.equal(tensor, before[name]) for name, tensor in base_state(net).items())
    # the first layer's pairs learn too: gradients pass through all the bases above
    assert all(pair.a.grad is not None and pair.b.abs().sum() > 0 for pair in lora_pairs(net).values())


def test_gradients_through_a_quantized_base_are_those_of_the_weights_it_stands_for() -> None:
    quantized, plain = quantized_net("int4"), float_net()
    for name, layer in plain.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            layer.weight.data = quantized.get_submodule(name).weight.clone()
    torch.manual_seed(1)
    add_lora(quantized, LoraConfig(rank=4))
    attach(plain, {name: pair.pair for name, pair in lora_pairs(quantized).items()})
    for pair in lora_pairs(plain).values():
        pair.requires_grad_(True)
    x = torch.randn(1, 9, CONFIG.d_model)
    for net in (quantized, plain):
        net(inputs_embeds=x.clone().requires_grad_(True)).logits.square().sum().backward()
    for ours, theirs in zip(lora_pairs(quantized).values(), lora_pairs(plain).values(), strict=True):
        torch.testing.assert_close(ours.b.grad, theirs.b.grad, rtol=1e-3, atol=1e-3)


def test_merged_it_is_the_same_network_with_ordinary_weights() -> None:
    net = add_lora(float_net(), LoraConfig(rank=4, alpha=6))
    names = float_net().state_dict().keys()
    trained(net)
    adapted = logits(net)
    assert not torch.allclose(adapted, logits(float_net()), atol=1e-3)
    merge(net)
    torch.testing.assert_close(logits(net), adapted, rtol=1e-4, atol=1e-5)
    assert net.state_dict().keys() == names
    assert not lora_pairs(net)


def test_a_copy_is_adapted_and_merged_by_itself() -> None:
    net = add_lora(float_net(), LoraConfig(rank=2))
    trained(net)
    copied, adapted = copy.deepcopy(net), logits(net)
    merge(copied)
    torch.testing.assert_close(logits(copied), adapted, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(net), adapted)


@given(
    st.lists(st.sampled_from(["q", "attention.o", "layers.1.*", "mlp.*", "layers.?.attention.k"]), min_size=1)
)
def test_patterns_name_layers_or_their_ends(patterns: list[str]) -> None:
    with torch.device("meta"):
        net = type(float_net())(CONFIG)
    add_lora(net, LoraConfig(rank=1, targets=tuple(patterns)))
    wanted = {
        "q": lambda n: n.endswith(".q"),
        "attention.o": lambda n: n.endswith("attention.o"),
        "layers.1.*": lambda n: n.startswith("layers.1."),
        "mlp.*": lambda n: ".mlp." in n,
        "layers.?.attention.k": lambda n: n.endswith("attention.k"),
    }
    layers = [n for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    assert set(lora_pairs(net)) == {n for n in layers if any(wanted[p](n) for p in patterns)}


def test_whole_parts_train_beside_the_pairs() -> None:
    net = add_lora(float_net(), LoraConfig(rank=2, whole=("lm_head",)))
    trains = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name for name in trains if ".lora." not in name} == {"lm_head.weight"}


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"targets": ("q", "wup")}, "'wup'; did you mean up"),
        ({"targets": ("q_proj",)}, "'q_proj'; "),
        ({"targets": ()}, "targets is empty"),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": -1.0}, "alpha is -1"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"whole": ("lm_haed",)}, "did you mean lm_head"),
        ({"targets": ("lm_head",), "whole": ("lm_head",)}, "in targets and in whole"),
    ],
)
def test_what_cannot_be_meant_is_named(config: dict, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        add_lora(float_net(), LoraConfig(**config))


def test_a_second_adapter_and_merging_into_few_bits_are_refused() -> None:
    net = add_lora(quantized_net(), LoraConfig())
    with pytest.raises(BadInput, match="adapter already"):
        add_lora(net, LoraConfig())
    with pytest.raises(BadInput, match="quantized"):
        merge(net)


def test_a_network_with_an_adapter_in_training_is_not_fused() -> None:
    """The compiled step reads the base's matrices alone."""
    net = add_lora(quantized_net(), LoraConfig())
    assert fuse(net) is net


def test_a_frozen_base_keeps_no_activations_for_its_own_gradients() -> None:
    """What autograd holds grows with the rank, not with the matrices: inputs of A, and what nonlinear parts need."""

    def held(net: nn.Module) -> int:
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += 0 if tensor.data_ptr() in weights else tensor.numel()
            return tensor

        weights = {parameter.data_ptr() for parameter in net.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(prompt(40))
        return total

    whole = held(float_net())
    assert held(add_lora(float_net(), LoraConfig(rank=2, targets=("q",)))) < 0.8 * whole
    # nor unpacked weights: of a quantized base the codes are kept, as they are
    quantized = add_lora(quantized_net(), LoraConfig(rank=2))
    matrix = CONFIG.d_model * CONFIG.d_ff
    sizes: list[int] = []
    codes = {buffer.data_ptr() for buffer in quantized.buffers()}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (sizes.append(0 if t.data_ptr() in codes else t.numel()), t)[1], lambda t: t
    ):
        quantized(prompt(2))
    assert max(sizes) < matrix / 4

"""Switch and GShard: the reference's numbers where nothing is dropped, every token computed where it would drop."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from expert_pairs import PAIRS, VOCAB, each_to_its_own, nllb_config, reference, switch_config
from parity import ours, tokens
from test_parity import save
from torch import Tensor, nn
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeExperts
from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

from kun.adaptation.quantize import quantize
from kun.blocks.experts import Experts, Routing, balance_loss, z_loss
from kun.errors import BadInput, UnsupportedFormat
from kun.families import family_of
from kun.families.switch import gshard, switch

Pair = tuple[nn.Module, nn.Module]
STILL = {"dropout_rate": 0.0, "router_jitter_noise": 0.0}
"""Nothing random in training: Switch."""
STILL_NLLB = {
    "dropout": 0.0, "attention_dropout": 0.0, "moe_token_dropout": 0.0, "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _reference_runs_the_experts_that_it_chose() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NllbMoeExperts, "forward", each_to_its_own)
        yield


@pytest.fixture(params=list(PAIRS), scope="module")
def pair(request: pytest.FixtureRequest) -> Pair:
    theirs = reference(request.param)
    return theirs, ours(theirs)


def padded(ids: Tensor, left: int, right: int) -> tuple[Tensor, Tensor]:
    """The first row without padding, the second with some on either side."""
    mask = torch.ones_like(ids)
    mask[1, :left] = 0
    mask[1, ids.shape[1] - right :] = 0
    return torch.where(mask.bool(), ids.clamp(min=2), 1), mask


@torch.no_grad()
def test_logits_are_the_references(pair: Pair) -> None:
    theirs, mine = pair
    ids, targets = tokens(3, 40), tokens(3, 30)
    wanted, got = theirs(input_ids=ids, decoder_input_ids=targets), mine(ids, None, targets)
    assert torch.allclose(got.logits, wanted.logits, atol=1e-4)
    assert torch.allclose(got.encoder_last_hidden_state, wanted.encoder_last_hidden_state, atol=1e-4)


@torch.no_grad()
def test_a_padded_batch_gives_the_reference_logits(pair: Pair) -> None:
    theirs, mine = pair
    (ids, mask), (targets, target_mask) = padded(tokens(2, 20), 0, 6), padded(tokens(2, 15), 0, 4)
    wanted = theirs(
        input_ids=ids, attention_mask=mask, decoder_input_ids=targets, decoder_attention_mask=target_mask
    )
    got, real = mine(ids, mask, targets, target_mask), target_mask.bool()
    assert torch.allclose(got.logits[real], wanted.logits[real], atol=1e-4)


@torch.no_grad()
def test_padding_on_either_side_changes_nothing(pair: Pair) -> None:
    _, mine = pair
    ids, targets = tokens(1, 9).clamp(min=2), tokens(1, 7).clamp(min=2)
    alone = mine(ids, None, targets).logits
    wide, mask = (nn.functional.pad(each, (3, 4), value=fill) for each, fill in ((ids, 1), (ids * 0 + 1, 0)))
    long, target_mask = (
        nn.functional.pad(each, (2, 5), value=fill) for each, fill in ((targets, 1), (targets * 0 + 1, 0))
    )
    among = mine(wide, mask, long, target_mask).logits
    assert torch.allclose(among[:, 2:9], alone, atol=1e-4)
    assert torch.isfinite(among).all()


def test_empty_rows_give_no_nan_not_even_in_gradients(pair: Pair) -> None:
    _, mine = pair
    mine.zero_grad()
    mask = torch.tensor([[0] * 6, [1] * 6])
    out = mine(tokens(2, 6), mask, tokens(2, 5), mask[:, :5], output_router_logits=True)
    (out.logits.sum() + out.encoder_aux_loss + out.decoder_z_loss).backward()
    assert torch.isfinite(out.logits).all()
    assert all(torch.isfinite(p.grad).all() for p in mine.parameters() if p.grad is not None)


def check_gradients(theirs: Any, mine: Any, *given: Any, named: dict[str, Any]) -> None:
    for net in (theirs, mine):
        net.zero_grad()
        logits = net(*given, **named).logits
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        (logits * weights).mean().backward()
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    got = mine.names.reference({name: p.grad for name, p in mine.named_parameters() if p.grad is not None})
    assert got.keys() >= {name for name, gradient in wanted.items() if gradient is not None}
    for name, gradient in wanted.items():
        assert (gradient is None) == (name not in got), name
        if gradient is not None:
            assert torch.allclose(got[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max()))), (
                name
            )


def test_gradients_are_the_reference_gradients(pair: Pair) -> None:
    check_gradients(*pair, named={"input_ids": tokens(2, 24), "decoder_input_ids": tokens(2, 20)})


@torch.no_grad()
def test_what_we_save_the_reference_loads_and_computes_alike(pair: Pair, tmp_path: Path) -> None:
    _, mine = pair
    loaded, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        save(mine, tmp_path), output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(loaded).__name__ == mine.config.architecture
    ids, targets = tokens(2, 30), tokens(2, 20)
    wanted = loaded.eval()(input_ids=ids, decoder_input_ids=targets).logits
    assert torch.allclose(wanted, mine(ids, None, targets).logits, atol=1e-4)
    assert type(mine.config).from_hf(json.loads(json.dumps(mine.config.to_hf()))) == mine.config


@torch.no_grad()
def test_cached_steps_over_sources_of_several_lengths_equal_one_uncached_pass(pair: Pair) -> None:
    """Rows join late, share a source, write in pieces, and leave."""
    _, mine = pair
    sources, written = [tokens(1, length).clamp(min=2) for length in (17, 5, 30)], tokens(4, 12).clamp(min=2)
    of = [0, 1, 2, 1]
    whole = [mine(sources[of[row]], None, written[row : row + 1]).logits[0] for row in range(4)]
    state = mine.new_state(32, 4, torch.float32, torch.device("cpu"))
    starts = [state.start(source[0].tolist()) for source in sources]
    assert starts[0].tokens == [mine.config.start_token]
    done = [0] * 4
    for counts in ([3, 1, 0, 0], [1, 1, 1, 1], [2, 2, 4, 2], [0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 4]):
        rows = [row for row, count in enumerate(counts) if count]
        step = state.step(
            [starts[of[row]] for row in rows],
            [[3 * row, 3 * row + 1, 3 * row + 2] for row in rows],
            [done[row] for row in rows],
            [counts[row] for row in rows],
        )
        packed = torch.cat([written[row, done[row] : done[row] + counts[row]] for row in rows])[None]
        wanted = torch.cat([whole[row][done[row] : done[row] + counts[row]] for row in rows])
        assert torch.allclose(mine(packed, cache=step).logits[0], wanted, atol=1e-4)
        at = torch.tensor([packed.shape[1] - 1])
        assert torch.allclose(mine(packed, cache=step, logits_at=at).logits[0], wanted[-1:], atol=1e-4)
        done = [before + count for before, count in zip(done, counts, strict=True)]


@torch.no_grad()
def test_greedy_steps_over_the_cache_write_what_the_reference_generates(pair: Pair) -> None:
    theirs, mine = pair
    source = tokens(1, 13).clamp(min=2)
    # its own cache has no room for a decoder with more layers than the encoder
    asked = {"max_new_tokens": 20, "min_new_tokens": 20, "do_sample": False, "use_cache": False}
    start = mine.config.start_token
    wanted = theirs.generate(source, decoder_start_token_id=start, eos_token_id=None, **asked)
    state = mine.new_state(8, 4, torch.float32, torch.device("cpu"))
    row, written = state.start(source[0].tolist()), [start]
    for place in range(20):
        step = state.step([row], [list(range(8))], [place], [1])
        written.append(int(mine(torch.tensor([written[-1:]]), cache=step).logits[0, -1].argmax()))
    assert written == wanted[0].tolist()


@pytest.mark.parametrize("name", ["switch", "nllb"])
def test_quantization_leaves_the_router_as_it_is(name: str) -> None:
    mine = ours(reference(name))
    exact = mine(tokens(1, 9).clamp(min=2), None, tokens(1, 9).clamp(min=2), output_router_logits=True)
    before = {key: value.clone() for key, value in mine.state_dict().items() if ".router." in key}
    near = quantize(mine, "int8")(tokens(1, 9).clamp(min=2), None, tokens(1, 9).clamp(min=2))
    assert before
    assert all(torch.equal(mine.state_dict()[key], value) for key, value in before.items())
    assert torch.nn.functional.cosine_similarity(near.logits, exact.logits, dim=-1).min() > 0.95


@pytest.mark.parametrize("name", ["switch", "switch-untied"])
def test_router_losses_of_switch_are_the_references(name: str) -> None:
    theirs = reference(name)
    mine, asked = ours(theirs), {"decoder_input_ids": tokens(2, 20), "output_router_logits": True}
    wanted, got = (net(input_ids=tokens(2, 30), **asked) for net in (theirs, mine))
    for field in ("encoder_z_loss", "encoder_aux_loss", "decoder_z_loss", "decoder_aux_loss"):
        assert torch.allclose(getattr(got, field), getattr(wanted, field)), field
    for field in ("encoder_router_logits", "decoder_router_logits"):
        for layer, other in zip(getattr(got, field), getattr(wanted, field), strict=True):
            assert torch.allclose(layer, other, atol=1e-4)
    assert torch.allclose(got.decoder_z_loss, z_loss(torch.stack(got.decoder_router_logits)))


def test_router_losses_of_nllb_are_the_references_and_leave_padding_out() -> None:
    theirs = reference("nllb")
    mine, (ids, mask) = ours(theirs), padded(tokens(2, 20), 0, 6)
    targets, target_mask = padded(tokens(2, 15), 0, 4)
    asked = {"decoder_attention_mask": target_mask, "output_router_logits": True}
    wanted = theirs(ids, mask, targets, labels=targets, **asked)
    got = mine(ids, mask, targets, **asked)
    assert torch.allclose(got.encoder_aux_loss, wanted.encoder_aux_loss)
    assert torch.allclose(got.decoder_aux_loss, wanted.decoder_aux_loss)
    for layer, other in zip(got.encoder_router_logits, wanted.encoder_router_logits, strict=True):
        assert torch.allclose(layer[mask.bool().flatten()], other[mask.bool().flatten()], atol=1e-4)
    one_layer = got.decoder_router_logits[0].view(1, 30, 5)
    assert torch.allclose(got.decoder_aux_loss, balance_loss(one_layer, 2, target_mask.view(1, 30)))


@pytest.mark.parametrize("capacity", [1, 3, 64])
@pytest.mark.parametrize(
    ("name", "still"), [("switch", STILL), ("nllb", STILL_NLLB), ("nllb-normalized", STILL_NLLB)]
)
def test_training_drops_the_tokens_that_the_reference_drops(
    name: str, still: dict[str, Any], capacity: int
) -> None:
    theirs = reference(name, expert_capacity=capacity, **still)
    mine = ours(theirs).train()
    theirs.train()
    given = {"input_ids": tokens(3, 24), "decoder_input_ids": tokens(3, 20)}
    assert torch.allclose(mine(**given).logits, theirs(**given).logits, atol=1e-4)
    check_gradients(theirs, mine, named=given)


@torch.no_grad()
def test_inference_drops_nothing_though_the_reference_would() -> None:
    """Switch drops over `expert_capacity` at inference too: a checkpoint answers differently in a longer batch."""
    given = {"input_ids": tokens(2, 24), "decoder_input_ids": tokens(2, 20)}
    tight, roomy = reference("switch", expert_capacity=1), reference("switch", expert_capacity=64)
    assert not torch.allclose(tight(**given).logits, roomy(**given).logits, atol=1e-2)
    assert torch.allclose(ours(tight)(**given).logits, roomy(**given).logits, atol=1e-4)
    tight = reference("nllb", moe_eval_capacity_token_fraction=0.05)
    assert not torch.allclose(tight(**given).logits, reference("nllb")(**given).logits, atol=1e-2)
    assert torch.allclose(ours(tight)(**given).logits, reference("nllb")(**given).logits, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["switch", "nllb-normalized"])
def test_at_inference_every_token_is_computed_by_its_experts_whatever_the_capacity(name: str) -> None:
    mine = ours(reference(name, expert_capacity=1))
    layer = next(each.mlp for each in mine.encoder.layers if isinstance(each.mlp, Experts))
    x = torch.randn(2, 24, 32)
    got = layer(x, Routing())
    for row in range(2):
        for place in range(24):
            state = x[row, place]
            probabilities = layer.router(state).softmax(-1)
            best = probabilities.topk(1 if name == "switch" else 2)
            gates = best.values if name == "switch" else best.values / best.values.sum() * (1 - 0.2)
            pairs = zip(best.indices, gates, strict=True)
            wanted = sum(gate * layer.experts[int(expert)](state) for expert, gate in pairs)
            assert torch.allclose(got[row, place], wanted, atol=1e-5)


@torch.no_grad()
def test_capacity_counts_each_row_of_switch_and_the_whole_batch_of_gshard() -> None:
    config = switch.SwitchConfig(n_experts=4, capacity_factor=1.25)
    assert (config.capacity(64), switch.SwitchConfig().capacity(64)) == (20, 64)
    assert gshard.PRESETS["gshard-600b"].capacity(4096) == 4
    mine = ours(reference("switch", expert_capacity=3, **STILL)).train()
    ids, targets = tokens(1, 24), tokens(1, 9)
    twice = mine(ids.repeat(2, 1), None, targets.repeat(2, 1)).logits
    assert torch.allclose(twice[1:], mine(ids, None, targets).logits, atol=1e-5)


@torch.no_grad()
def test_masked_expert_outputs_are_on_average_what_inference_gives() -> None:
    layer = gshard.GShardExperts(gshard.GShardConfig(d_model=8, n_experts=3, output_masking=0.3), 16)
    x = torch.randn(1, 1, 8).expand(1, 4000, 8)
    torch.manual_seed(0)
    wanted = layer.eval()(x[:, :1], Routing())[0, 0]
    layer.config = gshard.GShardConfig(d_model=8, n_experts=3, output_masking=0.3, expert_capacity=4000)
    made = layer.train()(x, Routing())[0]
    assert torch.allclose(made.mean(0), wanted, atol=0.02)
    assert len(made.round(decimals=4).unique(dim=0)) == 4  # both experts, one of them, the other, none


def test_layers_are_dropped_in_training_as_often_as_the_config_says() -> None:
    torch.manual_seed(0)
    net = ours(reference("nllb", **(STILL_NLLB | {"encoder_layerdrop": 0.5})))
    given = {"input_ids": tokens(1, 6), "decoder_input_ids": tokens(1, 6)}
    counts = {len(net.train()(**given, output_router_logits=True).encoder_router_logits) for _ in range(20)}
    assert counts == {0, 1, 2}
    assert len(net.eval()(**given, output_router_logits=True).encoder_router_logits) == 2


@torch.no_grad()
def test_gated_experts_are_those_of_t5() -> None:
    """The reference's class of Switch has none, though google/switch-xxl-128 is made of them."""
    config = switch.SwitchConfig.from_hf(
        switch_config(num_experts=2).to_dict() | {"dense_act_fn": "gated-gelu"}
    )
    mine = switch.Switch(config).eval()
    theirs = T5DenseGatedActDense(transformers.T5Config(d_model=32, d_ff=48, feed_forward_proj="gated-gelu"))
    state = mine.names.reference(mine.state_dict())
    prefix = "encoder.block.1.layer.1.mlp.experts.expert_1."
    theirs.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
    x = torch.randn(3, 32)
    assert torch.allclose(mine.encoder.layers[1].mlp.experts[1](x), theirs.eval()(x), atol=1e-6)
    assert mine.names.ours(state).keys() == mine.state_dict().keys()
    assert switch.SwitchConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("base", "name", "value"),
    [
        (switch_config, "num_experts", 0),
        (switch_config, "num_sparse_encoder_layers", 5),
        (switch_config, "relative_attention_max_distance", 2),
        (switch_config, "expert_capacity", -1),
        (nllb_config, "d_model", 33),
        (nllb_config, "num_experts", 1),
        (nllb_config, "moe_token_dropout", 1.5),
        (nllb_config, "decoder_sparse_step", -1),
    ],
)
def test_an_impossible_size_names_the_field(base: Any, name: str, value: Any) -> None:
    config = base().to_dict() | {name: value}
    with pytest.raises(BadInput, match=name):
        family_of(config).config.from_hf(config)


@pytest.mark.parametrize(
    ("base", "name", "value"),
    [
        (switch_config, "router_dtype", "bfloat16"),
        (switch_config, "dense_act_fn", "mish"),
        (nllb_config, "second_expert_policy", "third"),
    ],
)
def test_a_switch_that_we_lack_is_refused_not_ignored(base: Any, name: str, value: Any) -> None:
    config = base().to_dict() | {name: value}
    with pytest.raises(UnsupportedFormat, match=name):
        family_of(config).config.from_hf(config)


def test_a_position_beyond_the_longest_is_named() -> None:
    net = ours(reference("nllb"))
    with pytest.raises(BadInput, match="beyond the 64 positions"):
        net(tokens(1, 65).clamp(min=2), None, tokens(1, 3))
    with pytest.raises(BadInput, match="beyond the 64 positions"):
        net(tokens(1, 3), None, tokens(1, 65).clamp(min=2))


def test_an_id_outside_the_vocabulary_is_named_on_both_sides() -> None:
    wrong = torch.tensor([[1, VOCAB]])
    for net in (ours(reference("switch")), ours(reference("nllb"))):
        for given in ((wrong, None, tokens(1, 2)), (tokens(1, 2), None, wrong)):
            with pytest.raises(BadInput, match=f"{VOCAB} is outside the vocabulary of {VOCAB}"):
                net(*given)


PARAMETERS = {
    "switch-base-8": 619_339_008,
    "switch-base-16": 1_072_397_568,
    "switch-base-32": 1_978_514_688,
    "switch-base-64": 3_790_748_928,
    "switch-base-128": 7_415_217_408,
    "switch-base-256": 14_664_154_368,
    "switch-large-128": 26_309_291_008,
    "switch-xxl-128": 394_675_073_024,
    "switch-c-2048": 1_571_308_972_448,
    "gshard-12.5b": 13_210_210_304,
    "gshard-37b": 39_499_550_720,
    "gshard-50b": 51_888_508_928,
    "gshard-150b": 155_534_446_592,
    "gshard-200b": 206_601_703_424,
    "gshard-600b": 619_674_030_080,
    "gshard-1t": 1_032_746_356_736,
    "nllb-moe-54b": 54_500_569_088,
}
STATED = {"switch-base-128": 7, "switch-large-128": 26, "switch-xxl-128": 395, "switch-c-2048": 1571}
"""Billions of parameters in Table 9 of Switch Transformers; those of GShard are in the names."""


def count(config: Any, network: Any) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network(config).parameters())


@pytest.mark.parametrize("name", [*switch.PRESETS, *gshard.PRESETS])
def test_published_sizes_have_the_published_number_of_parameters(name: str, monkeypatch: Any) -> None:
    """Experts are alike, so that those of a large network are counted by what one more adds to a few."""
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda _: None)  # there is nothing to fill on meta
    presets, network = (
        (switch.PRESETS, switch.Switch) if name in switch.PRESETS else (gshard.PRESETS, gshard.GShard)
    )
    config = presets[name]
    few = [count(replace(config, n_experts=n), network) for n in (2, 3)]
    total = few[0] + (config.n_experts - 2) * (few[1] - few[0])
    if config.n_experts <= 64:
        assert count(config, network) == total
    assert total == PARAMETERS[name]
    if name in STATED:
        assert round(total / 1e9) == STATED[name]
    if name.startswith("gshard"):
        digits, unit = name.removeprefix("gshard-")[:-1], {"b": 1e9, "t": 1e12}[name[-1]]
        assert 1.03 < total / (float(digits) * unit) < 1.07
    assert type(config).from_hf(config.to_hf()) == config


def test_the_page_shows_the_code_that_runs_in_both_languages() -> None:
    root = Path(__file__).parents[2]
    pages = [(root / f"docs/{language}/families/switch.md").read_text() for language in ("en", "zh")]
    sources = [
        (root / "src/kun" / name).read_text() for name in ("blocks/experts.py", "families/switch/switch.py")
    ]
    shown = [re.findall(r"```python\n(.*?)\n```", page, re.DOTALL) for page in pages]
    assert len(shown[0]) == 2
    assert shown[0] == shown[1]
    assert all(any(block in source for source in sources) for block in shown[0])
    shapes = [re.findall(r"^(#+|\||```|!\[|- )", page, re.MULTILINE) for page in pages]
    assert shapes[0] == shapes[1]
    for number in (
        "7,415,217,408",
        "26,309,291,008",
        "394,675,073,024",
        "1,571,308,972,448",
        "619,674,030,080",
    ):
        assert int(number.replace(",", "")) in PARAMETERS.values()
        assert all(number in page for page in pages)

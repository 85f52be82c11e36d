"""XLNet's two streams, memory and completion: the reference's numbers, gradients and words."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from parity import SIZE, VOCAB, tokens
from safetensors.torch import load_file, save_file
from torch import nn

from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.families.xlnet.xlnet import PRESETS, XLNet
from kun.networks.network import load_state

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": SIZE,
    "n_layer": 3,
    "n_head": 4,
    "d_inner": 96,
    "initializer_range": 0.2,
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"mem_len": None},
    "untied": {"tie_word_embeddings": False, "ff_activation": "relu"},
    "clamped": {"clamp_len": 5},
    "uni": {"attn_type": "uni"},
    "uni-same-length": {"attn_type": "uni", "same_length": True},
    "short-memory": {"mem_len": 7, "reuse_len": 4},
    "forgets": {"use_mems_eval": False},
}


@cache
def reference(case: str) -> nn.Module:
    torch.manual_seed(3)
    net = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**SIZES, **CASES[case]))
    for name, parameter in net.named_parameters():
        if name.endswith(("layer_norm.weight", "layer_norm.bias", "lm_loss.bias")):
            nn.init.normal_(parameter, mean=1.0, std=0.2)
    return net.eval()


def read(config: dict[str, Any], state: dict[str, torch.Tensor]) -> nn.Module:
    family = family_of(config)
    with torch.device("meta"):
        net = family.network(family.config.from_hf(config))
    load_state(net, net.names.ours(state))
    return net.eval()


@cache
def ours(case: str) -> nn.Module:
    theirs = reference(case)
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    return read(theirs.config.to_dict(), state)


def orders(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """A perm_mask for an order of factorization of each row's own: 1 where j is not before i."""
    generator = torch.Generator().manual_seed(seed)
    rank = torch.stack([torch.randperm(length, generator=generator) for _ in range(rows)])
    return (rank[:, :, None] <= rank[:, None, :]).float()


def mapping(rows: int, length: int, places: list[int]) -> torch.Tensor:
    chosen = torch.zeros(rows, len(places), length)
    for number, place in enumerate(places):
        chosen[:, number, place] = 1
    return chosen


def inputs(case: str) -> dict[str, dict[str, Any]]:
    """Every way to call it, for rows of 18 tokens; one where the reference takes no mask for several ("uni")."""
    rows, length = 1 if "uni" in case else 2, 18
    ids, mask = tokens(rows, length), torch.ones(rows, length)
    mask[0, 13:], mask[1:, :4] = 0, 0
    memory = [
        torch.randn(9, rows, SIZE, generator=torch.Generator().manual_seed(layer))
        for layer in range(SIZES["n_layer"])
    ]
    types = (torch.arange(length) // 7).expand(rows, -1)
    targets = mapping(rows, length, [17, 3, 8])
    return {
        "content": {"input_ids": ids},
        "padded": {"input_ids": ids, "attention_mask": mask},
        "segments": {"input_ids": ids, "token_type_ids": types},
        "permuted": {"input_ids": ids, "perm_mask": orders(rows, length)},
        "two streams": {"input_ids": ids, "perm_mask": orders(rows, length), "target_mapping": targets},
        "blind": {"input_ids": ids, "perm_mask": torch.ones(rows, length, length), "target_mapping": targets},
        "blended targets": {"input_ids": ids, "target_mapping": torch.rand(rows, 4, length)},
        "memory": {"input_ids": ids, "mems": memory},
        "everything": {
            "input_ids": ids,
            "attention_mask": mask,
            "mems": memory,
            "perm_mask": orders(rows, length, seed=1),
            "target_mapping": targets,
            "token_type_ids": types,
        },
    }


WAYS = list(inputs("plain"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_logits_and_memory_are_the_references(case: str, way: str) -> None:
    call = inputs(case)[way]
    wanted, got = reference(case)(**call), ours(case)(**call)
    assert got.logits.shape == wanted.logits.shape
    assert torch.allclose(got.logits, wanted.logits, atol=1e-4)
    assert (got.mems is None) == (wanted.mems is None) == (case == "forgets")
    for mine, theirs in zip(got.mems or (), wanted.mems or (), strict=True):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, atol=1e-4)


# of a query that sees nothing, the reference's "uni" sends gradients to scores that belong to other queries
@pytest.mark.parametrize(
    ("case", "way"),
    [
        *(
            (case, way)
            for case in ("plain", "untied", "clamped")
            for way in ("content", "two streams", "blind")
        ),
        *((case, "everything") for case in ("plain", "uni", "clamped")),
        ("uni", "content"),
    ],
)
def test_gradients_are_the_references(case: str, way: str) -> None:
    theirs, mine = reference(case), ours(case)
    call = inputs(case)[way]
    for net in (theirs, mine):
        net.zero_grad()
        logits = net(**call).logits
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        (logits * weights).mean().backward()
    wanted = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    got = mine.names.reference({n: p.grad for n, p in mine.named_parameters() if p.grad is not None})
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(got[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max()))), name


@torch.no_grad()
def test_memory_goes_on_from_segment_to_segment_as_the_references_does() -> None:
    for case in ("plain", "short-memory", "uni"):
        theirs, mine = reference(case), ours(case)
        wanted_memory: Any = None
        memory: Any = None
        for number in range(4):
            ids = tokens(2, 6 + number)
            wanted, got = theirs(ids, mems=wanted_memory), mine(ids, mems=memory)
            wanted_memory, memory = wanted.mems, got.mems
            assert torch.allclose(got.logits, wanted.logits, atol=1e-4)
        assert [m.shape for m in memory] == [m.shape for m in wanted_memory]


def test_memory_is_given_out_where_it_is_asked_for_and_takes_no_gradient() -> None:
    net = ours("forgets")
    ids = tokens(1, 5)
    assert net(ids).mems is None
    memory = net(ids, use_mems=True).mems
    assert len(memory) == SIZES["n_layer"]
    assert not any(m.requires_grad for m in memory)
    assert ours("plain")(ids, use_mems=False).mems is None
    assert ours("plain").train()(ids).mems is None
    ours("plain").eval()


@given(st.sampled_from(["plain", "clamped", "uni"]), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5))
def test_padding_on_either_side_changes_nothing(case: str, length: int, left: int, right: int) -> None:
    net, ids = ours(case), tokens(1, length)
    padded = nn.functional.pad(ids, (left, right), value=3)
    mask = nn.functional.pad(torch.ones_like(ids), (left, right))
    with torch.no_grad():
        alone, among = net(ids).logits, net(padded, mask).logits
    assert torch.isfinite(among).all()
    assert torch.allclose(among[:, left : left + length], alone, atol=1e-4)


def test_a_fully_masked_row_gives_no_nan_not_even_in_gradients() -> None:
    net, ids = ours("plain"), tokens(2, 6)
    mask = torch.tensor([[0] * 6, [1] * 6])
    net.zero_grad()
    out = net(ids, mask, target_mapping=mapping(2, 6, [1])).logits
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@torch.no_grad()
def test_a_word_is_predicted_without_having_been_seen() -> None:
    """Whatever stands at the place of the target, the query stream says the same; the content stream does not."""
    net, ids = ours("plain"), tokens(1, 12)
    hidden = torch.zeros(1, 12, 12)
    hidden[:, :, 5] = 1
    said = []
    for word in (7, 70):
        ids[0, 5] = word
        said.append(net(ids, perm_mask=hidden, target_mapping=mapping(1, 12, [5])).logits)
    assert torch.allclose(said[0], said[1], atol=1e-5)
    assert not torch.allclose(net(ids).logits, net(ids.flip(1)).logits.flip(1), atol=1e-2)


def test_what_the_reference_saves_loads_here_and_back(tmp_path: Path) -> None:
    for case in ("plain", "untied", "uni-same-length", "short-memory"):
        folder = tmp_path / case
        reference(case).save_pretrained(folder)
        mine = read(json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))
        ids = tokens(2, 10)
        assert torch.equal(mine(ids).logits, ours(case)(ids).logits)
        state = {n: t.contiguous() for n, t in mine.names.reference(mine.state_dict()).items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(mine.config.to_hf()))
        loaded, report = transformers.XLNetLMHeadModel.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        assert torch.allclose(loaded.eval()(ids).logits, mine(ids).logits, atol=1e-4)
        assert type(mine.config).from_hf(json.loads(json.dumps(mine.config.to_hf()))) == mine.config


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"d_model": 66}, BadInput, "d_model"),
        ({"d_head": 5}, BadInput, "d_head"),
        ({"n_layer": 0}, BadInput, "n_layer"),
        ({"mem_len": -1}, BadInput, "mem_len"),
        ({"clamp_len": -2}, BadInput, "clamp_len"),
        ({"dropout": 2}, BadInput, "dropout"),
        ({"attn_type": "tri"}, UnsupportedFormat, "attn_type"),
        ({"bi_data": True}, UnsupportedFormat, "bi_data"),
        ({"architectures": ["XLNetForTokenClassification"]}, UnsupportedFormat, "architectures"),
    ],
)
def test_what_no_network_can_be_made_of_is_refused(changes: dict[str, Any], error: type, words: str) -> None:
    config = transformers.XLNetConfig(**SIZES).to_dict() | changes
    with pytest.raises(error, match=words):
        family_of(config).config.from_hf(config)


def test_inputs_of_the_wrong_shape_are_named() -> None:
    net, ids = ours("plain"), tokens(2, 6)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("perm_mask", {"perm_mask": torch.zeros(2, 6, 5)}),
        ("target_mapping", {"target_mapping": torch.zeros(2, 1, 5)}),
        ("token_type_ids", {"token_type_ids": torch.zeros(2, 5, dtype=torch.long)}),
        ("attention_mask", {"attention_mask": torch.zeros(2, 5)}),
        ("mems", {"mems": [torch.zeros(3, 2, SIZE)]}),
        ("mems", {"mems": [torch.zeros(3, 1, SIZE)] * 3}),
        ("mems", {"mems": [torch.zeros(3, 2, SIZE), None, None]}),
        ("mems", {"mems": []}),
        ("outside the vocabulary", {"input_ids": ids + VOCAB}),
    ]
    for words, changes in wrong:
        with pytest.raises(BadInput, match=words):
            net(**({"input_ids": ids} | changes))


def test_wrong_weights_say_which_tensor() -> None:
    net = ours("plain")
    state = net.state_dict()
    name = "layers.1.attention.r.weight"
    with pytest.raises(DamagedFile, match=name):
        load_state(net, {key: value for key, value in state.items() if key != name})
    with pytest.raises(DamagedFile, match=rf"{name} has shape \[3, 4\]"):
        load_state(net, state | {name: torch.ones(3, 4)})
    with pytest.raises(DamagedFile, match="no place"):
        load_state(net, state | {"layers.9.q": torch.ones(1)})


PUBLISHED = {"xlnet-base-cased": 116_750_336, "xlnet-large-cased": 360_300_800}
"""About 110M and 340M as BERT's, whose sizes they take (1906.08237), and the projections of distances."""


@pytest.mark.parametrize("name", PRESETS)
def test_published_sizes_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        net = XLNet(PRESETS[name])
    assert sum(parameter.numel() for parameter in net.parameters()) == PUBLISHED[name]
    assert type(PRESETS[name]).from_hf(PRESETS[name].to_hf()) == PRESETS[name]


def complete(net: nn.Module, prompts: list[list[int]], count: int) -> list[list[int]]:
    """`count` greedy words after each prompt, all rows together, as the engine runs them."""
    state = net.new_state(64, 4, torch.float32, torch.device("cpu"))
    starts = [state.start(prompt) for prompt in prompts]
    rows, done = [list(start.tokens) for start in starts], [0] * len(prompts)
    pages = [list(range(12 * row, 12 * row + 12)) for row in range(len(rows))]
    for _ in range(count):
        counts = [len(row) - before for row, before in zip(rows, done, strict=True)]
        packed = [token for row, before in zip(rows, done, strict=True) for token in row[before:]]
        step = state.step(starts, pages, done, counts)
        last = torch.tensor(counts).cumsum(0) - 1
        logits = net(torch.tensor([packed]), cache=step, logits_at=last).logits[0]
        for row, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            row.append(token)
        done = [
            len(row) - 1 - start.rereads if start.keeps else 0
            for row, start in zip(rows, starts, strict=True)
        ]
        done = [max(0, before) for before in done]
    return rows


@pytest.mark.parametrize("case", ["plain", "untied", "clamped", "uni", "short-memory", "forgets"])
@torch.no_grad()
def test_completion_is_the_references(case: str) -> None:
    """Rows of different lengths run together, and each goes on as the reference goes on with it alone."""
    theirs = reference(case)
    if case == "short-memory":  # in the reference, what training reuses would cut a prompt short here
        theirs = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**SIZES, mem_len=7)).eval()
        theirs.load_state_dict(reference(case).state_dict())
    prompts = [tokens(1, n)[0].tolist() for n in (11, 1, 6)]
    got = complete(ours(case), prompts, 9)
    for prompt, row in zip(prompts, got, strict=True):
        wanted = theirs.generate(torch.tensor([prompt]), max_new_tokens=9, do_sample=False, eos_token_id=None)
        assert row == wanted[0].tolist()

"""BERT, RoBERTa, XLM-R and ERNIE with every head: the reference's numbers, both ways."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from parity import POSITIONS, SIZE, VOCAB, tokens
from safetensors.torch import load_file, save_file
from torch import nn

from kun.adaptation.native_bert import fit_encoder
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.families.bert.bert import PRESETS as BERTS
from kun.families.bert.ernie import PRESETS as ERNIES
from kun.families.bert.roberta import PRESETS as ROBERTAS
from kun.networks.network import load_state

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": SIZE,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
}
FAMILIES: dict[str, tuple[str, Any]] = {
    "bert": ("Bert", transformers.BertConfig(**SIZES)),
    "roberta": ("Roberta", transformers.RobertaConfig(**SIZES, type_vocab_size=1, hidden_act="relu")),
    "xlm-roberta": ("XLMRoberta", transformers.XLMRobertaConfig(**SIZES, pad_token_id=4)),
    "ernie": ("Ernie", transformers.ErnieConfig(**SIZES, use_task_id=True, task_type_vocab_size=5)),
    "ernie-without-tasks": ("Ernie", transformers.ErnieConfig(**SIZES, hidden_act="relu")),
    "bert-untied": ("Bert", transformers.BertConfig(**SIZES, tie_word_embeddings=False)),
    "roberta-untied": ("Roberta", transformers.RobertaConfig(**SIZES, tie_word_embeddings=False)),
}
EVERY = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
WITH_SENTENCES = ("ForPreTraining", "ForNextSentencePrediction")
CASES = [
    f"{family} {head}"
    for family in FAMILIES
    for head in (EVERY if "roberta" in family else EVERY + WITH_SENTENCES)
    if "untied" not in family or head in ("ForMaskedLM", "ForPreTraining")
]


@cache
def reference(case: str) -> nn.Module:
    """The reference's class for this family and head, with random weights, biases and norms random too."""
    family, head = case.split()
    stem, config = FAMILIES[family]
    kind = getattr(transformers, stem + head)
    labels = {"num_labels": 3} if "Classification" in head else {}
    torch.manual_seed(5)
    net = kind(type(config)(**(config.to_dict() | {"architectures": [kind.__name__]} | labels)))
    for parameter in net.parameters():
        if parameter.dim() == 1:
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


def assert_equal(got: Any, wanted: Any, atol: float = 1e-5) -> None:
    """Every field of our output has the reference's name and numbers."""
    for name in got._fields:
        mine, theirs = getattr(got, name), getattr(wanted, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            assert mine.shape == theirs.shape
            assert torch.allclose(mine, theirs, atol=atol), name


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_every_head_gives_the_reference_numbers(case: str) -> None:
    ids = tokens(3, 30)
    assert_equal(ours(case)(ids), reference(case)(ids))


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_batch_padded_on_the_right_gives_the_reference_numbers(case: str) -> None:
    theirs, mine = reference(case), ours(case)
    ids, mask = tokens(2, 20).clamp(min=5), torch.ones(2, 20, dtype=torch.long)
    ids[0, 13:], mask[0, 13:] = theirs.config.pad_token_id, 0
    got, wanted = mine(ids, mask), theirs(ids, attention_mask=mask)
    for name in got._fields:
        mine_, theirs_ = getattr(got, name), getattr(wanted, name)
        if mine_ is not None:
            real = mask.bool() if mine_.shape[:2] == (2, 20) else slice(None)
            assert torch.allclose(mine_[real], theirs_[real], atol=1e-5), name


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_reference_gradients_also_where_padding_takes_none(case: str) -> None:
    theirs, mine = reference(case), ours(case)
    ids = tokens(2, 24)
    for net in (theirs, mine):
        net.zero_grad()
        generator = torch.Generator().manual_seed(1)
        outputs = [x for x in net(ids)[:] if isinstance(x, torch.Tensor)]
        sum((x * torch.randn(x.shape, generator=generator)).mean() for x in outputs).backward()
    wanted = {n: p.grad for n, p in theirs.named_parameters(remove_duplicate=False) if p.grad is not None}
    got = mine.names.reference({n: p.grad for n, p in mine.named_parameters()})
    for name, gradient in got.items():
        if name in wanted:  # all but the bias that the reference does not read where nothing is tied
            atol = 1e-5 * max(1.0, float(wanted[name].abs().max()))
            assert torch.allclose(gradient, wanted[name], atol=atol), name
    assert wanted.keys() - got.keys() <= {
        n for n in wanted if ".decoder." in n and theirs.config.tie_word_embeddings
    }


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_what_the_reference_saves_loads_here(case: str, tmp_path: Path) -> None:
    reference(case).save_pretrained(tmp_path)
    mine = read(json.loads((tmp_path / "config.json").read_text()), load_file(tmp_path / "model.safetensors"))
    ids = tokens(2, 20)
    assert_equal(mine(ids), ours(case)(ids), atol=0)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_what_is_saved_here_the_reference_loads_as_the_same_class(case: str, tmp_path: Path) -> None:
    mine = ours(case)
    state = {n: t.contiguous() for n, t in mine.names.reference(mine.state_dict()).items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(mine.config.to_hf()))
    assert mine.config.architecture == type(reference(case)).__name__
    kind = getattr(transformers, mine.config.architecture)
    loaded, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = tokens(2, 30)
    assert_equal(mine(ids), loaded.eval()(ids))
    assert type(mine.config).from_hf(json.loads(json.dumps(mine.config.to_hf()))) == mine.config
    if "Classification" in case:
        assert loaded.config.num_labels == 3


@given(st.sampled_from(CASES), st.integers(3, 12), st.integers(0, 6), st.integers(0, 6))
def test_padding_on_either_side_changes_nothing(case: str, length: int, left: int, right: int) -> None:
    net, ids = ours(case), tokens(1, length)
    padded = torch.nn.functional.pad(ids, (left, right), value=7)
    mask = torch.nn.functional.pad(torch.ones_like(ids), (left, right))
    with torch.no_grad():
        alone, among = net(ids), net(padded, mask)
    for one, other in zip(alone, among, strict=True):
        if one is not None:
            assert torch.isfinite(other).all()
            same = other[:, left : left + length] if other.shape[1] == padded.shape[1] > 2 else other
            assert torch.allclose(same, one, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_packed_rows_equal_padded_ones(case: str) -> None:
    net, ids, lengths = ours(case), tokens(3, 12), [12, 1, 7]
    packed = torch.cat([row[:n] for row, n in zip(ids, lengths, strict=True)])[None]
    got = net(packed, lengths=lengths)
    for row, length in enumerate(lengths):
        alone, start = net(ids[row : row + 1, :length]), sum(lengths[:row])
        for mine, wanted in zip(got, alone, strict=True):
            if mine is not None:
                part = mine[0, start : start + length] if mine.shape[:2] == (1, 20) else mine[row]
                assert torch.allclose(part, wanted[0], atol=1e-5)


@torch.no_grad()
def test_a_masked_word_can_be_scored_alone() -> None:
    net, ids, at = ours("roberta ForMaskedLM"), tokens(2, 12), torch.tensor([7, 2])
    assert torch.allclose(net(ids, logits_at=at).logits, net(ids).logits[:, at], atol=1e-6)


@torch.no_grad()
def test_ernie_adds_the_task_that_is_named() -> None:
    theirs, mine = reference("ernie ForMaskedLM"), ours("ernie ForMaskedLM")
    ids, tasks = tokens(2, 15), torch.arange(15).expand(2, 15) % 5
    assert_equal(mine(ids, task_type_ids=tasks), theirs(ids, task_type_ids=tasks))
    assert not torch.allclose(mine(ids).logits, mine(ids, task_type_ids=tasks).logits, atol=1e-3)
    embeds = mine.embeddings.words(ids)
    assert torch.equal(
        mine(inputs_embeds=embeds, task_type_ids=tasks).logits, mine(ids, task_type_ids=tasks)[0]
    )
    with pytest.raises(BadInput, match="outside the vocabulary of 5"):
        mine(ids, task_type_ids=tasks + 1)
    embedded = mine.embed_tokens(ids)  # as training looks them up
    assert torch.allclose(mine.states(inputs_embeds=embedded), mine.states(ids), atol=1e-6)
    with pytest.raises(BadInput, match="no table of tasks"):
        ours("ernie-without-tasks Model")(ids, task_type_ids=tasks)


@torch.no_grad()
def test_token_types_are_added() -> None:
    ids, types = tokens(2, 16), torch.arange(16).expand(2, 16) // 9
    for case in ("bert ForNextSentencePrediction", "ernie Model", "xlm-roberta ForMaskedLM"):
        assert_equal(ours(case)(ids, token_type_ids=types), reference(case)(ids, token_type_ids=types))


@torch.no_grad()
def test_roberta_counts_positions_from_behind_the_padding_token() -> None:
    """A padding token within a text takes no position, and embeddings without ids are all counted."""
    theirs, mine = reference("roberta Model"), ours("roberta Model")
    ids = torch.tensor([[0, 5, 1, 1, 6, 7, 2]])
    words = torch.zeros(1, 7, SIZE)
    assert mine.positions(ids, None, words).tolist() == [[2, 3, 1, 1, 4, 5, 6]]
    assert_equal(mine(ids), theirs(ids))
    embeds = mine.embeddings.words(ids)
    assert_equal(mine(inputs_embeds=embeds), theirs(inputs_embeds=embeds))
    assert mine.config.context_length == POSITIONS - 2
    mine(tokens(1, POSITIONS - 2))
    with pytest.raises(BadInput, match=f"Position {POSITIONS - 2} is beyond the {POSITIONS - 2} positions"):
        mine(torch.full((1, POSITIONS - 1), 5))


@torch.no_grad()
def test_heads_that_a_file_holds_beside_the_one_that_its_config_names_are_left_behind() -> None:
    """Published BERT weights hold the pooler and the next-sentence head, and call themselves BertForMaskedLM."""
    full = reference("bert ForPreTraining")
    config = full.config.to_dict()
    ids, state = tokens(2, 9), full.state_dict()
    masked = read(config | {"architectures": ["BertForMaskedLM"]}, state)
    assert torch.allclose(masked(ids).logits, full(ids).prediction_logits, atol=1e-5)
    alone = read(config | {"architectures": None}, state)
    assert torch.allclose(alone(ids).pooler_output, full.bert(ids).pooler_output, atol=1e-5)
    older = {name: tensor for name, tensor in state.items() if not name.endswith("decoder.bias")}
    assert torch.equal(read(config | {"architectures": ["BertForMaskedLM"]}, older)(ids)[0], masked(ids)[0])


@torch.no_grad()
def test_a_network_whose_head_is_dropped_is_the_encoder() -> None:
    for case, encoder in (("bert ForSequenceClassification", "bert"), ("roberta ForMaskedLM", "roberta")):
        net = read(reference(case).config.to_dict(), reference(case).state_dict())
        net.drop_head()
        ids = tokens(1, 9)
        wanted = getattr(reference(case), encoder)(ids)
        assert torch.allclose(net(ids).last_hidden_state, wanted.last_hidden_state, atol=1e-5)
        assert net.config.architecture.endswith("Model")


def test_a_head_whose_weights_are_missing_is_named() -> None:
    for case, name in (
        ("bert ForMaskedLM", "head.words.dense.weight"),
        ("bert ForSequenceClassification", "pooler.weight"),
        ("roberta ForSequenceClassification", "head.out.bias"),
        ("ernie Model", "embeddings.tasks.weight"),
    ):
        net = read(reference(case).config.to_dict(), reference(case).state_dict())
        state = dict(net.state_dict())
        del state[name]
        with pytest.raises(DamagedFile, match=name):
            load_state(net, state)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"architectures": ["BertForMultipleChoice"]}, UnsupportedFormat, "BertForMultipleChoice.*MaskedLM"),
        ({"architectures": ["BertLMHeadModel"]}, UnsupportedFormat, "BertLMHeadModel"),
        ({"architectures": "BertModel"}, BadInput, "architectures"),
        ({"architectures": [3]}, BadInput, "architectures"),
        ({"id2label": {"0": "a", "2": "b"}}, BadInput, "id2label"),
        ({"id2label": {"0": 5}}, BadInput, "id2label"),
        ({"id2label": None, "num_labels": 0}, BadInput, "num_labels"),
        ({"pad_token_id": VOCAB}, BadInput, "pad_token_id"),
        ({"problem_type": "guessing"}, UnsupportedFormat, "problem_type"),
        ({"model_type": "roberta", "pad_token_id": None}, BadInput, "pad_token_id"),
        ({"model_type": "roberta", "max_position_embeddings": 1}, BadInput, "pad_token_id"),
        (
            {"model_type": "roberta", "architectures": ["RobertaForPreTraining"]},
            UnsupportedFormat,
            "RobertaForPreTraining",
        ),
        ({"model_type": "ernie", "use_task_id": True, "task_type_vocab_size": 0}, BadInput, "task_type"),
    ],
)
def test_what_no_network_can_be_made_of_is_refused(changes: dict[str, Any], error: type, words: str) -> None:
    config = transformers.BertConfig(**SIZES).to_dict() | changes
    with pytest.raises(error, match=words):
        family_of(config).config.from_hf(config)


@pytest.mark.parametrize("name", ["bert", "roberta", "ernie"])
@torch.no_grad()
def test_the_network_fitted_to_this_machine_reads_alike(name: str) -> None:
    """Compiled layers, or bfloat16, take what each family brings to the first layer: positions, types, tasks."""
    stem, config = FAMILIES[name]
    kind = getattr(transformers, f"{stem}Model")
    torch.manual_seed(2)
    theirs = kind(
        type(config)(**(config.to_dict() | {"intermediate_size": 128, "hidden_act": "gelu"}))
    ).eval()
    fitted = fit_encoder(read(theirs.config.to_dict(), theirs.state_dict()))
    ids, lengths = tokens(1, 33), [20, 1, 12]
    got = fitted(ids, lengths=lengths).last_hidden_state[0].float().split(lengths)
    for row, mine in zip(ids[0].split(lengths), got, strict=True):
        wanted = theirs(row[None]).last_hidden_state[0]
        assert nn.functional.cosine_similarity(mine.mean(0), wanted.mean(0), dim=0) > 0.999


PUBLISHED = {
    ("bert-base-uncased", "PreTraining"): 110_106_428,
    ("bert-large-uncased", "PreTraining"): 336_226_108,
    ("roberta-base", None): 124_645_632,
    ("roberta-base", "MaskedLM"): 124_697_433,
    ("roberta-large", None): 355_359_744,
    ("roberta-large", "MaskedLM"): 355_412_057,
    ("xlm-roberta-base", None): 278_043_648,
    ("xlm-roberta-large", None): 559_890_432,
    ("ernie-1.0-base-zh", None): 99_866_112,
    ("ernie-3.0-base-zh", None): 117_944_832,
}
"""BERT 110M and 340M (1810.04805, table 1 of section 3), RoBERTa 125M and 355M (1907.11692, appendix)."""


@pytest.mark.parametrize(("name", "head"), PUBLISHED)
def test_published_sizes_have_the_published_number_of_parameters(name: str, head: str | None) -> None:
    config = replace((BERTS | ROBERTAS | ERNIES)[name], head=head)
    with torch.device("meta"):
        net = family_of(config.to_hf()).network(config)
    assert sum(parameter.numel() for parameter in net.parameters()) == PUBLISHED[name, head]
    assert type(config).from_hf(config.to_hf()) == config

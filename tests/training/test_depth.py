"""Layers without residuals or norms, and the gradient that reaches them."""

from pathlib import Path

import pytest
import torch

import kun
from kun.adaptation.ablation import ablate
from kun.errors import BadInput, BadRecipe, KunError
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.objectives.depth import gradient_norms

EXAMPLE = Path(__file__).parents[2] / "examples" / "recipes" / "depth.toml"
IDS = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(0))


def _gpt(n_layers: int = 24, **others: str) -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=64, d_model=32, n_layers=n_layers, n_heads=4, d_ff=128, max_positions=16, dropout=0.0,
        embedding_dropout=0.0, attention_dropout=0.0, **others,
    )  # fmt: skip
    return GPT(config)


def _norms(*, residuals: bool, norms: bool) -> list[float]:
    net = _gpt()
    ablate(net, residuals=residuals, norms=norms)
    for weight in net.layers.parameters():
        if weight.dim() == 2:
            torch.nn.init.xavier_normal_(weight)
    return gradient_norms(net, {"input_ids": IDS, "labels": IDS.roll(-1, 1)})


def test_layers_with_residuals_and_norms_are_the_familys_own():
    net, other = _gpt(3), _gpt(3)
    ablate(net)
    assert torch.equal(net(IDS).logits, other(IDS).logits)
    assert list(net.state_dict()) == list(other.state_dict())


def test_through_24_layers_the_gradient_lasts_with_both_and_vanishes_with_neither():
    both, neither = _norms(residuals=True, norms=True), _norms(residuals=False, norms=False)
    assert len(both) == len(neither) == 24
    assert 0.05 < both[0] / both[-1] < 20
    assert 0 < neither[0] / neither[-1] < 1e-6


def test_residuals_alone_let_states_and_gradients_grow():
    assert _norms(residuals=True, norms=False)[0] > 100 * _norms(residuals=True, norms=True)[0]


def test_norms_and_residuals_are_left_out_of_gpts_alone():
    with pytest.raises(BadInput, match="from GPT-2 on"):
        ablate(_gpt(2, model_type="openai-gpt"))


def test_one_command_draws_four_lines_over_24_layers_and_whether_each_learns(text, tmp_path):
    changes = {
        "out": str(tmp_path / "run"),
        "data.train": str(text),
        "data.limit": 50,
        "model.d_model": 16,
        "train.steps": 1,
        "train.eval_every": 1,
        "train.context": 16,
        "train.batch_tokens": 64,
        "train.eval_tokens": 64,
    }
    made = kun.train(EXAMPLE, changes)
    names = {"residuals and norms", "residuals only", "norms only", "neither"}
    assert set(made.runs) == names
    drawn = made.picture.read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in (*names, "gradient norm by layer", "eval_loss", "layer"))
    assert kun.load(made.runs["residuals and norms"].checkpoint).family.name == "gpt"
    with pytest.raises(KunError):  # as a GPT its weights would compute something else
        kun.load(made.runs["neither"].checkpoint)


def test_depth_is_for_gpts_whose_norms_stand_before_their_parts(text, tmp_path):
    changes = {"out": str(tmp_path / "run"), "data.train": str(text), "compare": None, "model.family": "gpt1"}
    with pytest.raises(BadRecipe, match=r"depth.*gpt2 or gpt3"):
        kun.train(EXAMPLE, changes)

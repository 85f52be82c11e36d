"""A family from a package outside is found by its entry point, and works wherever those of the house do."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

import kun
from kun import families
from kun.errors import BadRecipe, UnsupportedFormat
from kun.families import family_of, kind_of, model_types, records
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.hub.saving import save_checkpoint
from kun.networks.family import Family, Sharding
from kun.objectives.text.fresh import published
from kun.training.resolving import find_family


@dataclass(frozen=True)
class TinyConfig(GPTConfig):
    """GPT-2's layout under a name of its own."""

    @classmethod
    def from_hf(cls, values):
        read = GPTConfig.from_hf({**values, "model_type": "gpt2"})
        return cls(**vars(read) | {"model_type": "tinygpt"})

    def to_hf(self):
        written = GPTConfig(**vars(self) | {"model_type": "gpt2"}).to_hf()
        return written | {"model_type": "tinygpt", "architectures": ["TinyGPT"]}


SMALL = TinyConfig(64, 16, 2, 2, 32, 32, model_type="tinygpt")
FAMILY = Family(
    name="tiny",
    model_types=("tinygpt",),
    kind="decoder",
    config=TinyConfig,
    network=GPT,
    presets={"tiny": SMALL},
    objectives=("next_token",),
    paper="none",
    sharding=Sharding(before=("positions", "dropout")),
)
WRONG = object()


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        name: EntryPoint(name, f"{__name__}:{what}", "kun.families")
        for name, what in (("tinygpt", "FAMILY"), ("wrong", "WRONG"))
    }
    monkeypatch.setattr(families, "_outside", lambda: points)


def test_a_family_from_outside_is_found_by_its_model_type() -> None:
    hf = SMALL.to_hf()
    assert family_of(hf) is FAMILY
    assert family_of(hf).config.from_hf(hf) == SMALL
    assert kind_of(hf) == "decoder"
    assert "tinygpt" in model_types()


def test_what_is_registered_must_be_a_record() -> None:
    with pytest.raises(UnsupportedFormat, match="registered for 'wrong' is no record"):
        family_of({"model_type": "wrong"})


def test_a_recipe_may_name_a_family_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        families, "_outside", lambda: {"tinygpt": EntryPoint("tinygpt", f"{__name__}:FAMILY", "")}
    )
    assert find_family("tinygpt") is FAMILY
    assert published(FAMILY, "tinygpt") is SMALL
    assert FAMILY in records()
    with pytest.raises(BadRecipe, match="did you mean tinygpt"):
        find_family("tinygtp")


def test_a_checkpoint_of_a_family_from_outside_is_saved_loaded_and_goes_on_with_a_text(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    net = GPT(SMALL).eval()
    words = Tokenizer(WordLevel({f"w{n}": n for n in range(64)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    save_checkpoint(tmp_path / "tiny", net, tokenizer=words)
    model = kun.load(tmp_path / "tiny", quantize=None)
    assert model.family is FAMILY
    ids = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.net(ids).logits, net(ids).logits)
    assert len(model.generate("w1 w2", max_tokens=3, temperature=0.0).split()) == 3

"""SmolLM2 after the first and after the last step of alignment, as adapters that come with the tour.

One file holds both: the pairs of the last step lie below those of the first (see `kun.adaptation.lora.stacked`), so
that the first ranks by themselves are the model as it was fine-tuned on demonstrations.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kun.hub.adapter import PREFIX
from kun.hub.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from kun.tour.session import Session
from kun.tour.shipped import read_shipped, write_shipped

if TYPE_CHECKING:
    from torch import Tensor

    from kun.models.language_model import LanguageModel

BASE = "smollm2-135m-instruct"
_WEIGHTS = "aligned-smollm2"
_RECIPE = (
    "kun train examples/recipes/aligned-sft.toml, then aligned-dpo.toml, then "
    "kun.tour.aligned.write_aligned(checkpoint, folder)"
)
_RANK = 4
"""Ranks of each step, as the recipes have them."""


@dataclass(frozen=True)
class Steps:
    """One network three times: as it was pulled, after demonstrations, after preferences; all share its weights."""

    before: "LanguageModel"
    tuned: "LanguageModel"
    aligned: "LanguageModel"


def steps(session: Session) -> Steps:
    """The three models; the base must be here. Raises `ModelNotFound`, `DamagedFile`."""
    before = session.writer(BASE)
    with tempfile.TemporaryDirectory() as folder:
        tuned, aligned = (
            before.with_adapter(write_adapter(Path(folder) / name, ranks), f"{BASE}, {name}")
            for name, ranks in (("SFT", _RANK), ("SFT + DPO", 2 * _RANK))
        )
    return Steps(before, tuned, aligned)


def write_adapter(folder: Path, ranks: int = 2 * _RANK) -> Path:
    """Write the first `ranks` of the shipped pairs as an adapter in PEFT's layout; returns the new folder.

    Raises `DamagedFile` where the shipped weights are not those that were shipped.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    pairs = {f"{PREFIX}{name}": tensor for name, tensor in read_shipped(_WEIGHTS).items()}
    cut = {
        name: (tensor[:ranks] if ".lora_A." in name else tensor[:, :ranks]).contiguous()
        for name, tensor in pairs.items()
    }
    save_file(cut, folder / ADAPTER_WEIGHTS)
    stated = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "r": ranks,
        "lora_alpha": ranks,
        "target_modules": sorted({name.split(".")[-3] for name in cut}),
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(stated, indent=2), encoding="utf-8")
    return folder


def write_aligned(adapter: Path, folder: Path) -> Path:
    """Write the pairs of an adapter that the two recipes made, in bfloat16, as they ship; returns the file.

    `adapter` is the checkpoint of aligned-dpo.toml, whose pairs count once (alpha is their rank).
    """
    import torch
    from safetensors.torch import load_file

    stated = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    scale = stated["lora_alpha"] / stated["r"]
    read: dict[str, Tensor] = load_file(adapter / ADAPTER_WEIGHTS)
    kept = {
        name.removeprefix(PREFIX): (tensor * (scale if ".lora_B." in name else 1.0)).to(torch.bfloat16)
        for name, tensor in read.items()
    }
    return write_shipped(_WEIGHTS, kept, _RECIPE, folder)

"""How what a task of text trained becomes a checkpoint: the whole network, or the adapter alone."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from kun.hub.adapter_saving import save_adapter
from kun.hub.saving import save_checkpoint
from kun.objectives.text.model import TrainingModel
from kun.training.task import Write


def writer(model: TrainingModel, trained: nn.Module, is_adapted: bool) -> Write:
    """Writes `trained` with the tokenizer and template of `model`; the lineage says which parts were new."""
    fresh = {"fresh": list(model.fresh)} if model.fresh else {}

    def write(folder: Path, lineage: Mapping[str, object]) -> None:
        if is_adapted:
            assert model.origin is not None
            save_adapter(
                folder,
                trained,
                origin=model.origin,
                tokenizer=model.tokenizer,
                chat_template=model.template,
                lineage={**lineage, **fresh},
            )
            return
        save_checkpoint(
            folder,
            trained,
            tokenizer=model.tokenizer,
            chat_template=model.template,
            generation_config=None if model.origin else model.generation_config,
            lineage={**lineage, **fresh},
            origin=model.origin,
        )

    return write

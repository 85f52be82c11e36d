"""Texts that a network writes while it is trained."""

from collections.abc import Sequence

import torch
from torch import nn

from kun.data.store import TokenStore
from kun.models.language_model import LanguageModel
from kun.objectives.text.model import TrainingModel

_LENGTH = 64
_PROMPTS, _PROMPT_TOKENS = 2, 12


def write_on(
    model: TrainingModel, net: nn.Module, prompts: Sequence[str], store: TokenStore, seed: int
) -> list[dict[str, str]]:
    """What `net` writes on from the prompts, or from how the first documents begin where there are none."""
    prompts = list(prompts) or _beginnings(model, store)
    writer = LanguageModel(
        net,
        model.tokenizer,
        model.net.config,
        template=model.template,
        generation_config=model.generation_config,
        family=model.family,
    )
    with torch.random.fork_rng(devices=[]):
        texts = writer.generate(prompts, max_tokens=_LENGTH, temperature=0.8, seed=seed)
    return [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]


def _beginnings(model: TrainingModel, store: TokenStore) -> list[str]:
    chosen = range(min(_PROMPTS, len(store)))
    if store.has_sources:  # what is to be translated is given whole
        return [model.tokenizer.decode(store.source_ids(index).tolist()) for index in chosen]
    documents = [store.ids(index)[:_PROMPT_TOKENS].tolist() for index in chosen]
    return [model.tokenizer.decode(ids) for ids in documents]

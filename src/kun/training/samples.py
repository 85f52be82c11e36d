"""Texts that a network writes while it is trained."""

import torch
from torch import nn

from kun.data.store import TokenStore
from kun.models.language_model import LanguageModel
from kun.training.loop import Sampler
from kun.training.model import Subject
from kun.training.recipe import Recipe

_LENGTH = 64
_PROMPTS, _PROMPT_TOKENS = 2, 12


def sampler(subject: Subject, recipe: Recipe, store: TokenStore) -> Sampler | None:
    """Writes on from the recipe's prompts, or from how the first documents begin; None for what writes no text."""
    if subject.family.kind == "encoder":
        return None
    prompts = recipe.train.prompts or _beginnings(subject, store)

    def write(net: nn.Module) -> list[dict[str, str]]:
        model = LanguageModel(
            net,
            subject.tokenizer,
            net.config,
            template=subject.template,
            generation_config=subject.generation_config,
            family=subject.family,
        )
        with torch.random.fork_rng(devices=[]):
            texts = model.generate(prompts, max_tokens=_LENGTH, temperature=0.8, seed=recipe.seed)
        return [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]

    return write


def _beginnings(subject: Subject, store: TokenStore) -> list[str]:
    chosen = range(min(_PROMPTS, len(store)))
    if store.has_sources:  # what is to be translated is given whole
        return [subject.tokenizer.decode(store.source_ids(index).tolist()) for index in chosen]
    documents = [store.ids(index)[:_PROMPT_TOKENS].tolist() for index in chosen]
    return [subject.tokenizer.decode(ids) for ids in documents]

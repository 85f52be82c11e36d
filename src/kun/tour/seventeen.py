"""The seventeen ideas in their order."""

from kun.tour.example import Idea
from kun.tour.ideas import (
    agi,
    alignment,
    chatgpt,
    fine_tuning,
    generating,
    gpt,
    instructgpt,
    instructions,
    language_models,
    large_models,
    local_knowledge,
    positions,
    self_attention,
    self_supervision,
    transformer,
    word_embeddings,
    zero_shot,
)

IDEAS: tuple[Idea, ...] = (
    transformer.IDEA,
    gpt.IDEA,
    instructgpt.IDEA,
    chatgpt.IDEA,
    large_models.IDEA,
    generating.IDEA,
    agi.IDEA,
    language_models.IDEA,
    instructions.IDEA,
    fine_tuning.IDEA,
    self_supervision.IDEA,
    self_attention.IDEA,
    zero_shot.IDEA,
    alignment.IDEA,
    word_embeddings.IDEA,
    positions.IDEA,
    local_knowledge.IDEA,
)

"""The likeliest of some continuations, by a language model."""

from collections.abc import Sequence

from kun.evaluation.choices import weighable
from kun.evaluation.likelihood import Scorer
from kun.models.language_model import LanguageModel


def log_probabilities(lm: LanguageModel, prompt: str, answers: Sequence[str]) -> list[float]:
    """The natural log-probability of each answer after `prompt`, a space between them."""
    scorer = Scorer(lm)
    questions, _ = weighable(scorer, [(prompt, answers)], " ")
    return [found.logprob for found in scorer.weigh(questions)[0]]


def likeliest(lm: LanguageModel, prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
    """The likeliest of the same `answers` after each prompt."""
    scorer = Scorer(lm)
    questions, _ = weighable(scorer, [(prompt, answers) for prompt in prompts], " ")
    return [
        answers[max(range(len(found)), key=lambda one: found[one].logprob)]
        for found in scorer.weigh(questions)
    ]

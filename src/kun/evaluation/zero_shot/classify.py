"""Which of some labels fits a text: by a classifier's own head, by a decoder, or by an encoder."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kun.errors import BadInput
from kun.evaluation.progress import Tell, silent
from kun.evaluation.zero_shot.labels import Example, Labels, checked_examples, checked_texts, same_label
from kun.models.classifier import Classifier
from kun.models.ready import ReadyModel
from kun.models.task_model import Judgement

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".ppm")


def refuse_picture(text: str) -> None:
    """Raise `BadInput` where a text is the path of a picture."""
    if text.lower().endswith(PICTURES) and len(text) < 1000 and "\n" not in text and Path(text).is_file():
        raise BadInput(f"{text} is a picture, and only texts are classified yet: give a text.")


def classify(
    model: ReadyModel,
    texts: Iterable[object],
    labels: Labels | None,
    examples: Iterable[Example | tuple[str, str]] = (),
    tell: Tell = silent,
) -> list[Judgement]:
    """Each text's likeliest label, with the probabilities of all; the same for the same text, whatever comes with it.

    A classifier has labels of its own, among which `labels` may choose. Raises `BadInput`, `ContextOverflow`.
    """
    given = checked_texts(texts)
    if isinstance(model, Classifier):
        return _by_head(model, given, labels, any(True for _ in examples))
    if labels is None:
        raise BadInput(f'{model.name} has no labels of its own: give some, as --labels "positive,negative".')
    solved = checked_examples(examples, labels)
    if not given:
        return []
    judged = _judged(model, given, labels, solved, tell)
    return [_judgement(labels.names, np.exp(row).tolist()) for row in judged]


def _judged(
    model: ReadyModel, texts: Sequence[str], labels: Labels, examples: Sequence[tuple[str, int]], tell: Tell
) -> np.ndarray:
    from kun.models.encoder import Encoder
    from kun.models.language_model import LanguageModel

    if isinstance(model, Encoder):
        from kun.evaluation.zero_shot.encoder import EncoderJudge

        return EncoderJudge(model, labels, examples).judge(texts, tell)
    if isinstance(model, LanguageModel):
        from kun.evaluation.zero_shot.decoder import DecoderJudge

        return DecoderJudge(model, labels, examples).judge(texts, tell)
    raise BadInput(f"{model.name} tells no labels apart: name a language model, an encoder or a classifier.")


def _by_head(
    model: Classifier, texts: list[str], labels: Labels | None, has_examples: bool
) -> list[Judgement]:
    """By the labels that a classifier was trained for."""
    if has_examples:
        raise BadInput(f"{model.name} was trained for its labels and reads no examples: leave them out.")
    found = model.classify([*texts])
    if labels is None:
        return found
    own = {same_label(label): label for label in model.config.labels}
    unknown = [name for name in labels.names if same_label(name) not in own]
    if unknown:
        known = ", ".join(model.config.labels)
        raise BadInput(f"{model.name} was trained for {known}, not for {unknown[0]!r}: leave the labels out.")
    chosen = [[one.probabilities[own[same_label(name)]] for name in labels.names] for one in found]
    return [_judgement(labels.names, [share / (sum(row) or 1.0) for share in row]) for row in chosen]


def _judgement(names: Sequence[str], shares: Sequence[float]) -> Judgement:
    probabilities: Mapping[str, float] = dict(zip(names, shares, strict=True))
    best = max(names, key=probabilities.__getitem__)
    return Judgement(best, probabilities[best], probabilities)

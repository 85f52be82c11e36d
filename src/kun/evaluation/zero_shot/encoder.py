"""The nearest description: an encoder's vector of a text against those of the labels.

A label stands as the mean of some sentences about it, as CLIP's classes do (Radford et al., arXiv:2103.00020, 3.1.4).
Solved examples move those means: logistic regression on the encoder's frozen vectors, whose weights are held near the
descriptions, so that no example changes nothing and many decide.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kun.errors import ContextOverflow
from kun.evaluation.progress import Tell, silent
from kun.evaluation.zero_shot.labels import Labels
from kun.evaluation.zero_shot.shares import log_softmax
from kun.text.language import is_chinese
from kun.text.tokenizer import sound

if TYPE_CHECKING:
    from kun.models.encoder import Encoder

TEMPLATES = {
    "en": ("a {} text", "This text is {}.", "This is about {}."),
    "zh": ("这段文字是{}的。", "{}的文本", "关于{}的文本"),
}
"""Sentences about a label. Chosen among ten on training rows of SST-2 and ChnSentiCorp, 300 each, with several pairs
of labels: words alone were less right, and English sentences about Chinese labels far less (0.44 against 0.87)."""
TEMPERATURE = 0.015
"""The difference of cosines that counts as e : 1; by the log-loss of the same rows."""
HOLD = 1.0
"""How strongly weights are held near the descriptions, in examples; 0.03 to 3 were tried on the same rows."""
MOST_WINDOWS = 64
_ROUNDS = 300


class EncoderJudge:
    """Tells which label lies nearest to a text."""

    def __init__(self, encoder: "Encoder", labels: Labels, examples: Sequence[tuple[str, int]] = ()) -> None:
        self._encoder, self._labels = encoder, labels
        self._examples = [number for _, number in examples]
        self._vectors = self._embed([text for text, _ in examples])
        self._weights: dict[str, np.ndarray] = {}

    def judge(self, texts: Sequence[str], tell: Tell = silent) -> np.ndarray:
        """Each label's log-probability for each text, float64 [n, labels]. Raises `ContextOverflow`."""
        vectors = self._embed(texts, tell)
        chinese_labels = is_chinese(" ".join(self._labels.names))
        weights = [self._of("zh" if chinese_labels or is_chinese(text) else "en") for text in texts]
        scores = np.stack([vector @ own for vector, own in zip(vectors, weights, strict=True)])
        return log_softmax(scores)

    def _of(self, language: str) -> np.ndarray:
        """A column for each label, float64 [dimensions, labels]."""
        if language not in self._weights:
            described = np.stack(
                [self._description(place, language) for place in range(len(self._labels.names))], 1
            )
            prior = described / TEMPERATURE
            self._weights[language] = (
                fitted(self._vectors, self._examples, prior) if self._examples else prior
            )
        return self._weights[language]

    def _description(self, place: int, language: str) -> np.ndarray:
        own = self._labels.descriptions[place]
        texts = [own] if own else [form.format(self._labels.names[place]) for form in TEMPLATES[language]]
        mean: np.ndarray = self._encoder.embed(texts, kind="passage").astype(np.float64).mean(axis=0)
        return mean

    def _embed(self, texts: Sequence[str], tell: Tell = silent) -> np.ndarray:
        """A vector for each text, float64 [n, dimensions]: of one that is too long, the mean of its windows'."""
        pieces = [self._windows(text) for text in texts]
        flat = [piece for own in pieces for piece in own]
        vectors = (
            self._encoder.embed(flat, kind="query", progress=tell) if flat else np.empty((0, 1), np.float32)
        )
        means, begin = [], 0
        for own in pieces:
            means.append(vectors[begin : begin + len(own)].astype(np.float64).mean(axis=0))
            begin += len(own)
        return np.stack(means) if means else vectors.astype(np.float64)

    def _windows(self, text: str) -> list[str]:
        """The text in stretches that the encoder reads whole."""
        limit = self._encoder.max_tokens
        room = limit - len(self._encoder.recipe.prefixes.get("query", "")) - 4
        if len(text) > MOST_WINDOWS * limit * 8:
            raise ContextOverflow(_too_long(f"{len(text)} characters", self._encoder.name, limit))
        encoding = self._encoder.tokenizer.encode(sound(text), add_special_tokens=False)
        if len(encoding) <= room:
            return [text]
        places = [start for start, _ in encoding.offsets[::room]]
        if len(places) > MOST_WINDOWS:
            raise ContextOverflow(_too_long(f"{len(encoding)} tokens", self._encoder.name, limit))
        ends = [*places[1:], len(text)]
        return [text[begin:end] for begin, end in zip(places, ends, strict=True)]


def _too_long(size: str, name: str, limit: int) -> str:
    return f"The text has {size}; {name} reads {MOST_WINDOWS} windows of {limit} tokens of it: shorten it."


def fitted(vectors: np.ndarray, labels: Sequence[int], prior: np.ndarray) -> np.ndarray:
    """Weights [dimensions, labels] by logistic regression with a Gaussian prior around `prior` (Nesterov's method)."""
    wanted = np.eye(prior.shape[1])[list(labels)]
    rate = 1.0 / (0.5 * np.linalg.norm(vectors, 2) ** 2 + HOLD)
    weights, ahead, pace = prior, prior, 1.0
    for _ in range(_ROUNDS):
        over = np.exp(log_softmax(vectors @ ahead)) - wanted
        now = ahead - rate * (vectors.T @ over + HOLD * (ahead - prior))
        following = (1 + np.sqrt(1 + 4 * pace * pace)) / 2
        ahead, weights, pace = now + (pace - 1) / following * (now - weights), now, following
    return weights

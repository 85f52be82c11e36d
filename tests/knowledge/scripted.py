"""A base, an encoder and a language model that need no weights: what they find and write is what a test says."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from kun.knowledge.answer import Answer, ask_stream
from kun.knowledge.passage import Passage, Reasons
from kun.knowledge.rows import StoredText, TextKind
from kun.text.fold import fold
from kun.text.words import words


def passage(
    text: str, source: str = "a.md", heading: str = "", score: float = 1.0, words: float = 1.0
) -> Passage:
    """A passage that is a whole document."""
    return Passage(text, source, heading, None, score, source, Reasons(False, words, 1.0), 0, len(text))


PASSAGES = [
    passage("The Kun is a fish of the northern sea.", "kun.md", "Fish"),
    passage("The Peng is a bird that flies ninety thousand li.", "peng.md", "Bird", 0.9),
]


class Encoder:
    """Texts are near each other by the words that they share."""

    name = identity = "words"
    dimensions, max_tokens, tokenizer = 256, 512, None

    def embed(self, texts: Any, kind: Any = None) -> Any:
        vectors = np.full((len(texts), self.dimensions), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in words(text):
                vectors[row, sum(word.encode()) % self.dimensions] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Base:
    """Finds the same passages for every query; a query that one of them holds is found word for word."""

    encoder = Encoder()

    def __init__(
        self, passages: list[Passage], texts: dict[str, str] | None = None, kind: TextKind = "markdown"
    ) -> None:
        self.passages = passages
        self.texts = texts or {one.source: one.text for one in passages}
        self.searched: list[str] = []
        self.kind = kind

    def search(self, query: str, k: int, sources: Any = None) -> list[Passage]:
        self.searched.append(query)
        holding = [one for one in self.passages if fold(query) in fold(one.text)]
        exact = [
            Passage(
                one.text, one.source, one.heading, None, 2.0, one.id, Reasons(True, 1, 1), one.start, one.end
            )
            for one in holding
        ]
        return (exact + [one for one in self.passages if one not in holding])[:k]

    def sources(self) -> list[Any]:
        return []

    def text_of(self, source: str) -> StoredText:
        return StoredText("1", source, self.texts[source], self.kind, [])


class Generation(list[Any]):
    """The pieces of a generation, that can be cancelled."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Model:
    """Writes the given texts one after the other, the last of them for ever."""

    name, checkpoint, context_length = "scripted", None, 2048

    def __init__(self, *texts: str, rewritten: str = "", finish: str = "stop") -> None:
        self.texts, self.rewritten, self.finish = list(texts), rewritten, finish
        self.prompts: list[Any] = []

    def count(self, text: str) -> int:
        return len(text) // 4 + 1

    def submit(self, messages: Any, options: Any) -> Generation:
        assert options.temperature == 0
        text = self.texts[min(len(self.prompts), len(self.texts) - 1)]
        self.prompts.append(messages)
        pieces = [SimpleNamespace(text=letter, finish_reason=None) for letter in text]
        return Generation([*pieces, SimpleNamespace(text="", finish_reason=self.finish)])

    def encode(self, text: str) -> list[str]:
        return list(text)

    def prompt_logprobs(self, text: str) -> list[Any]:
        """Each character is as likely as it is frequent before."""
        return [
            SimpleNamespace(logprob=math.log((text[:place].count(letter) + 1) / (place + 2)))
            for place, letter in enumerate(text)
        ]

    def generate(self, messages: Any, **options: Any) -> str:
        return self.rewritten


def answer(
    *texts: str,
    question: str = "What is the Kun of the sea?",
    passages: list[Passage] = PASSAGES,
    finish: str = "stop",
    **given: Any,
) -> Answer:
    """The answer of a model that writes `texts` from `passages`."""
    base: Any = Base(passages)
    model: Any = Model(*texts, finish=finish)
    return ask_stream(base, question, model, **given).answer()

"""A small encoder that needs no network and no weights: words hashed into vectors."""

import hashlib
from collections.abc import Sequence

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers


class FakeEncoder:
    """The interface of `kun.models.encoder.Encoder`; texts that share words have near vectors."""

    max_tokens = 512

    def __init__(self, name: str = "fake", dimensions: int = 32) -> None:
        self.name, self.dimensions = name, dimensions
        self.identity = f"{name}-{dimensions}"
        self.tokenizer = word_tokenizer()
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str], kind: str | None = None) -> np.ndarray:
        self.embedded += [] if kind == "query" else texts
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
                vectors[row, int.from_bytes(digest) % self.dimensions] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def word_tokenizer() -> Tokenizer:
    """Up to four letters, one Chinese character or one mark a token: every token is unknown, and counts."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    pattern = Regex(r"[A-Za-z0-9]{1,4}|[^\sA-Za-z0-9]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")
    return tokenizer

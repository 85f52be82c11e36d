"""A small encoder that needs no network and no weights: words hashed into vectors."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from kun.knowledge.base import KnowledgeBase
from kun.knowledge.read.process import _reader


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


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def base(tiny_home: Path, encoder: FakeEncoder) -> KnowledgeBase:
    """An empty knowledge base of this test's own."""
    return KnowledgeBase.open("notes", encoder=encoder)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with three documents."""
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("# Fish\n\nThe Kun is a fish.\n\n# Bird\n\nThe Peng is a bird.\n")
    (folder / "b.txt").write_text("An ordinary text about nothing in particular.")
    (folder / "sub" / "鲲 鹏.md").write_text("# 逍遥游\n\n北冥有鱼，其名为鲲。鲲之大，不知其几千里也。\n")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _end_the_reader() -> object:
    yield
    _reader.close()

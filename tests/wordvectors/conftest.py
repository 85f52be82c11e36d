"""Small texts whose words have a meaning that is known, and vectors made by hand."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kun.adaptation import native_words
from kun.wordvectors.vectors import WordVectors

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

RANKS = ("king queen", "prince princess", "duke duchess", "man woman", "boy girl")
OF_RANK = ("crown throne", "castle heir", "estate title", "house work", "school play")
OF_GENDER = ("he his beard", "she her dress")


def written(seed: int = 0, sentences: int = 4000) -> list[list[str]]:
    """Sentences in which a word is known by what belongs to its rank, and by what belongs to its gender."""
    chance = random.Random(seed)
    made = []
    for _ in range(sentences):
        rank, gender = chance.randrange(len(RANKS)), chance.randrange(2)
        word = RANKS[rank].split()[gender]
        around = [chance.choice(OF_RANK[rank].split()), chance.choice(OF_GENDER[gender].split())]
        chance.shuffle(around)
        made.append([around[0], word, around[1]])
    return made


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of such sentences, each a paragraph."""
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(" ".join(words) for words in written()), encoding="utf-8")
    return path


@pytest.fixture
def by_hand() -> WordVectors:
    """king − man + woman lies nearest to king itself, then to queen."""
    words = ["king", "queen", "man", "woman", "国王", "throne"]
    rows = [[3, 1, 0], [3, -1, 0.5], [1, 1, 0], [1.4, -0.2, 0], [0, 0, 1], [3, 0, 2]]
    return WordVectors(words, np.array(rows, np.float32), name="by hand")


@pytest.fixture
def compiled() -> None:
    """Skips a test of the compiled steps where there is no compiler."""
    if not native_words.available():
        pytest.skip("there is no C compiler here")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's own operations alone, as on a machine without a compiler."""
    monkeypatch.setattr(native_words, "available", lambda: False)
    return

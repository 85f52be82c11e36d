"""Small texts whose words have a meaning that is known, and vectors made by hand."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from word_texts import written

from kun.adaptation import native_words
from kun.wordvectors.vectors import WordVectors


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
    rows = [[1, 0.3, 1], [1, -0.1, 0.2], [1, 0.3, 0], [1, -0.3, 0], [0, 1, 0], [0, 0.2, 2]]
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

"""What of the evaluation stands in the training data: found where it is, and not where it isn't."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kun.data import overlap as module
from kun.data.overlap import overlap
from kun.data.rows import Pair, Row, Text
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.text.learn import byte_tokenizer


def store_of(folder: Path, rows: list[Row]) -> TokenStore:
    return TokenStore.build(folder, rows, RowTokenizer(byte_tokenizer(), end=256), processes=1)


def grams(text: str, n: int) -> set[tuple[int, ...]]:
    ids = [*text.encode(), 256]
    return {tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)}


@settings(max_examples=40)
@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=12), min_size=1, max_size=12, unique=True),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=12), min_size=1, max_size=12, unique=True),
    st.sampled_from([3, 16]),
)
def test_documents_are_found_as_by_comparing_every_run_with_every_other(
    tmp_path_factory: pytest.TempPathFactory, training: list[str], evaluation: list[str], block: int
) -> None:
    n = 4
    folder = tmp_path_factory.mktemp("stores")
    seen = set().union(*(grams(text, n) for text in training))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TOKENS", block)
        found = overlap(
            store_of(folder / "a", [Text(text) for text in training]),
            store_of(folder / "b", [Text(text) for text in evaluation]),
            n,
        )
    touched = [bool(grams(text, n) & seen) for text in evaluation]
    assert found.touched == sum(touched)
    assert found.identical == len(set(training) & set(evaluation))
    both = [place for place, text in enumerate(evaluation) if touched[place] or text in training]
    assert found.places.tolist() == both
    all_grams = [gram for text in evaluation for gram in _runs(text, n)]
    assert found.grams == pytest.approx(np.mean([gram in seen for gram in all_grams]) if all_grams else 0)


def _runs(text: str, n: int) -> list[tuple[int, ...]]:
    ids = [*text.encode(), 256]
    return [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]


def test_a_split_without_copies_does_not_overlap_and_a_planted_copy_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    texts = ["".join(map(chr, random.integers(33, 127, 80))) for _ in range(300)]
    train, held_out = store_of(tmp_path / "a", [Text(text) for text in texts]).split(0.2)
    assert overlap(train, held_out).places.tolist() == []
    planted = [Text(texts[3][20:50]), Text("nothing of the kind is in the training data")]
    found = overlap(
        store_of(tmp_path / "a", [Text(text) for text in texts]), store_of(tmp_path / "b", planted)
    )
    assert (found.documents, found.identical, found.touched) == (2, 0, 1)
    assert found.places.tolist() == [0]


def test_of_pairs_the_sources_are_compared(tmp_path: Path) -> None:
    training = store_of(tmp_path / "a", [Pair("I would like a cup of tea", "eins")])
    evaluation = store_of(tmp_path / "b", [Pair("I would like a cup of coffee", "zwei"), Pair("No", "eins")])
    assert overlap(training, evaluation).places.tolist() == [0]

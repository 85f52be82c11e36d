"""Batches of documents of like length: all of them once, within the budget, hardly padded."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kun.data.padding import PaddedRows
from kun.data.rows import Labelled, Pair, Row
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput
from kun.text.learn import byte_tokenizer


def store_of(folder: Path, rows: list[Row]) -> TokenStore:
    return TokenStore.build(folder, rows, RowTokenizer(byte_tokenizer()), processes=1)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 90), st.integers(0, 2))
def test_every_document_is_in_one_batch_and_no_batch_is_above_its_tokens(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], budget: int, epoch: int
) -> None:
    random = np.random.default_rng(0)
    rows: list[Row] = [
        Labelled(("".join(map(chr, random.integers(33, 127, length))),), number)
        for number, length in enumerate(lengths)
    ]
    store = store_of(tmp_path_factory.mktemp("store"), rows)
    plan = PaddedRows(store, budget, pad=256, seed=3).plan(epoch)
    seen = []
    for index in range(len(plan)):
        batch = plan.batch(index)
        assert batch.input_ids.size <= budget
        assert batch.labels is not None
        for row, document in enumerate(batch.documents):
            length = store.lengths[document]
            assert batch.input_ids[row, :length].tolist() == store.ids(document).tolist()
            assert (batch.input_ids[row, length:] == 256).all()
            assert batch.attention_mask[row].tolist() == [1] * length + [0] * (
                batch.input_ids.shape[1] - length
            )
            assert batch.labels[row] == store.labels[document] == document
        seen += batch.documents.tolist()
    assert sorted(seen) == list(range(len(store)))


def test_pairs_are_padded_side_by_side(tmp_path: Path) -> None:
    store = store_of(tmp_path, [Pair("a" * n, "b" * (11 - n)) for n in range(1, 11)])
    plan = PaddedRows(store, 40).plan(0)
    for index in range(len(plan)):
        batch = plan.batch(index)
        assert batch.target_ids is not None
        assert batch.target_mask is not None
        for row, document in enumerate(batch.documents):
            assert batch.input_ids[row][batch.attention_mask[row] == 1].tolist() == [97] * (document + 1)
            assert batch.target_ids[row][batch.target_mask[row] == 1].tolist() == [98] * (10 - document)


def test_two_texts_have_types(tmp_path: Path) -> None:
    rows = [Labelled(("a", "bc"), 1), Labelled(("def", "g"), 0)]
    store = TokenStore.build(tmp_path, rows, RowTokenizer(byte_tokenizer(), end=256), processes=1)
    batch = PaddedRows(store, 99).plan(0).batch(0)
    assert batch.token_type_ids is not None
    by_document = dict(zip(batch.documents.tolist(), batch.token_type_ids.tolist(), strict=True))
    assert by_document == {0: [0, 0, 1, 1, 1, 0], 1: [0, 0, 0, 0, 1, 1]}


def test_little_is_padding_and_epochs_differ(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows: list[Row] = [Labelled((f"{n} " + "x" * int(random.exponential(40)),), 0) for n in range(3000)]
    rows_of = PaddedRows(store_of(tmp_path, rows), 2048)
    plan = rows_of.plan(0)
    sizes = [
        (batch.attention_mask.sum(), batch.input_ids.size) for batch in map(plan.batch, range(len(plan)))
    ]
    tokens, cells = np.sum(sizes, axis=0)
    assert tokens / cells > 0.97
    assert plan.documents(0).tolist() == rows_of.plan(0).documents(0).tolist()
    assert plan.documents(0).tolist() != rows_of.plan(1).documents(0).tolist()


def test_a_budget_below_the_longest_row_is_refused_with_its_length(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot hold the longest row, which has 12"):
        PaddedRows(store_of(tmp_path, [Labelled(("twelve chars",), 0)]), 11)

"""Rows of like length: all of them once, in steps and parts within their budgets, hardly padded."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kun.data.packing import IGNORED
from kun.data.padding import PaddedRows, micro_batches
from kun.data.rows import Labelled, Pair, Row
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.text.learn import byte_tokenizer


def store_of(folder: Path, rows: list[Row]) -> TokenStore:
    return TokenStore.build(folder, rows, RowTokenizer(byte_tokenizer()), processes=1)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 90), st.integers(0, 2))
def test_every_row_is_in_one_step_and_no_part_is_above_its_tokens(
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
    for step in plan.steps:
        for part in micro_batches(plan, step, budget):
            batch = plan.batch(part)
            assert batch.input_ids.size <= budget
            assert batch.labels is not None
            for row, document in enumerate(part.tolist()):
                length = store.lengths[document]
                assert batch.input_ids[row, :length].tolist() == store.ids(document).tolist()
                assert (batch.input_ids[row, length:] == 256).all()
                assert batch.real[row].sum() == length
                assert batch.labels[row] == store.labels[document] == document
            seen += part.tolist()
    assert sorted(seen) == list(range(len(store)))


def test_pairs_are_padded_side_by_side(tmp_path: Path) -> None:
    store = store_of(tmp_path, [Pair("a" * n, "b" * (11 - n)) for n in range(1, 11)])
    plan = PaddedRows(store, 40).plan(0)
    for step in plan.steps:
        batch = plan.batch(step)
        assert batch.targets is not None
        for row, document in enumerate(step.tolist()):
            assert batch.input_ids[row][batch.real[row]].tolist() == [97] * (document + 1)
            assert batch.targets[row][batch.targets[row] != IGNORED].tolist() == [98] * (10 - document)


def test_two_texts_have_types(tmp_path: Path) -> None:
    rows = [Labelled(("a", "bc"), 1), Labelled(("def", "g"), 0)]
    store = TokenStore.build(tmp_path, rows, RowTokenizer(byte_tokenizer(), end=256), processes=1)
    batch = PaddedRows(store, 99).plan(0).batch([0, 1])
    assert batch.types is not None
    assert batch.types.tolist() == [[0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1]]


def test_text_longer_than_a_row_is_cut_into_several(tmp_path: Path) -> None:
    from kun.data.rows import Text

    store = store_of(tmp_path, [Text("abcdefghij" * 5), Text("short")])
    plan = PaddedRows(store, 64, longest=16).plan(0)
    assert plan.pieces.lengths.max() <= 16
    assert plan.pieces.lengths.sum() == store.n_tokens


def test_little_is_padding_and_epochs_differ(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows: list[Row] = [Labelled((f"{n} " + "x" * int(random.exponential(40)),), 0) for n in range(3000)]
    rows_of = PaddedRows(store_of(tmp_path, rows), 2048)
    plan = rows_of.plan(0)
    parts = [plan.batch(part) for step in plan.steps for part in micro_batches(plan, step, 1024)]
    tokens, cells = np.sum([(batch.real.sum(), batch.input_ids.size) for batch in parts], axis=0)
    assert tokens / cells > 0.9
    assert [step.tolist() for step in plan.steps] == [step.tolist() for step in rows_of.plan(0).steps]
    assert [step.tolist() for step in plan.steps] != [step.tolist() for step in rows_of.plan(1).steps]

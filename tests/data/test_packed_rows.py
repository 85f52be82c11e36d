"""Packing: every token once, hardly any padding, and no document ever sees another."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kun.data.packing import IGNORED, PackedBatch, PackedRows, best_fit
from kun.data.rows import Conversation, Text
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput
from kun.text.chat import ChatTemplate
from kun.text.learn import CHATML, byte_tokenizer, learn_tokenizer

LENGTHS = st.lists(st.integers(1, 150), min_size=1, max_size=60)


def store_of(folder: Path, lengths: list[int], shard: int = 2**27) -> TokenStore:
    """Documents of these lengths with letters of their own, so that hardly one is another's duplicate."""
    random = np.random.default_rng(7)
    rows = [Text("".join(map(chr, random.integers(33, 127, length)))) for length in lengths]
    return TokenStore.build(folder, rows, RowTokenizer(byte_tokenizer()), processes=1, shard=shard)


def token_places(store: TokenStore, batch: PackedBatch) -> dict[tuple[int, int], tuple[int, int]]:
    """For each cell (row, column) that is no padding, the document and the place in it."""
    places = {}
    for row, column in zip(*np.nonzero(batch.documents), strict=True):
        place = batch.places[row, column]
        document = int(np.searchsorted(store.starts, place, side="right")) - 1
        places[int(row), int(column)] = document, int(place - store.starts[document])
    return places


@settings(max_examples=40)
@given(LENGTHS, st.integers(2, 64), st.integers(0, 3), st.sampled_from([2**27, 37]))
def test_every_token_stands_in_exactly_one_cell_with_its_own_successor_as_label(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], context: int, epoch: int, shard: int
) -> None:
    store = store_of(tmp_path_factory.mktemp("store"), lengths, shard)
    plan = PackedRows(store, context, seed=1).plan(epoch)
    batch = plan.batch(range(len(plan)))
    places = token_places(store, batch)
    assert sorted(places.values()) == [(d, t) for d in range(len(store)) for t in range(store.lengths[d])]
    for row, column in np.ndindex(batch.input_ids.shape):
        if (row, column) not in places:
            assert batch.documents[row, column] == 0
            assert batch.labels[row, column] == IGNORED
            continue
        document, token = places[row, column]
        ids = store.ids(document)
        assert batch.input_ids[row, column] == ids[token]
        assert batch.labels[row, column] == (ids[token + 1] if token + 1 < len(ids) else IGNORED)


@settings(max_examples=40)
@given(LENGTHS, st.integers(2, 64), st.integers(0, 3))
def test_two_tokens_have_one_number_only_where_they_are_of_one_piece_of_one_document(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], context: int, epoch: int
) -> None:
    store = store_of(tmp_path_factory.mktemp("store"), lengths)
    plan = PackedRows(store, context).plan(epoch)
    batch = plan.batch(range(len(plan)))
    places = token_places(store, batch)
    for row in range(len(plan)):
        owners: dict[int, set[int]] = {}
        for column in range(context):
            if number := int(batch.documents[row, column]):
                owners.setdefault(number, set()).add(places[row, column][0])
        assert all(len(documents) == 1 for documents in owners.values())
        numbers = batch.documents[row][batch.documents[row] > 0]
        assert (np.diff(numbers) >= 0).all()
        assert set(numbers.tolist()) == set(range(1, len(owners) + 1))


@settings(max_examples=40)
@given(LENGTHS, st.integers(2, 64))
def test_padding_is_below_two_percent_or_less_than_a_row(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], context: int
) -> None:
    store = store_of(tmp_path_factory.mktemp("store"), lengths)
    plan = PackedRows(store, context).plan(0)
    assert plan.padding_fraction < 0.02 or len(plan) == -(-store.n_tokens // context)
    assert plan.padding_fraction == pytest.approx(1 - store.n_tokens / (len(plan) * context))


@pytest.mark.parametrize("length", [3, 20, 33, 40, 63, 64, 65, 100])
def test_documents_that_fill_no_row_well_waste_under_two_percent_too(tmp_path: Path, length: int) -> None:
    store = store_of(tmp_path, [length] * 4000)
    assert PackedRows(store, 64).plan(0).padding_fraction < 0.02


def test_documents_that_fit_stay_whole_where_that_wastes_little(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).lognormal(2.5, 0.7, 3000).astype(int).clip(1, 64).tolist()
    store = store_of(tmp_path, lengths)
    plan = PackedRows(store, 64).plan(0)
    assert plan.padding_fraction < 0.01
    assert len(plan.pieces.lengths) == len(store)


def test_a_plan_is_a_function_of_store_context_seed_and_epoch(tmp_path: Path) -> None:
    store = store_of(tmp_path, [150, 30, 20, 90, 64, 65, 1, 2, 3] * 4)

    def packed(seed: int, epoch: int) -> NDArray[np.int64]:
        plan = PackedRows(TokenStore.open(tmp_path), 64, seed).plan(epoch)
        return plan.batch(range(len(plan))).input_ids

    assert np.array_equal(packed(0, 0), packed(0, 0))
    assert not np.array_equal(packed(0, 0), packed(0, 1))
    assert not np.array_equal(packed(0, 0), packed(1, 0))
    assert len(store) > 20


def test_long_documents_are_cut_at_places_that_move_with_the_epoch(tmp_path: Path) -> None:
    store = store_of(tmp_path, [1000])
    firsts = {int(PackedRows(store, 64).plan(epoch).pieces.lengths.min()) for epoch in range(20)}
    cuts = {tuple(sorted(PackedRows(store, 64).plan(epoch).pieces.offsets.tolist())) for epoch in range(20)}
    assert len(cuts) > 10
    assert firsts != {64}


def test_a_batch_is_the_rows_that_were_asked_for_in_their_order(tmp_path: Path) -> None:
    plan = PackedRows(store_of(tmp_path, list(range(1, 120))), 64).plan(2)
    whole = plan.batch(range(len(plan)))
    chosen = [5, 0, 5, len(plan) - 1]
    some = plan.batch(np.array(chosen))
    assert np.array_equal(some.input_ids, whole.input_ids[chosen])
    assert np.array_equal(some.labels, whole.labels[chosen])
    assert np.array_equal(some.documents, whole.documents[chosen])
    assert (some.input_ids.dtype, some.documents.dtype, some.labels.dtype) == (np.int64, np.int32, np.int64)


def test_only_learned_tokens_are_labels(tmp_path: Path) -> None:
    learned = learn_tokenizer(["talk"], "bytes", 300)
    rows = [
        Conversation(({"role": "user", "content": f"q{n}" * n}, {"role": "assistant", "content": f"A{n}"}))
        for n in range(1, 30)
    ]
    tokenizer = RowTokenizer(learned.tokenizer, template=ChatTemplate(CHATML))
    store = TokenStore.build(tmp_path, rows, tokenizer, processes=1)
    plan = PackedRows(store, 200).plan(0)
    labels = plan.batch(range(len(plan))).labels
    assert (labels != IGNORED).sum() == sum(int(store.learned(index).sum()) for index in range(len(store)))
    said = learned.tokenizer.decode(labels[labels != IGNORED].tolist(), skip_special_tokens=False)
    assert sorted(said.split("<|im_end|>")[:-1]) == sorted(f"A{n}" for n in range(1, 30))


@settings(max_examples=40)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(50, 80))
def test_best_fit_overfills_no_row_and_never_leaves_two_rows_that_fit_in_one(
    lengths: list[int], capacity: int
) -> None:
    rows, count = best_fit(np.array(lengths), capacity, np.random.default_rng(0))
    filled = np.bincount(rows, lengths, count)
    assert (filled <= capacity).all()
    assert (filled > 0).all()
    assert np.sort(filled)[:2].sum() > capacity or count == 1


@settings(max_examples=40)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=80))
def test_best_fit_is_the_textbooks_algorithm(lengths: list[int]) -> None:
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else 20) - length)
    rows, count = best_fit(np.array(lengths), 20, np.random.default_rng(0))
    assert sorted(20 - np.bincount(rows, lengths, count)) == sorted(rooms)


def test_a_context_that_leaves_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="A context of 1 tokens leaves nothing to predict"):
        PackedRows(store_of(tmp_path, [3]), 1)

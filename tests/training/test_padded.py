"""Rows that stand by themselves: all of them, once an epoch, in steps of the wanted size, with little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kun.data.padding import PaddedRows, micro_batches
from kun.data.rows import Labelled, Pair
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadRecipe
from kun.objectives.text.cursor import DataCursor
from kun.objectives.text.padded import PaddedFeed
from kun.text.learn import byte_tokenizer
from kun.training.feed import ALL_ROWS, RankSlice


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    chance = np.random.default_rng(0)
    sizes = chance.integers(1, 40, (400, 2))
    rows = [Pair(f"{n:03d}" + "s" * a, f"{n:03d}" + "t" * b) for n, (a, b) in enumerate(sizes)]
    return TokenStore.build(
        tmp_path_factory.mktemp("pairs"), rows, RowTokenizer(byte_tokenizer()), processes=1
    )


@settings(max_examples=20, deadline=None)
@given(step_tokens=st.integers(100, 4000), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_every_row_is_in_one_step_of_an_epoch(pairs, step_tokens, seed, epoch):
    plan = PaddedRows(pairs, step_tokens, seed=seed).plan(epoch)
    assert sorted(np.concatenate(plan.steps).tolist()) == list(range(len(pairs)))
    tokens = [int(plan.widths[step].sum()) for step in plan.steps]
    longest = int(plan.widths.max())
    assert max(tokens) <= 1.5 * step_tokens + 2 * longest
    assert len(plan) == plan.starts[-1] == len(pairs)
    for step in plan.steps:
        parts = micro_batches(plan, step, 500)
        assert np.concatenate(parts).tolist() == step.tolist()
        assert all(len(part) == 1 or len(part) * plan.widths[part].max() <= 500 for part in parts)


def test_little_is_padding_though_each_step_has_many_lengths(pairs):
    plan = PaddedRows(pairs, 4096, seed=0).plan(0)
    real = padded = 0
    for step in plan.steps:
        assert np.ptp(plan.widths[step]) > 20
        for part in micro_batches(plan, step, 4096):
            batch = plan.batch(part)
            real += int(batch.real.sum())
            padded += batch.real.size
    assert real / padded > 0.85


def test_a_feed_goes_on_from_any_place_and_is_shared_without_loss(pairs):
    def feed(rows=ALL_ROWS):
        made = PaddedFeed(PaddedRows(pairs, 1000), None, micro_tokens=400, eval_tokens=10**6)
        made.divide(rows)
        return made

    place, places = DataCursor(), []
    while place.epoch == 0:
        places.append(place)
        _, place = feed().at(place)
    assert [feed().at(one)[1] for one in places] == [*places[1:], DataCursor(1, 0)]
    whole = feed().at(places[3])[0]
    shared = [batch for rank in range(2) for batch in feed(RankSlice(rank, 2)).at(places[3])[0]]

    def firsts(batches):
        return sorted(bytes(row[:3].tolist()) for batch in batches for row in batch["input_ids"] % 256)

    assert firsts(whole) == firsts(shared)
    with pytest.raises(BadRecipe, match="raise it"):
        feed(RankSlice(0, 100))


def test_labels_come_with_their_rows(tmp_path):
    rows = [Labelled(("x" * (n + 1),), "ab"[n % 2]) for n in range(20)]
    turn = RowTokenizer(byte_tokenizer(), classes=("a", "b"))
    plan = PaddedRows(TokenStore.build(tmp_path, rows, turn, processes=1), 50).plan(0)
    for step in plan.steps:
        batch = plan.batch(step)
        assert batch.labels.tolist() == [float((size - 1) % 2) for size in batch.real.sum(axis=1)]

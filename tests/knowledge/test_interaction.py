"""Token states are kept small, and a passage is as near as its tokens are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.knowledge.interaction import max_sim, pack


def states(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def exact(query: np.ndarray, passage: np.ndarray) -> float:
    """ColBERT's sum, as a mean, with nothing quantized."""
    q, p = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, passage))
    return float((q @ p.T).max(axis=1).mean())


@pytest.mark.parametrize("dimensions", [8, 30, 64, 384])
def test_a_state_takes_two_bits_a_number(dimensions: int) -> None:
    assert len(pack(states(5, dimensions))) == 5 * -(-dimensions // 4)


def test_scores_come_close_to_those_of_whole_states() -> None:
    # states as encoders make them: all near one direction
    shared = 3 * states(1, 384, seed=9)
    passages = [shared + states(count, 384, seed=count) for count in (7, 40, 1, 90)]
    query = np.vstack([passages[1][3:6], shared + states(2, 384, seed=5)])
    scores = max_sim(query, [pack(passage) for passage in passages])
    wanted = [exact(query, passage) for passage in passages]
    assert np.argmax(scores) == 1
    assert np.allclose(scores, wanted, atol=0.02)


@given(st.integers(1, 6), st.lists(st.integers(0, 9), max_size=6), st.sampled_from([6, 32]))
def test_each_passage_is_scored_by_itself(n_query: int, sizes: list[int], dimensions: int) -> None:
    query = states(n_query, dimensions, seed=1)
    packed = [pack(states(size, dimensions, seed=size)) for size in sizes]
    together = max_sim(query, packed)
    assert together.shape == (len(sizes),)
    for size, score, passage in zip(sizes, together, packed, strict=True):
        assert score == pytest.approx(float(max_sim(query, [passage])[0]), abs=1e-5)
        assert size or score == 0


def test_length_of_a_state_does_not_matter() -> None:
    query, passage = states(3, 64, seed=1), states(4, 64, seed=2)
    assert pack(passage) == pack(100 * passage)
    assert np.allclose(max_sim(query, [pack(passage)]), max_sim(query / 50, [pack(passage)]), atol=1e-6)

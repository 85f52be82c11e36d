"""GloVe: the objective of the paper, compiled steps and torch's, counts that are exact whatever the memory."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from word_texts import written

from kun.wordvectors.cooccurrences import Cooccurrences, count
from kun.wordvectors.glove import Entries, Glove, Weighting, reference_objective

WORDS = 6


def entries(seed: int = 0, words: int = WORDS) -> tuple[Entries, np.ndarray]:
    """Counts of some pairs as entries, and as a matrix."""
    rng = np.random.default_rng(seed)
    matrix = (
        rng.integers(0, 40, (words, words)) * rng.random((words, words)) * (rng.random((words, words)) < 0.7)
    )
    rows, columns = np.nonzero(matrix)
    order = rng.permutation(len(rows))
    rows, columns = rows[order].astype(np.int32), columns[order].astype(np.int32)
    counts = matrix[rows, columns].astype(np.float32)
    exact = np.zeros_like(matrix)
    exact[rows, columns] = counts
    return (torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(counts)), exact


def net(dimensions: int = 7, words: int = WORDS, most: float = 10.0) -> Glove:
    return Glove(words, dimensions, Weighting(most), np.random.default_rng(1))


def reference(made: Glove, counts: np.ndarray) -> float:
    """The paper's equation 8 in float64, over the matrix."""
    d = made.dimensions
    words, contexts = (table.detach().double().numpy() for table in (made.words, made.contexts))
    biases = words[:, d], contexts[:, d + 1]
    return reference_objective((words[:, :d], contexts[:, :d]), biases, counts, made.weighting)


@pytest.mark.parametrize("trained", [False, True])
def test_the_objective_is_that_of_the_paper_in_float64(trained: bool) -> None:
    some, counts = entries()
    made = net()
    for _ in range(20 if trained else 0):
        made.learn(some, 0.05)
    assert made.objective(some) == pytest.approx(reference(made, counts), rel=1e-6)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dimensions", [7, 14, 30])
def test_a_compiled_step_is_adagrads_on_the_gradient_of_the_objective(dimensions: int) -> None:
    some, _ = entries()
    one = tuple(part[:1].contiguous() for part in some)
    made = net(dimensions)
    made.word_squares.fill_(4.0)
    row, column = int(one[0]), int(one[1])
    words, contexts = (
        table.detach().double().clone().requires_grad_() for table in (made.words, made.contexts)
    )
    x = one[2].double()
    weight = (x / 10).pow(0.75).clamp(max=1)
    # AdaGrad's steps are those of half the objective, as the reference program takes them
    (0.5 * weight * (words[row] @ contexts[column] - x.log()).square()).sum().backward()
    assert words.grad is not None
    assert contexts.grad is not None
    made.learn(one, 0.05)  # type: ignore[arg-type]
    expected = words - 0.05 * words.grad / 2.0
    expected[row, dimensions + 1] = 1
    torch.testing.assert_close(made.words.detach().double(), expected.detach(), atol=1e-6, rtol=1e-5)
    expected = contexts - 0.05 * contexts.grad
    expected[column, dimensions] = 1
    torch.testing.assert_close(made.contexts.detach().double(), expected.detach(), atol=1e-6, rtol=1e-5)
    assert float(made.word_squares.max()) > 4.0


@pytest.mark.parametrize("way", ["compiled", "uncompiled"])
def test_the_objective_falls_and_the_constants_stay(way: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(way)
    some, _ = entries()
    made = net()
    before = made.objective(some)
    for _ in range(200):
        made.learn(some, 0.1)
    assert made.objective(some) < 0.05 * before
    assert torch.equal(made.words[:, made.dimensions + 1], torch.ones(WORDS))
    assert torch.equal(made.contexts[:, made.dimensions], torch.ones(WORDS))
    assert not made.words[:, made.dimensions + 2 :].any()


def ids_of(sentences: list[list[str]]) -> tuple[np.ndarray, int]:
    index = {word: row for row, word in enumerate(sorted({word for one in sentences for word in one}))}
    flat = [number for one in sentences for number in [*(index[word] for word in one), -1]]
    return np.array(flat, np.int32), len(index)


def naive(ids: np.ndarray, words: int, window: int) -> np.ndarray:
    """Counts by definition."""
    found = np.zeros((words, words))
    edges = [-1, *np.flatnonzero(ids < 0), len(ids)]
    for start, stop in pairwise(edges):
        sentence = ids[start + 1 : stop]
        for at, word in enumerate(sentence):
            for other in range(max(0, at - window), at):
                found[word, sentence[other]] += 1 / (at - other)
                found[sentence[other], word] += 1 / (at - other)
    return found


def matrix(counts: Cooccurrences, words: int) -> np.ndarray:
    found = np.zeros((words, words))
    table = counts.table
    assert len(np.unique(table["row"].astype(np.int64) * words + table["column"])) == len(table)
    found[table["row"], table["column"]] = table["count"]
    return found


@pytest.mark.parametrize(("block", "merged"), [(1 << 19, 1 << 22), (50, 1 << 22), (64, 30), (7, 3)])
def test_counts_are_exact_however_little_is_held_at_once(tmp_path: Path, block: int, merged: int) -> None:
    ids, words = ids_of([one + other for one, other in pairwise(written(sentences=60))])
    counts = count(ids, words, 4, tmp_path / "pairs", block=block, merged=merged)
    np.testing.assert_allclose(matrix(counts, words), naive(ids, words, 4), rtol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


def test_the_same_text_and_seed_give_the_same_order(tmp_path: Path) -> None:
    ids, words = ids_of(written(sentences=100))
    first, second, third = (
        count(ids, words, 4, tmp_path / f"{n}", seed).path.read_bytes() for n, seed in enumerate((0, 0, 1))
    )
    assert first == second
    assert first != third
    assert len(first) == len(third)


def test_a_text_of_single_words_has_no_pairs(tmp_path: Path) -> None:
    assert len(count(np.array([0, -1, 1, -1], np.int32), 2, 5, tmp_path / "pairs")) == 0

"""word2vec: a step is the gradient of the paper, compiled or not; one seed gives the same bits; words get a meaning."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid
from word_texts import written

from kun.adaptation import native_words
from kun.wordvectors.small import train_vectors
from kun.wordvectors.word2vec import Sizes, Word2Vec, contexts_of, held_out_loss

TEXT = torch.tensor([0, 1, 2, -1, 3, 1, -1], dtype=torch.int32)


def net(seed: int = 0, words: int = 4, **sizes: object) -> Word2Vec:
    """Tables of some words with numbers at random in both."""
    asked = Sizes(**{"dimensions": 5, "window": 1, "negatives": 0, "sample": 0.0, **sizes})  # type: ignore[arg-type]
    made = Word2Vec(np.full(words, 10, np.int64), asked, np.random.default_rng(seed))
    torch.manual_seed(seed)
    with torch.no_grad():
        for table in (made.input, made.output):
            table[:, : asked.dimensions] = torch.randn(words, asked.dimensions)
    return made


def stepped(
    made: Word2Vec, pairs: list[tuple[list[int], int]], rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tables after a step of gradient descent for each of some groups of pairs, by autograd."""
    tables = [made.input.detach().double().clone(), made.output.detach().double().clone()]
    for contexts, word in pairs:
        one, other = (table.requires_grad_() for table in tables)
        loss = -logsigmoid(one[contexts] @ other[word]).sum()
        loss.backward()
        tables = [(table - rate * table.grad).detach() for table in (one, other)]  # type: ignore[operator]
    return tables[0], tables[1]


@pytest.mark.usefixtures("compiled")
def test_a_compiled_step_is_the_papers_gradient() -> None:
    made = net()
    # each place with its neighbours within one word: two of them at once
    expected = stepped(made, [([1], 0), ([0, 2], 1), ([1], 2), ([1], 3), ([3], 1)], 0.3)
    made.learn(TEXT, 0.3, seed=0)
    for ours, theirs in zip((made.input, made.output), expected, strict=True):
        torch.testing.assert_close(ours.detach().double(), theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("uncompiled")
def test_an_uncompiled_step_is_the_papers_gradient_over_some_places_at_once() -> None:
    made = net()
    tables = [made.input.detach().double().clone(), made.output.detach().double().clone()]
    one, other = (table.requires_grad_() for table in tables)
    pairs = [(1, 0), (0, 1), (2, 1), (1, 2), (1, 3), (3, 1)]
    sum((-logsigmoid(one[context] @ other[word]) for context, word in pairs), torch.zeros(())).backward()
    made.learn(TEXT, 0.3, seed=0)
    for ours, theirs in zip((made.input, made.output), (one, other), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours.detach().double(), theirs - 0.3 * theirs.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("compiled")
def test_cbow_moves_every_context_by_the_whole_gradient_of_their_mean() -> None:
    made = net(cbow=True)
    text = torch.tensor([0, 1, 2, -1], dtype=torch.int32)
    tables = [made.input.detach().double().clone(), made.output.detach().double().clone()]
    for contexts, word in (([1], 0), ([0, 2], 1), ([1], 2)):
        one, other = (table.requires_grad_() for table in tables)
        (-logsigmoid(one[contexts].mean(0) @ other[word])).backward()
        assert one.grad is not None
        one.grad *= len(contexts)
        tables = [(table - 0.3 * table.grad).detach() for table in (one, other)]  # type: ignore[operator]
    made.learn(text, 0.3, seed=0)
    for ours, theirs in zip((made.input, made.output), tables, strict=True):
        torch.testing.assert_close(ours.detach().double(), theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("negatives", [1, 5, 7, 20])
def test_the_same_seed_gives_the_same_bits_and_padding_stays_zero(cbow: bool, negatives: int) -> None:
    text = torch.randint(0, 40, (5000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    tables = []
    for seed in (7, 7, 8):
        made = net(words=40, dimensions=20, window=4, negatives=negatives, cbow=cbow, sample=1e-2)
        loss, predictions = made.learn(text, 0.05, seed)
        assert predictions > 100
        assert np.isfinite(loss)
        assert not made.input[:, 20:].any()
        assert not made.output[:, 20:].any()
        tables.append(made.input.detach().clone())
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.usefixtures("compiled")
def test_negatives_are_drawn_by_their_weights() -> None:
    weights = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 4
    columns = native_words.NegativeSampler.of(weights).columns
    chance = columns[:, 0].to(torch.int64) % 2**32 / (2**32 - 1)
    drawn = chance.double() / 1000
    drawn.index_add_(0, columns[:, 1].long(), (1 - chance.double()) / 1000)
    torch.testing.assert_close(drawn, weights / weights.sum(), atol=1e-9, rtol=1e-6)


def test_windows_end_where_sentences_do() -> None:
    ids = np.array([5, 6, -1, 7, 8, 9], np.int32)
    assert [sorted(row[row >= 0]) for row in contexts_of(ids, 2)] == [
        [6], [5], [], [8, 9], [7, 9], [7, 8],
    ]  # fmt: skip
    assert contexts_of(ids, 2, np.array([1, 1, 1, 1, 1, 1])).max(axis=1).tolist() == [6, 5, -1, 8, 9, 8]


def test_the_held_out_loss_is_that_of_the_paper() -> None:
    made = net(negatives=2, window=2)
    ids = np.array([0, 1, 2, 3], np.int32)
    negatives = np.array([[1, 2], [1, 3], [0, 0], [2, 1]])
    total, predictions = held_out_loss(made.vectors, made.outputs, ids, negatives, window=2, cbow=False)
    expected, count = 0.0, 0
    for place, word in enumerate(ids):
        for at in range(max(0, place - 2), min(4, place + 3)):
            if at == place:
                continue
            hidden = made.vectors[ids[at]]
            expected -= float(logsigmoid(hidden @ made.outputs[word]))
            expected -= sum(
                float(logsigmoid(-hidden @ made.outputs[one])) for one in negatives[place] if one != word
            )
            count += 1
    assert predictions == count
    assert total == pytest.approx(expected, rel=1e-5)


def test_frequent_words_are_left_out_as_often_as_the_paper_says() -> None:
    counts = np.array([9000, 900, 100], np.int64)
    made = Word2Vec(counts, Sizes(dimensions=2, sample=1e-2), np.random.default_rng(0))
    share = counts / counts.sum()
    np.testing.assert_allclose(made.kept, np.minimum(1, np.sqrt(1e-2 / share) + 1e-2 / share))


@pytest.mark.parametrize("way", ["compiled", "uncompiled"])
@pytest.mark.parametrize("cbow", [False, True])
def test_words_that_are_used_alike_come_to_lie_together(
    way: str, cbow: bool, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(way)
    vectors = train_vectors(
        written(sentences=1500), dimensions=16, window=2, epochs=12, rate=0.1, sample=0.0, cbow=cbow
    )
    assert vectors.analogy("man", "king", "woman")[0][0] == "queen"
    assert vectors.analogy("boy", "prince", "girl")[0][0] == "princess"


def test_vectors_of_a_small_text_are_the_same_each_time() -> None:
    one, other = (train_vectors(written(sentences=200), dimensions=8, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.vectors, other.vectors)


@pytest.mark.usefixtures("compiled")
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not list threads")
def test_more_threads_may_be_asked_for_than_at_first() -> None:
    made = net(words=4)
    made.learn(TEXT, 0.1, seed=0, threads=1)
    before = len(list(Path("/proc/self/task").iterdir()))
    made.learn(TEXT, 0.1, seed=0, threads=9)
    after = len(list(Path("/proc/self/task").iterdir()))
    assert after > before
    made.learn(TEXT, 0.1, seed=0, threads=9)
    assert len(list(Path("/proc/self/task").iterdir())) == after

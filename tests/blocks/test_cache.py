"""The paged cache: pages hold what was written, rows see themselves alone, wrong tables are refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kun.blocks.attention import attend, causal_mask
from kun.blocks.cache import PagedCache
from kun.errors import BadInput

HEADS, KV_HEADS, WIDTH, PAGE = 4, 2, 8, 4


def cache(n_pages: int = 64) -> PagedCache:
    return PagedCache(1, KV_HEADS, WIDTH, n_pages, PAGE)


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None) -> torch.Tensor:
    return attend(q, k, v, causal_mask(torch.ones(1, q.shape[1]), q.shape[1], window, q.device))


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from([None, 1, 3, 6]),
    st.randoms(use_true_random=False),
)
def test_rows_run_in_any_pieces_equal_rows_run_whole(chunks: list[list[int]], window, random) -> None:
    """Rows of their own lengths, cut anywhere, pages in any order and shared steps change nothing."""
    torch.manual_seed(0)
    lengths = [sum(chunk) for chunk in chunks]
    full = [
        (torch.randn(1, n, HEADS, WIDTH), *(torch.randn(1, n, KV_HEADS, WIDTH) for _ in range(2)))
        for n in lengths
    ]
    pages = list(range(64))
    random.shuffle(pages)
    tables = [[pages.pop() for _ in range(-(-n // PAGE))] for n in lengths]
    store, done = cache(), [0] * len(chunks)
    got: list[list[torch.Tensor]] = [[] for _ in chunks]
    for turn in range(max(map(len, chunks))):
        rows = [row for row, chunk in enumerate(chunks) if turn < len(chunk)]
        counts = [chunks[row][turn] for row in rows]
        step = store.step([tables[row] for row in rows], [done[row] for row in rows], counts)
        parts = [[x[:, done[r] : done[r] + n] for x in full[r]] for r, n in zip(rows, counts, strict=True)]
        q, k, v = (torch.cat(some, dim=1) for some in zip(*parts, strict=True))
        for row, n, out in zip(rows, counts, step.attend(0, q, k, v, window).split(counts, 1), strict=True):
            got[row].append(out)
            done[row] += n
    for row, whole in enumerate(full):
        assert torch.allclose(torch.cat(got[row], dim=1), plain(*whole, window), atol=1e-5)


def test_a_step_says_where_each_token_goes() -> None:
    step = cache().step([[7, 3], [5]], [3, 0], [2, 3])
    assert step.slots.tolist() == [7 * PAGE + 3, 3 * PAGE, 5 * PAGE, 5 * PAGE + 1, 5 * PAGE + 2]
    assert step.positions.tolist() == [[3, 4, 0, 1, 2]]
    assert step.row_starts.tolist() == [0, 2, 5]
    assert (step.before.tolist(), step.lengths.tolist()) == ([3, 0], [5, 3])
    assert step.tables.tolist() == [[7, 3], [5, 0]]
    assert step.tables.dtype == step.row_starts.dtype == step.lengths.dtype == torch.int32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pages_start_as_zeros_of_the_asked_type(dtype: torch.dtype) -> None:
    store = PagedCache(2, KV_HEADS, WIDTH, 3, PAGE, dtype)
    assert store.keys.shape == (2, 3, KV_HEADS, PAGE, WIDTH)
    assert store.values.dtype == dtype
    assert not store.keys.any()
    assert store.keys.data_ptr() % 64 == 0
    assert store.bytes_per_page == 2 * 2 * KV_HEADS * PAGE * WIDTH * dtype.itemsize


@pytest.mark.parametrize(
    ("tables", "before", "counts", "why"),
    [
        ([], [], [], "at least one row"),
        ([[0]], [0], [0], "needs one"),
        ([[0]], [-1], [1], "needs one"),
        ([[0]], [4], [1], "too few for 5 tokens"),
        ([[64]], [0], [1], "outside 0 to 63"),
        ([[-1]], [0], [1], "outside 0 to 63"),
        ([[0]], [0, 0], [1], "at least one row"),
    ],
)
def test_a_step_that_cannot_be_is_refused(tables, before, counts, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        cache().step(tables, before, counts)


def test_a_cache_of_no_pages_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one"):
        PagedCache(1, 1, 8, 0)

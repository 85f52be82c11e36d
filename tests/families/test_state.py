"""What a network carries from step to step: biases and prefixes in paged attention equal a plain computation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kun.blocks.attention import attend, biased
from kun.blocks.cache import PagedCache
from kun.errors import BadInput
from kun.families import FAMILIES, family_of, kind_of
from kun.networks.decoding import DecodingState

HEADS, KV_HEADS, WIDTH, PAGE = 4, 2, 8, 4


def slopes(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """A bias that differs by head and by distance, and not only by it."""
    distance = (queries[:, :, None] - keys[:, None, :]).float()
    head = torch.arange(1, HEADS + 1)[None, :, None, None]
    return distance[:, None] * 0.3 / head + keys[:, None, None, :] * 0.1


def plain(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, prefix: int, scale: float | None
) -> torch.Tensor:
    place = torch.arange(q.shape[1])[None]
    seen = (place[:, None] <= place[..., None]) | (place < prefix)
    mask = biased(slopes(place, place), seen[:, None], q.dtype)
    return attend(q, k, v, mask, scale=scale)


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.lists(st.integers(1, 9), min_size=1, max_size=4)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, 1.0, 0.2]),
)
def test_biases_prefixes_and_scales_are_those_of_a_row_run_whole(
    asked: list[tuple[int, list[int]]], scale: float | None
) -> None:
    torch.manual_seed(0)
    prefixes = [prefix for prefix, _ in asked]
    chunks = [[chunk[0] + prefix, *chunk[1:]] for prefix, chunk in asked]
    lengths = [sum(chunk) for chunk in chunks]
    heads = (HEADS, KV_HEADS, KV_HEADS)
    full = [[torch.randn(1, n, h, WIDTH) for h in heads] for n in lengths]
    store, done = PagedCache(1, KV_HEADS, WIDTH, 64, PAGE), [0] * len(chunks)
    pages = iter(range(64))
    tables = [[next(pages) for _ in range(-(-n // PAGE))] for n in lengths]
    got: list[list[torch.Tensor]] = [[] for _ in chunks]
    for turn in range(max(map(len, chunks))):
        rows = [row for row, chunk in enumerate(chunks) if turn < len(chunk)]
        counts = [chunks[row][turn] for row in rows]
        step = store.step(
            [tables[r] for r in rows], [done[r] for r in rows], counts, [prefixes[r] for r in rows]
        )
        parts = [[x[:, done[r] : done[r] + n] for x in full[r]] for r, n in zip(rows, counts, strict=True)]
        q, k, v = (torch.cat(some, dim=1) for some in zip(*parts, strict=True))
        out = step.attend(0, q, k, v, bias=slopes, scale=scale)
        for row, n, piece in zip(rows, counts, out.split(counts, 1), strict=True):
            got[row].append(piece)
            done[row] += n
    for row, whole in enumerate(full):
        assert torch.allclose(torch.cat(got[row], dim=1), plain(*whole, prefixes[row], scale), atol=1e-5)


def test_a_prefix_that_is_cut_is_refused() -> None:
    with pytest.raises(BadInput, match="must be run at once"):
        PagedCache(1, KV_HEADS, WIDTH, 4, PAGE).step([[0, 1]], [0], [4], [5])


def test_a_decoder_begins_with_its_prompt_and_keeps_no_more_than_pages() -> None:
    state = DecodingState(PagedCache(1, KV_HEADS, WIDTH, 4, PAGE))
    row = state.start((3, 1))
    assert (row.tokens, row.prefix, row.unread, row.keeps) == ([3, 1], 0, 0, True)
    assert state.step([row], [[2]], [0], [2]).positions.tolist() == [[0, 1]]


def test_a_page_is_copied_whole() -> None:
    store = PagedCache(2, KV_HEADS, WIDTH, 4, PAGE)
    store.keys[:, 1], store.values[:, 1] = 3, 5
    store.copy(1, 2)
    assert torch.equal(store.keys[:, 2], store.keys[:, 1])
    assert torch.equal(store.values[:, 2], store.values[:, 1])
    assert not store.keys[:, 3].any()


def test_the_kind_of_a_model_is_told_without_loading_its_family() -> None:
    for model_type in FAMILIES:
        config = {"model_type": model_type}
        assert kind_of(config) == family_of(config).kind
    assert kind_of({}) == "decoder"

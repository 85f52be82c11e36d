"""Experts compute each of their tokens, take no more than their capacity, and cost nothing when idle."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import NllbMoeConfig, SwitchTransformersConfig
from transformers.models.nllb_moe import modeling_nllb_moe as nllb
from transformers.models.switch_transformers import modeling_switch_transformers as switch

from kun.blocks.experts import (
    SECOND_EXPERTS,
    ExpertList,
    Router,
    Routes,
    balance_loss,
    capacity_of,
    mix,
    normalized,
    top1,
    top2,
    z_loss,
)

SIZE = 6


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_experts(count: int) -> ExpertList:
    torch.manual_seed(count)
    return ExpertList(nn.Sequential(nn.Linear(SIZE, 9), nn.ReLU(), nn.Linear(9, SIZE)) for _ in range(count))


def one_by_one(x: Tensor, routes: Routes, experts: ExpertList) -> Tensor:
    """What `mix` is, a token at a time."""
    rows = []
    for token, state in enumerate(x):
        mixed = torch.zeros(SIZE)
        for expert, gate, kept in zip(
            routes.experts[token], routes.gates[token], routes.kept[token], strict=True
        ):
            if kept:
                mixed = mixed + gate * experts[int(expert)](state)
        rows.append(mixed)
    return torch.stack(rows) if rows else torch.zeros(0, SIZE)


def fill(routes: Routes, capacity: int, groups: list[int], order: list[int]) -> set[tuple[int, int]]:
    """Which (token, choice) find a place where first choices are seated in `order`, then second ones."""
    taken: dict[tuple[int, int], int] = {}
    seated = set()
    for choice in range(routes.experts.shape[1]):
        for token in order:
            seat = (groups[token], int(routes.experts[token, choice]))
            if routes.kept[token, choice] and taken.get(seat, 0) < capacity:
                taken[seat] = taken.get(seat, 0) + 1
                seated.add((token, choice))
    return seated


@given(st.integers(0, 20), st.integers(2, 9), st.sampled_from([1, 2]), st.data())
def test_each_kept_token_is_computed_by_its_experts_and_gradients_follow(
    n: int, count: int, k: int, data: Any
) -> None:
    x = torch.randn(n, SIZE, generator=seeded(n), requires_grad=True)
    experts, router = make_experts(count), Router(SIZE, count)
    real = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=torch.bool)
    capacity = data.draw(st.integers(1, 5))

    def gradients(run: Any) -> tuple[Tensor, list[Tensor | None]]:
        routes = top1(router(x), real) if k == 1 else normalized(top2(router(x), real))
        mixed = run(x, routes.within(capacity), experts)
        everything = [x, *router.parameters(), *experts.parameters()]
        loss = mixed.square().sum() + 0 * x.sum()
        return mixed, list(torch.autograd.grad(loss, everything, allow_unused=True))

    (got, mine), (wanted, theirs) = gradients(mix), gradients(one_by_one)
    assert torch.allclose(got, wanted, atol=1e-5)
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or b is None or torch.allclose(a, b, atol=1e-4)


@given(st.integers(1, 24), st.integers(2, 5), st.integers(1, 6), st.integers(1, 3), st.booleans(), st.data())
def test_no_expert_takes_more_than_its_capacity_and_the_first_in_line_are_kept(
    n: int, count: int, capacity: int, n_groups: int, by_score: bool, data: Any
) -> None:
    logits = torch.randn(n, count, generator=seeded(n))
    real = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=torch.bool)
    groups = torch.arange(n) % n_groups
    for routes in (top1(logits, real), top2(logits, real)):
        score = routes.gates[:, 0] if by_score else None
        order = routes.gates[:, 0].argsort(descending=True).tolist() if by_score else list(range(n))
        kept = routes.within(capacity, group=groups, score=score).kept
        assert set(map(tuple, kept.nonzero().tolist())) == fill(routes, capacity, groups.tolist(), order)
        assert not (kept & ~real[:, None]).any()


def test_capacity_is_the_even_share_times_the_factor_rounded_up() -> None:
    assert capacity_of(100, 8, 1.0) == 13
    assert capacity_of(100, 8, 1.25) == 16
    assert capacity_of(1, 64, 1.0) == 1


def test_an_expert_without_tokens_is_not_called_and_has_no_gradient() -> None:
    experts = make_experts(4)
    routes = Routes(torch.tensor([[2], [2]]), torch.ones(2, 1), torch.ones(2, 1, dtype=torch.bool))
    mix(torch.randn(2, SIZE), routes, experts).sum().backward()
    used = [any(p.grad is not None for p in expert.parameters()) for expert in experts]
    assert used == [False, False, True, False]


def test_tokens_that_go_nowhere_come_out_as_zeros() -> None:
    routes = Routes(
        torch.zeros(3, 2, dtype=torch.long), torch.ones(3, 2), torch.zeros(3, 2, dtype=torch.bool)
    )
    assert torch.equal(mix(torch.randn(3, SIZE), routes, make_experts(2)), torch.zeros(3, SIZE))


def test_the_router_computes_in_float32_inside_a_bfloat16_network() -> None:
    router, x = Router(SIZE, 3, bias=True).bfloat16(), torch.randn(5, SIZE).bfloat16()
    wanted = F.linear(x.float(), router.weight.float(), router.bias.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(router(x), wanted)
    mixed = mix(x, top1(router(x)), make_experts(3).bfloat16())
    assert mixed.dtype == torch.bfloat16


def test_jitter_shakes_what_the_router_reads_within_its_bounds_and_only_in_training() -> None:
    router = Router(SIZE, SIZE, jitter=0.1)
    nn.init.eye_(router.weight)
    x = torch.full((500, SIZE), 2.0)
    shaken = router.train()(x).detach() / x
    assert 0.9 <= float(shaken.min()) < 0.91
    assert 1.09 < float(shaken.max()) <= 1.1
    assert torch.equal(router.eval()(x), x)


def test_the_random_second_expert_is_kept_as_often_as_twice_its_gate() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]]).expand(20000, 3)
    torch.manual_seed(0)
    routes = top2(logits, second="random", training=True)
    wanted = 2 * float(normalized(routes).gates[0, 1])
    assert routes.kept[:, 0].all()
    assert abs(float(routes.kept[:, 1].float().mean()) - wanted) < 0.02
    assert top2(logits, second="random").kept.all()


def test_the_sampled_second_expert_is_drawn_by_its_probability_among_the_others() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]]).expand(20000, 3)
    torch.manual_seed(0)
    drawn = top2(logits, second="sampling", training=True).experts
    assert (drawn[:, 0] == 0).all()
    wanted = float(logits[0, 1:].softmax(-1)[0])
    assert abs(float((drawn[:, 1] == 1).float().mean()) - wanted) < 0.02
    assert (top2(logits, second="sampling").experts[:, 1] == 1).all()


@pytest.mark.parametrize("capacity", [2, 5, 64])
def test_top_1_routes_are_the_reference_routers(capacity: int) -> None:
    config = SwitchTransformersConfig(d_model=SIZE, num_experts=4, expert_capacity=capacity)
    theirs, x = (
        switch.SwitchTransformersTop1Router(config).eval(),
        torch.randn(3, 20, SIZE, generator=seeded(1)),
    )
    chosen, gates, logits = theirs(x)
    routes = top1(logits.flatten(0, 1)).within(capacity, group=torch.arange(3).repeat_interleave(20))
    mine = F.one_hot(routes.experts[:, 0], 4) * routes.kept
    assert torch.equal(mine, chosen.flatten(0, 1))
    assert torch.allclose(routes.gates, gates.flatten(0, 1))


@pytest.mark.parametrize("by_score", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("capacity", [2, 5, 64])
def test_top_2_routes_are_the_reference_routers(
    by_score: bool, before: bool, padded: bool, capacity: int
) -> None:
    config = NllbMoeConfig(
        d_model=SIZE, num_experts=4, expert_capacity=capacity, batch_prioritized_routing=by_score,
        normalize_router_prob_before_dropping=before,
    )  # fmt: skip
    theirs, x = nllb.NllbMoeTop2Router(config).train(), torch.randn(30, SIZE, generator=seeded(1))
    real = torch.rand(30, generator=seeded(2)) > 0.3 if padded else None
    first, gates, logits = theirs(x, None if real is None else ~real)
    routes = top2(logits, real)
    if before:
        routes = normalized(routes)
    routes = routes.within(capacity, score=top2(logits).gates[:, 0] if by_score else None)
    if not before:
        routes = normalized(routes, over_kept=True)
    mine = torch.zeros(30, 4).scatter_add(1, routes.experts, routes.gates * routes.kept)
    assert torch.allclose(mine, gates, atol=1e-6)
    assert torch.equal(F.one_hot(routes.experts[:, 0], 4) * routes.kept[:, :1], first)


def test_losses_are_the_formulas_of_the_papers() -> None:
    logits = torch.randn(40, 5, generator=seeded(3))
    probabilities, first = logits.softmax(-1), logits.argmax(-1)
    share = torch.stack([(first == expert).float().mean() for expert in range(5)])
    switch_loss = 5 * (share * probabilities.mean(0)).sum()
    gshard_loss = (
        sum((first == expert).sum() / 40 * probabilities[:, expert].mean() for expert in range(5)) / 5
    )
    assert torch.allclose(balance_loss(logits[None]), switch_loss)
    assert torch.allclose(balance_loss(logits[None]) / 5**2, gshard_loss)
    assert torch.allclose(z_loss(logits), logits.exp().sum(-1).log().square().mean())
    assert torch.allclose(balance_loss(torch.zeros(1, 8, 4)), torch.ones(()))


def test_losses_are_the_references_and_leave_padding_out() -> None:
    logits = torch.randn(3, 40, 5, generator=seeded(4))
    mask = torch.ones(3, 40, dtype=torch.long)
    mask[1, 30:] = 0
    wanted = switch.load_balancing_loss_func(logits.softmax(-1), logits.argmax(-1))
    assert torch.allclose(balance_loss(logits), wanted)
    assert torch.allclose(z_loss(logits), switch.router_z_loss_func(logits))
    wanted = nllb.load_balancing_loss_func((logits.flatten(0, 1),), 5, attention_mask=mask)
    assert torch.allclose(balance_loss(logits.view(1, 120, 5), 2, mask.view(1, 120)), wanted)
    changed = copy.deepcopy(logits)
    changed[1, 30:] = 9
    for loss in (balance_loss, z_loss):
        assert torch.equal(loss(changed, real=mask), loss(logits, real=mask))


def test_every_way_to_choose_a_second_expert_is_known() -> None:
    for second in SECOND_EXPERTS:
        routes = top2(torch.randn(7, 3), second=second, training=True)
        assert (routes.experts[:, 0] != routes.experts[:, 1]).all()

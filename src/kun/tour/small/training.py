"""Training in a few lines, for networks that are done within seconds: AdamW with warmup and a cosine."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it chance is that of `seed`, on one thread: steps this small wait longer for a second than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def fit(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[int], Tensor],
    steps: int,
    lr: float = 3e-3,
    weight_decay: float = 0.01,
) -> list[float]:
    """Change `parameters` for so many steps; `loss_of(step)` is the loss of each, and they are returned."""
    learning = list(parameters)
    optimizer = torch.optim.AdamW(learning, lr=lr, weight_decay=weight_decay, fused=True)
    losses = []
    for step in range(steps):
        share = min(1.0, (step + 1) / max(1, steps // 20)) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * share
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses

"""§ 3, InstructGPT: a person's ranking becomes scores, the second of its three steps."""

import torch
from torch import nn
from torch.nn import functional as F

from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small.training import fit, seeded

_RANKING = (("D",), ("C",), ("A", "B"))
"""The ranking of the paper's figure, D > C > A = B: best first, ties together."""


def _ranked(session: Session) -> Shown:
    """Scores that the loss of the reward model finds from one ranking of four answers."""
    del session
    names = sorted(name for tie in _RANKING for name in tie)
    place = {name: rank for rank, tie in enumerate(_RANKING) for name in tie}
    pairs = [(a, b) for a in names for b in names if place[a] < place[b]]
    with seeded(0):
        scores = nn.Parameter(torch.randn(len(names)))
        better, worse = (torch.tensor([names.index(pair[side]) for pair in pairs]) for side in (0, 1))

        def loss(_: int) -> torch.Tensor:
            return -F.logsigmoid(scores[better] - scores[worse]).mean() + 0.03 * scores.square().mean()

        losses = fit([scores], loss, 500, 0.1)
    found = dict(zip(names, scores.tolist(), strict=True))
    order = sorted(names, key=lambda name: -found[name])
    ok = order[:2] == ["D", "C"] and abs(found["A"] - found["B"]) < 0.1 and len(pairs) == 5
    return Shown(
        ok,
        (
            f"One ranking D > C > A = B is {len(pairs)} comparisons. The loss −log σ(r(better) − r(worse)) "
            f"falls from {losses[0]:.2f} to {losses[-1]:.2f}, and the scores stand in that order; A and B "
            f"differ by {abs(found['A'] - found['B']):.3f}.",
            f"一次排序 D > C > A = B 相当于 {len(pairs)} 次两两比较。损失 −log σ(r(好) − r(差)) 从 "
            f"{losses[0]:.2f} 降到 {losses[-1]:.2f}，分数正是这个次序；A 和 B 相差 "
            f"{abs(found['A'] - found['B']):.3f}。",
        ),
        Table((("answer", "回答"), ("score", "分数")), [(name, f"{found[name]:+.2f}") for name in order]),
    )


IDEA = Idea(
    number=3,
    title=("InstructGPT", "InstructGPT"),
    examples=(Example(("a ranking becomes scores", "排序变成分数"), _ranked),),
    see=(
        "the [article](examples/handbook/en/03-instructgpt.md)",
        "[文章](examples/handbook/zh/03-instructgpt.md)",
    ),
    comes=("the reward model's loss on one ranking, as scores", "奖励模型的损失把一次排序变成分数"),
    sources=(
        "Ouyang et al., arXiv:2203.02155",
        "Stiennon et al., arXiv:2009.01325",
        "Schulman et al. (PPO), arXiv:1707.06347",
    ),
    drawings=("instructgpt",),
    later=(
        "Reward models of texts, PPO, GPT-3's five faults before and after.",
        "文本的奖励模型、PPO、GPT-3 五个毛病的前后对比。",
    ),
)

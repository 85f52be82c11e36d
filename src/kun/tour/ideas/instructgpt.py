"""§ 3, InstructGPT: a person's ranking becomes scores; the three steps on summaries, at the size of a toy."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from kun.tour import before_after
from kun.tour.aligned import BASE
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small.steps import Lessons, three_steps
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


_TOPICS = {
    "sea": "wave ship harbour sail tide anchor".split(),
    "sky": "cloud star wind moon storm dawn".split(),
    "farm": "cow barn field plough hay goose".split(),
    "kitchen": "oven spoon bread soup kettle plate".split(),
}
_ARTICLE, _SHOWN, _RANKED, _UNSEEN = 4, 240, 160, 24


def _article(rng: random.Random) -> tuple[str, str]:
    """Words of one topic, and the topic."""
    topic = rng.choice(list(_TOPICS))
    return " ".join(rng.sample(_TOPICS[topic], _ARTICLE)), topic


def _summaries(topic: str, rng: random.Random) -> list[str]:
    """Summaries from the best to the worst: it names the topic, says nothing, names another one."""
    other = rng.choice([each for each in _TOPICS if each != topic])
    return [f"about the {topic} .", "about many words .", f"about the {other} ."]


def _lessons() -> Lessons:
    """People's demonstrations, of which half are good, rankings of other articles, and new ones.

    Articles are drawn until the new ones are in neither.
    """
    rng = random.Random(0)
    shown, ranked, unseen = (
        list[tuple[str, str]](),
        list[tuple[str, list[str]]](),
        list[tuple[str, list[str]]](),
    )
    for _ in range(_SHOWN):
        article, topic = _article(rng)
        good, empty, _ = _summaries(topic, rng)
        shown.append((article, rng.choice((good, empty))))
    for _ in range(_RANKED):
        article, topic = _article(rng)
        ranked.append((article, _summaries(topic, rng)))
    met = {article for article, _ in (*shown, *ranked)}
    while len(unseen) < _UNSEEN:
        article, topic = _article(rng)
        if article not in met:
            met.add(article)
            unseen.append((article, _summaries(topic, rng)))
    right = {article: answers[0] for article, answers in unseen}
    return Lessons(shown, ranked, list(right), unseen, lambda article, said: said.strip() == right[article])


def _three_steps(session: Session) -> Shown:
    """Rankings of summaries make a reward model, and PPO by it makes summaries that people would rank higher."""
    del session
    with seeded(0):
        found = three_steps(_lessons())
    before, after, accuracy = found.before, found.after, found.accuracy
    articles = list(after.answers)[:4]
    return Shown(
        accuracy.mean > 0.9 and after.good > before.good + 0.2 and after.reward > before.reward,
        (
            f"{_SHOWN} demonstrations, {_RANKED} rankings, PPO. On new articles the reward model prefers the better "
            f"of two summaries in {accuracy.mean:.0%}; the reward rises from {before.reward:+.2f} to "
            f"{after.reward:+.2f}, and the share of good summaries from {before.good:.0%} to {after.good:.0%}.",
            f"{_SHOWN} 条示范、{_RANKED} 次排序，然后 PPO。"
            f"在新文章上，奖励模型有 {accuracy.mean:.0%} 的时候偏好更好的摘要；"
            f"奖励从 {before.reward:+.2f} 升到 {after.reward:+.2f}，"
            f"好摘要的比例从 {before.good:.0%} 升到 {after.good:.0%}。",
        ),
        Table(
            (("article", "文章"), ("fine-tuned", "微调后"), ("after PPO", "PPO 后")),
            [(article, before.answers[article], after.answers[article]) for article in articles],
        ),
    )


IDEA = Idea(
    number=3,
    title=("InstructGPT", "InstructGPT"),
    examples=(
        Example(("a ranking becomes scores", "排序变成分数"), _ranked),
        Example(("the three steps on summaries", "摘要上的三个步骤"), _three_steps),
        Example(
            ("GPT-3's five faults, before and after", "GPT-3 的五个毛病，前与后"),
            before_after.faults,
            (BASE,),
        ),
    ),
    see=(
        "`kun speedrun`; `kun serve` and its page *Feedback*; `kun train examples/recipes/summaries-start.toml`, "
        "`summaries-reward.toml`, `summaries-ppo.toml` ([page](docs/en/summaries.md)); "
        "[rewards](docs/en/rewards.md)",
        "`kun speedrun`；`kun serve` 的“反馈”页；`kun train examples/recipes/summaries-start.toml`、"
        "`summaries-reward.toml`、`summaries-ppo.toml`（[详解](docs/zh/summaries.md)）；"
        "[奖励](docs/zh/rewards.md)",
    ),
    comes=(
        "a ranking becomes scores; demonstrations, reward model and PPO on summaries within seconds; GPT-3's five "
        "faults before and after",
        "一次排序变成分数；几秒之内在摘要上走完示范、奖励模型和 PPO；GPT-3 的五个毛病，前与后",
    ),
    sources=(
        "Ouyang et al., arXiv:2203.02155",
        "Stiennon et al., arXiv:2009.01325",
        "Schulman et al. (PPO), arXiv:1707.06347",
    ),
    drawings=("instructgpt",),
)

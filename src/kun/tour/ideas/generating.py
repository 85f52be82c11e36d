"""§ 6, generating content: diffusion as ink in water, forward and back, step by step."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from kun.tour.drawings.canvas import DIM, EDGE, PAPER, Canvas, Language
from kun.tour.drawings.pictures import STEPS, drop, kept
from kun.tour.example import Example, Idea, Shown
from kun.tour.session import Session
from kun.tour.small.training import seeded

_BACK = 40
"""Steps of the way back, a few of the thousand (Song et al., arXiv:2010.02502)."""


def _ink(session: Session) -> Shown:
    """A drop becomes noise by the schedule of the paper, and noise a drop by the best possible guess of the noise."""
    del session
    points = torch.tensor(drop())
    with seeded(20):
        x, seen = points, [points]
        for step in range(1, STEPS + 1):
            left = kept(step) / kept(step - 1)
            x = math.sqrt(left) * x + math.sqrt(1 - left) * torch.randn_like(x)
            if step in (50, 150, 400, STEPS):
                seen.append(x)
        noise = torch.randn(len(points), 2)
    end = kept(STEPS)
    spread = float(x.var())
    back = _back(noise, points)
    away, near = (float(torch.cdist(some, points).min(1).values.mean()) for some in (noise, back[-1]))

    def draw(language: Language) -> str:
        shown = back[:: max(1, (len(back) - 1) // 4)][:5]
        return _panels(language, seen, shown)

    return Shown(
        abs(spread - 1) < 0.2 and near < 0.05 < away,
        (
            f"After {STEPS} steps {math.sqrt(end):.3f} of the drop is left, and the points vary by "
            f"{spread:.2f}, as noise does. Fresh noise lies {away:.2f} from the drop; {_BACK} steps back, "
            f"each removing the noise that is guessed, end {near:.3f} from it.",
            f"走完 {STEPS} 步，墨滴只剩 {math.sqrt(end):.3f}，点的方差 {spread:.2f}，已是噪声。"
            f"新取的噪声离墨滴 {away:.2f}；倒走 {_BACK} 步，每步减去猜出的噪声，最后离墨滴 {near:.3f}。",
        ),
        picture=draw,
    )


def _back(x: Tensor, points: Tensor) -> list[Tensor]:
    """From noise [n, 2] to the drop, at each step; the noise is guessed by the mean over all `points`, no network."""
    times = [round(STEPS * (1 - step / _BACK)) for step in range(_BACK + 1)]
    seen = [x]
    for now, then in pairwise(times):
        left, next_left = kept(now), kept(then)
        distance = torch.cdist(x, math.sqrt(left) * points).square() / (2 * (1 - left))
        clean = (-distance).softmax(-1) @ points
        noise = (x - math.sqrt(left) * clean) / math.sqrt(1 - left)
        x = math.sqrt(next_left) * clean + math.sqrt(1 - next_left) * noise
        seen.append(x)
    return seen


def _panels(language: Language, forward: list[Tensor], back: list[Tensor]) -> str:
    title = ("Ink in water, of this run", "墨水入水，本次运行")
    c = Canvas(800, 390, title, language)
    for row, (name, states) in enumerate(
        (
            (("forward, noise is added", "前向：加噪声"), forward),
            (("back, noise is removed", "反向：去噪声"), back),
        )
    ):
        y = 36 + 180 * row
        c.text(20, y - 14, name, anchor="start", bold=True)
        for column, state in enumerate(states):
            x = 20 + 156 * column
            c.box(x, y, 136, 136, fill=PAPER)
            held = (25 * state).clamp(-64, 64).tolist()
            c.dots([(x + 68 + px, y + 68 + py) for px, py in held], colour=EDGE)
    c.text(400, 378, ("dots of this run", "本次运行的点"), size=11, colour=DIM)
    return c.svg()


IDEA = Idea(
    number=6,
    title=("Generating content", "生成内容"),
    examples=(Example(("diffusion, ink in water and back", "扩散：墨水入水，再倒回来"), _ink),),
    see=(
        "the [article](examples/handbook/en/06-generating-content.md)",
        "[文章](examples/handbook/zh/06-generating-content.md)",
    ),
    comes=("diffusion forward and back, step by step, on points", "在点上一步步演示扩散的前向与反向"),
    sources=(
        "Ho et al., arXiv:2006.11239; Song et al. (DDIM), arXiv:2010.02502",
        "Radford et al. (CLIP), arXiv:2103.00020; Rombach et al., arXiv:2112.10752",
    ),
    drawings=("content", "ink", "clip", "stable-diffusion"),
    later=(
        "Pictures: CLIP, text to picture, picture to picture, music.",
        "图片：CLIP、文生图、图生图；音乐。",
    ),
)

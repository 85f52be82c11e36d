"""Inpainting, and a drop of ink in water: diffusion, computed."""

import math
import random

from kun.tour.drawings.canvas import DIM, EDGE, GREEN, PAPER, WARM, Canvas, Label, Language, Point

STEPS, FIRST, LAST = 1000, 1e-4, 0.02
"""The forward process of Ho et al., arXiv:2006.11239: its steps, the noise of the first and of the last."""
_SHOWN = (0, 50, 150, 400, 1000)
_DROPS, _SEED = 260, 20


def kept(step: int) -> float:
    """The share ᾱ of the picture's variance that is left after so many steps."""
    return math.prod(1 - (FIRST + (LAST - FIRST) * t / (STEPS - 1)) for t in range(step))


def ink(language: Language) -> str:
    """Points of a drop, x_t = √ᾱ x_0 + √(1 − ᾱ) ε, at five steps."""
    c = Canvas(800, 290, ("Diffusion, a drop of ink in water", "扩散：墨水滴进清水"), language)
    rng = random.Random(_SEED)
    points = drop(rng)
    noise = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in points]
    for column, step in enumerate(_SHOWN):
        x, share = 20 + column * 156, kept(step)
        c.box(x, 60, 136, 136, fill=PAPER)
        c.dots(
            [
                (
                    x + 68 + _held(math.sqrt(share) * px + math.sqrt(1 - share) * nx),
                    128 + _held(math.sqrt(share) * py + math.sqrt(1 - share) * ny),
                )
                for (px, py), (nx, ny) in zip(points, noise, strict=True)
            ],
            colour=EDGE,
        )
        left = f"√ᾱ = {math.sqrt(share):.2f}"
        c.text(x + 68, 212, (f"step {step}", f"第 {step} 步"), size=12)
        c.text(x + 68, 230, (left, left), size=11, colour=DIM)
    c.arrow((20, 42), (780, 42))
    c.text(400, 24, ("forward: a little noise in each step", "前向：每一步加一点噪声"))
    c.arrow((780, 252), (20, 252))
    c.text(
        400,
        272,
        ("backward: a network predicts the noise, and it is removed", "反向：网络预测噪声，再把它减去"),
    )
    return c.svg()


def drop(rng: random.Random | None = None) -> list[Point]:
    """Points of a drop of ink, the same ones where no `rng` is given."""
    rng = rng or random.Random(_SEED)
    return [_in_drop(rng) for _ in range(_DROPS)]


def _in_drop(rng: random.Random) -> Point:
    """A point of a falling drop: round below, with a tip above."""
    while True:
        x, y = rng.uniform(-0.8, 0.8), rng.uniform(-1.3, 0.8)
        if x * x + y * y < 0.64 or (y < 0 and abs(x) < 0.62 * (y + 1.3)):
            return x, y + 0.1


def _held(value: float) -> float:
    """A coordinate in pixels from the middle of a panel, within its walls."""
    return max(-64.0, min(64.0, 25 * value))


def inpainting(language: Language) -> str:
    """A hole, a network, the filling, and what its encoder is good for afterwards (arXiv:1604.07379)."""
    c = Canvas(800, 330, ("Inpainting, a picture asks its own question", "图像修补：图片自己出题"), language)
    for x in (30, 626):
        c.box(x, 56, 144, 120, fill=PAPER)
        _scene(c, x + 72, 116)
    c.polygon((78, 92), (126, 92), (126, 148), (78, 148), fill="#d1d5db")
    c.text(102, 120, ("?", "?"), size=26, bold=True)
    c.text(102, 34, ("a hole is cut", "挖一个洞"))
    c.text(698, 34, ("the hole is filled", "把洞补上"))
    c.arrow((174, 116), (219, 116))
    c.box(220, 78, 120, 76, ("encoder", "编码器"), fill=GREEN)
    c.arrow((340, 116), (379, 116))
    c.box(380, 96, 60, 40, ("features", "特征"), size=12)
    c.arrow((440, 116), (479, 116))
    c.box(480, 78, 100, 76, ("decoder", "解码器"))
    c.arrow((580, 116), (625, 116))
    c.text(
        698,
        196,
        ("loss: squared difference, adversarial", "损失：平方差，加对抗损失"),
        size=11,
        colour=DIM,
        room=190,
    )
    c.arrow((280, 154), (280, 231))
    c.text(290, 196, ("the encoder is used again:", "编码器再用于别的任务："), size=12, anchor="start")
    gains: list[tuple[Label, str]] = [
        (("classification", "分类"), "+3.2"),
        (("detection", "检测"), "+1.1"),
        (("segmentation", "分割"), "+10.2"),
    ]
    for column, (task, gain) in enumerate(gains):
        c.box(180 + column * 160, 232, 144, 46, task, (gain, gain), fill=WARM)
    c.text(
        412,
        302,
        ("points on PASCAL VOC, against random weights", "PASCAL VOC 上比随机初始化高多少个百分点"),
        size=11,
        colour=DIM,
    )
    return c.svg()


def _scene(c: Canvas, x: float, y: float) -> None:
    """A house below the sun."""
    c.circle(x + 46, y - 38, 11, fill="#facc15")
    c.polygon((x - 24, y - 6), (x + 24, y - 6), (x + 24, y + 32), (x - 24, y + 32), fill="#fde68a")
    c.polygon((x - 32, y - 6), (x, y - 34), (x + 32, y - 6), fill="#b45309")
    c.polygon((x - 7, y + 12), (x + 7, y + 12), (x + 7, y + 32), (x - 7, y + 32), fill="#78350f")

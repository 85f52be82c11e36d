"""CLIP's pairs, and the three spaces of Stable Diffusion."""

from kun.tour.drawings.canvas import DIM, GREEN, PAPER, SOFT, WARM, Canvas, Label, Language

SIDE, LATENT_SIDE, LATENT_CHANNELS, TEXT_TOKENS, TEXT_WIDTH = 512, 64, 4, 77, 768
"""Sizes of Stable Diffusion 1: pixels and latents a side, channels of a latent, tokens of a prompt, their width."""


def clip(language: Language) -> str:
    """Three pictures, three sentences, nine similarities."""
    c = Canvas(720, 430, ("CLIP matches pictures and sentences", "CLIP 给图片和句子配对"), language)
    sentences: list[Label] = [
        ("a red apple", "一个红苹果"),
        ("a house", "一座房子"),
        ("a green tree", "一棵绿树"),
    ]
    for column, sentence in enumerate(sentences):
        x = 330 + column * 120
        c.text(x + 50, 36, sentence, room=112)
        c.arrow((x + 50, 48), (x + 50, 69))
        c.arrow((x + 50, 102), (x + 50, 129))
        c.text(x + 64, 116, (f"T{column + 1}", f"T{column + 1}"), size=11, colour=DIM)
    c.box(330, 70, 340, 32, ("text encoder", "文字编码器"))
    for row, draw in enumerate((_apple, _house, _tree)):
        y = 130 + row * 84
        c.box(36, y, 84, 70, fill=PAPER)
        draw(c, 78, y + 35)
        c.arrow((120, y + 35), (151, y + 35))
        c.arrow((264, y + 35), (329, y + 35))
        c.text(300, y + 24, (f"I{row + 1}", f"I{row + 1}"), size=11, colour=DIM)
        for column in range(3):
            pair = f"I{row + 1} · T{column + 1}"
            fill = GREEN if row == column else PAPER
            c.box(330 + column * 120, y, 100, 70, (pair, pair), fill=fill)
    c.box(152, 130, 112, 238, ("picture encoder", "图片编码器"))
    c.text(
        500,
        400,
        ("green: pairs, pulled together; all others are pushed apart", "绿色：配对的，互相拉近；其余的推开"),
        size=12,
        colour=DIM,
    )
    return c.svg()


def stable_diffusion(language: Language) -> str:
    """Pixels, latents and conditions, with the five steps."""
    c = Canvas(820, 440, ("The three spaces of Stable Diffusion", "Stable Diffusion 的三个空间"), language)
    latent = f"{LATENT_SIDE} × {LATENT_SIDE} × {LATENT_CHANNELS}"
    pixels = f"{SIDE} × {SIDE} × 3"
    condition = f"{TEXT_TOKENS} × {TEXT_WIDTH}"
    for x, width, name, size in (
        (16, 190, ("space of pixels", "像素空间"), pixels),
        (222, 372, ("latent space", "潜空间"), latent),
        (610, 194, ("space of conditions", "条件空间"), condition),
    ):
        c.frame(x, 64, width, 356)
        c.text(x + width / 2, 24, name, size=15, bold=True)
        c.text(x + width / 2, 46, (size, size), size=12, colour=DIM)
    c.box(46, 100, 130, 74, fill=PAPER)
    _house(c, 111, 137)
    c.text(111, 190, ("a picture", "图片"), size=12)
    c.arrow((176, 137), (239, 137))
    c.box(240, 110, 150, 54, ("1 encode", "1 编码"), ("autoencoder's encoder", "自编码器的编码器"), size=12)
    c.arrow((390, 137), (423, 137))
    c.box(424, 110, 152, 54, ("2 add noise", "2 加噪声"), ("as far as the step", "由步数决定多少"), size=12)
    c.arrow((500, 164), (500, 229))
    c.box(
        424,
        230,
        152,
        72,
        ("4 denoise", "4 去噪"),
        ("U-Net with", "带交叉注意力"),
        ("cross-attention", "的 U-Net"),
        size=12,
        fill=WARM,
    )
    c.line((576, 290), (586, 290), (586, 322), (500, 322))
    c.arrow((500, 322), (500, 303))
    c.text(500, 338, ("again, 20 to 50 steps", "重复 20 到 50 步"), size=11, colour=DIM)
    c.arrow((424, 266), (391, 266))
    c.box(240, 239, 150, 54, ("5 decode", "5 解码"), ("autoencoder's decoder", "自编码器的解码器"), size=12)
    c.arrow((240, 266), (177, 266))
    c.box(46, 229, 130, 74, fill=PAPER)
    _house(c, 111, 266)
    c.text(111, 319, ("the new picture", "新图片"), size=12)
    c.box(
        632,
        110,
        150,
        54,
        ("3 text to condition", "3 文字变成条件"),
        ("CLIP's text encoder", "CLIP 文字编码器"),
        size=12,
    )
    c.text(707, 86, ("“a house”", "“一座房子”"), size=12)
    c.arrow((707, 94), (707, 109))
    c.box(652, 230, 110, 54, (condition, condition), size=12, fill=SOFT)
    c.arrow((707, 164), (707, 229))
    c.arrow((652, 257), (577, 257))
    noise: Label = ("text to image begins here, with noise alone", "文生图从这里开始，只有噪声")
    c.text(408, 378, noise, size=12, colour=DIM, room=360)
    c.line((408, 366), (408, 350), (408, 196), (500, 196), colour=DIM, dashed=True)
    return c.svg()


def _apple(c: Canvas, x: float, y: float) -> None:
    c.line((x, y - 12), (x + 5, y - 26))
    c.circle(x, y + 4, 18, fill="#dc2626")


def _house(c: Canvas, x: float, y: float) -> None:
    c.polygon((x - 20, y - 4), (x + 20, y - 4), (x + 20, y + 24), (x - 20, y + 24), fill="#fde68a")
    c.polygon((x - 26, y - 4), (x, y - 26), (x + 26, y - 4), fill="#b45309")
    c.polygon((x - 6, y + 8), (x + 6, y + 8), (x + 6, y + 24), (x - 6, y + 24), fill="#78350f")


def _tree(c: Canvas, x: float, y: float) -> None:
    c.polygon((x - 5, y + 6), (x + 5, y + 6), (x + 5, y + 26), (x - 5, y + 26), fill="#92400e")
    c.circle(x, y - 6, 18, fill="#16a34a")

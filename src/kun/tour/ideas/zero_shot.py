"""§ 13, zero-shot: a zebra that was never seen, by its attributes; classes of texts by their descriptions."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.evaluation.zero_shot.classify import classify
from kun.evaluation.zero_shot.labels import Labels
from kun.settings import DEFAULT_ENCODER
from kun.tour.drawings.canvas import Canvas, Label, Language
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small.training import fit, seeded

_SIDE = 24
_BODIES: tuple[Label, ...] = (("horse-like", "像马"), ("cat-like", "像猫"), ("bear-like", "像熊"))
_COATS: tuple[Label, ...] = (("plain", "纯色"), ("striped", "条纹"), ("patched", "斑块"))
_COLOURS: tuple[Label, ...] = (("brown", "棕"), ("orange", "橙"), ("black and white", "黑白"))
_INKS = (
    ((0.55, 0.35, 0.2), (0.4, 0.25, 0.12)),
    ((0.95, 0.6, 0.1), (0.3, 0.15, 0.05)),
    ((0.95, 0.95, 0.95), (0.05, 0.05, 0.05)),
)


@dataclass(frozen=True)
class Animal:
    """A kind of animal by its three attributes: numbers of a body, a coat and a colour."""

    name: Label
    attributes: tuple[int, int, int]


HORSE, TIGER, PANDA = (
    Animal(("horse", "马"), (0, 0, 0)),
    Animal(("tiger", "虎"), (1, 1, 1)),
    Animal(("panda", "熊猫"), (2, 2, 2)),
)
SEEN = (
    HORSE,
    TIGER,
    PANDA,
    Animal(("lion", "狮"), (1, 0, 1)),
    Animal(("bear", "熊"), (2, 0, 0)),
    Animal(("jaguar", "美洲豹"), (1, 2, 1)),
    Animal(("pinto", "花马"), (0, 2, 0)),
    Animal(("tabby", "虎斑猫"), (1, 1, 0)),
    Animal(("white cat", "白猫"), (1, 0, 2)),
    Animal(("boar piglet", "小野猪"), (2, 1, 0)),
)
ZEBRA = Animal(("zebra", "斑马"), (0, 1, 2))


def _picture(animal: Animal, rng: random.Random) -> Tensor:
    """Pixels [3, side, side] of one animal, at a place and of a size of chance."""
    body, coat, colour = animal.attributes
    y, x = torch.meshgrid(torch.arange(_SIDE), torch.arange(_SIDE), indexing="ij")
    left, top = rng.randint(2, 5), rng.randint(3, 7)
    long, tall = ((14, 5), (15, 4), (12, 10))[body]
    legs = (8, 3, 3)[body]
    mask = (x >= left) & (x < left + long) & (y >= top) & (y < top + tall)
    for place in (1, 4, long - 5, long - 2):
        mask |= (x >= left + place) & (x < left + place + 2) & (y >= top) & (y < top + tall + legs)
    if body == 0:  # a neck, a tail, a round head
        mask |= (x >= left + long - 3) & (x < left + long) & (y >= top - 3) & (y < top)
    elif body == 1:
        mask |= (x >= left - 2) & (x < left) & (y >= top - 1) & (y < top + 2)
    else:
        mask |= ((x - left - long) ** 2 + (y - top - 2) ** 2) <= 9
    shift = rng.randint(0, 3)
    second = (torch.zeros_like(mask), (x + shift) % 4 < 2, ((x + shift) // 4 + y // 4) % 2 == 0)[coat]
    pixels = torch.ones(3, _SIDE, _SIDE) * 0.75
    for where, ink in ((mask & ~second, _INKS[colour][0]), (mask & second, _INKS[colour][1])):
        pixels = torch.where(where, torch.tensor(ink)[:, None, None], pixels)
    return pixels + 0.05 * torch.randn(3, _SIDE, _SIDE)


class _Attributes(nn.Module):
    """Body from where the edges of a picture [n, 3, side, side] lie, coat from what they are like, colour from pixels.

    Coat and colour see no places, so that neither can be guessed from the body that it always came with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.texture = nn.Sequential(nn.Conv2d(2, 16, 5), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU())
        self.pixels = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(size, 3) for size in (32 * (_SIDE // 4) ** 2, 32, 32))

    def forward(self, pictures: Tensor) -> Tensor:
        """Log-probabilities [n, 3 attributes, 3 values]."""
        edges = _edges(pictures)
        coat, colour = (
            F.layer_norm(part.mean((2, 3)), (32,)) for part in (self.texture(edges), self.pixels(pictures))
        )
        seen = (self.eye(edges), coat, colour)
        found = [head(part) for head, part in zip(self.heads, seen, strict=True)]
        return torch.stack(found, dim=1).log_softmax(-1)


def _edges(pictures: Tensor) -> Tensor:
    """Differences of brightness to the right and downwards [n, 2, side, side], the largest of a picture 1."""
    grey = pictures.mean(1)
    right = F.pad((grey[:, :, 1:] - grey[:, :, :-1]).abs(), (0, 1))
    down = F.pad((grey[:, 1:] - grey[:, :-1]).abs(), (0, 0, 0, 1))
    both = torch.stack((right, down), dim=1)
    return both / both.amax((1, 2, 3), keepdim=True)


def _zebra(session: Session) -> Shown:
    """Attributes learned from other animals name one that was never shown."""
    del session
    with seeded(0):
        rng = random.Random(0)
        shown = [(animal, _picture(animal, rng)) for animal in SEEN for _ in range(40)]
        pictures = torch.stack([picture for _, picture in shown])
        wanted = torch.tensor([animal.attributes for animal, _ in shown])
        net = _Attributes()

        def loss(step: int) -> Tensor:
            some = torch.randint(len(pictures), (48,), generator=torch.Generator().manual_seed(step))
            return F.nll_loss(net(pictures[some]).flatten(0, 1), wanted[some].flatten())

        fit(net.parameters(), loss, 250, 5e-3)
        unseen = torch.stack([_picture(ZEBRA, rng) for _ in range(50)])
        with torch.no_grad():
            found = net(unseen)
    classes = (*SEEN, ZEBRA)
    scores = torch.stack(
        [found[:, torch.arange(3), list(one.attributes)].sum(-1) for one in classes], dim=-1
    )  # Lampert et al., 2009: the class whose attributes are likeliest
    right = float((scores.argmax(-1) == len(SEEN)).float().mean())
    shares = found.exp().mean(0)
    parts = (("body", "体形", _BODIES), ("coat", "毛皮", _COATS), ("colour", "颜色", _COLOURS))
    rows = [
        (
            (english, chinese),
            names[ZEBRA.attributes[part]],
            f"{float(shares[part, ZEBRA.attributes[part]]):.2f}",
        )
        for part, (english, chinese, names) in enumerate(parts)
    ]

    def draw(language: Language) -> str:
        return _drawn(
            language,
            [(animal, _picture(animal, random.Random(1))) for animal in (HORSE, TIGER, PANDA, ZEBRA)],
        )

    return Shown(
        right > 0.8,
        (
            f"Trained on {len(SEEN)} kinds, a zebra never among them. Told that it has a horse's body, a "
            f"tiger's stripes and a panda's black and white, the network names {right:.0%} of 50 zebras, "
            f"among {len(classes)} kinds.",
            f"用 {len(SEEN)} 种动物训练，没有斑马。只告诉它：斑马身体像马，条纹像虎，黑白像熊猫；50 "
            f"张斑马图里，它在 {len(classes)} 种动物中认对 {right:.0%}。",
        ),
        Table((("attribute", "属性"), ("the zebra's", "斑马的"), ("probability", "概率")), rows),
        draw,
    )


def _drawn(language: Language, shown: list[tuple[Animal, Tensor]]) -> str:
    c = Canvas(
        20 + 150 * len(shown), 180, ("Horse, tiger, panda, and the zebra", "马、虎、熊猫和斑马"), language
    )
    for column, (animal, picture) in enumerate(shown):
        cells: dict[str, list[tuple[float, float]]] = {}
        for y in range(_SIDE):
            for x in range(_SIDE):
                levels = [round(15 * max(0.0, min(1.0, value))) for value in picture[:, y, x].tolist()]
                cells.setdefault("#" + "".join(f"{level:x}" for level in levels), []).append((x, y))
        for fill, places in cells.items():
            c.cells([(10 + 150 * column + 5 * x, 14 + 5 * y) for x, y in places], 5, 5, fill=fill)
        c.text(70 + 150 * column, 154, animal.name)
    return c.svg()


_LABELS: dict[Label, str] = {
    ("sport", "体育"): "a text about sport, matches and athletes",
    ("food", "美食"): "a text about food, cooking and restaurants",
    ("money", "财经"): "a text about money, banks and markets",
    ("weather", "天气"): "a text about the weather, rain and sunshine",
}
_TEXTS = (
    ("She won the final in straight sets.", 0),
    ("Simmer the lentils for twenty minutes.", 1),
    ("The central bank raised interest rates again.", 2),
    ("Heavy showers are expected over the hills tonight.", 3),
    ("守门员在最后一分钟扑出点球。", 0),
    ("这家面馆的牛肉汤熬了八个小时。", 1),
    ("股市今天收盘上涨了百分之二。", 2),
    ("台风明天上午登陆，沿海有大雨。", 3),
)


_IN_README = ("The film was dull.", "这部电影很无聊。")
"""The opinions that README's commands show."""
_OPINIONS = (
    ("The plot is clever and the cast superb.", 0),
    ("I want my two hours back.", 1),
    ("A warm, funny film that I will see again.", 0),
    (_IN_README[0], 1),
    ("演员演得太好了，看得我热泪盈眶。", 0),
    (_IN_README[1], 1),
    ("剧情拖沓，看到一半就睡着了。", 1),
    ("房间干净，服务热情，下次还住这里。", 0),
    ("又贵又难吃，再也不来了。", 1),
)


def _described(session: Session) -> Shown:
    """Classes that nothing was trained for, told in a sentence each, in either language."""
    names = {name[0]: name for name in _LABELS}
    labels = Labels.of({name[0]: described for name, described in _LABELS.items()})
    wanted = [list(names)[label] for _, label in _TEXTS]
    found = classify(session.encoder(DEFAULT_ENCODER), [text for text, _ in _TEXTS], labels)
    right = sum(one.label == label for one, label in zip(found, wanted, strict=True))
    rows = [
        (text, names[str(one.label)], f"{one.score:.2f}")
        for (text, _), one in zip(_TEXTS, found, strict=True)
    ]
    return Shown(
        right >= len(_TEXTS) - 1,
        (
            f"{right} of {len(_TEXTS)} texts in two languages lie nearest the description of their class, "
            f"which nothing was trained for.",
            f"两种语言的 {len(_TEXTS)} 条文本，{right} 条离自己类别的描述最近，没有为此训练过。",
        ),
        Table((("text", "文本"), ("nearest", "最近的类别"), ("probability", "概率")), rows),
    )


def _judged(session: Session) -> Shown:
    """Opinions by two words alone, positive and negative, in the words of the text's language."""
    encoder = session.encoder(DEFAULT_ENCODER)
    rows, right = [], set[str]()
    for names in (("positive", "negative"), ("正面", "负面")):
        asked = [pair for pair in _OPINIONS if pair[0].isascii() == names[0].isascii()]
        found = classify(encoder, [text for text, _ in asked], Labels.of(names))
        right |= {
            text for one, (text, wanted) in zip(found, asked, strict=True) if one.label == names[wanted]
        }
        rows += [
            (text, str(one.label), f"{one.score:.2f}", "✓" if text in right else "✗")
            for one, (text, _) in zip(found, asked, strict=True)
        ]
    return Shown(
        right.issuperset(_IN_README) and len(right) >= 0.7 * len(_OPINIONS),
        (
            f"{encoder.name}, never trained on opinions, judges {len(right)} of {len(_OPINIONS)} rightly by the names "
            f"of the classes alone.",
            f"{encoder.name} 没有为情感训练过，只凭类别的名字，{len(_OPINIONS)} 条判对 {len(right)} 条。",
        ),
        Table((("text", "文本"), ("class", "类别"), ("probability", "概率"), ("right", "对错")), rows),
    )


IDEA = Idea(
    number=13,
    title=("Zero-shot learning", "零样本"),
    examples=(
        Example(("a zebra by its attributes", "靠属性认出斑马"), _zebra),
        Example(
            ("classes of texts by their descriptions", "靠描述给文本分类"), _described, (DEFAULT_ENCODER,)
        ),
        Example(
            ("opinions by the names of the classes", "凭类别的名字判断情感"), _judged, (DEFAULT_ENCODER,)
        ),
    ),
    see=(
        f'`kun classify "{_IN_README[0]}" --labels "positive,negative"` ([page](docs/en/classifying.md))',
        f'`kun classify "{_IN_README[1]}" --labels "正面,负面"`（[文档](docs/zh/classifying.md)）',
    ),
    comes=(
        "a zebra that was never shown, named by its attributes; texts in classes that nothing was trained "
        "for",
        "靠属性认出从没见过的斑马；没训练过的文本类别",
    ),
    sources=(
        "Lampert et al., CVPR 2009",
        "Yin et al., arXiv:1909.00161",
        "Radford et al. (CLIP), arXiv:2103.00020",
    ),
    drawings=(),
    later=("CLIP on pictures and sentences.", "CLIP：图片与句子。"),
)

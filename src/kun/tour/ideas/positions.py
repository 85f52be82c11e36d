"""§ 16, positions: 1, 2, 3; sinusoids that all differ and from which offsets can be recovered; learned tables."""

import torch

from kun.families.gpt.config import PRESETS
from kun.families.transformer import TransformerConfig
from kun.inspection.positions import places
from kun.tour import charts
from kun.tour.drawings.canvas import Language
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small import networks, world


def _numbered(session: Session) -> Shown:
    """I love AI: 1, 2, 3."""
    del session
    words = "I love AI".split()
    table = places("index", 3).table[:, 0].tolist()
    pairs = ", ".join(f"{word} {number:.0f}" for word, number in zip(words, table, strict=True))
    return Shown(
        table == [1.0, 2.0, 3.0],
        (f"{pairs}: the simplest position is a number.", f"{pairs}：最简单的位置就是编号。"),
    )


def _sinusoids(session: Session) -> Shown:
    """Every place differs, and every offset is one linear map."""
    del session
    seen = places("sinusoidal", 64, 64)
    nearest, shift = seen.facts["nearest"], seen.facts["shift"]
    long = places("sinusoidal", 512, 512).facts

    def draw(language: Language) -> str:
        title = ("Sinusoids: 64 places, 64 dimensions", "正弦编码：64 个位置，64 维")
        values = ((seen.table + 1) / 2).tolist()
        numbers = [(str(place), str(place)) for place in range(64)]
        return charts.grid(language, title, numbers, numbers, values)

    return Shown(
        min(nearest, long["nearest"]) > 0.1 and max(shift, long["shift"]) < 1e-4,
        (
            f"The nearest two of 64 places lie {nearest:.2f} apart, of 512 places {long['nearest']:.2f}: "
            f"all differ. One rotation by the offset alone leads from each place to the one so far on, to "
            f"{max(shift, long['shift']):.0e}: offsets are recoverable.",
            f"64 个位置里最近的两个相距 {nearest:.2f}，512 个里 {long['nearest']:.2f}：处处不同。"
            f"只由间隔决定的一个旋转，把每个位置变成相隔那么远的位置，误差 "
            f"{max(shift, long['shift']):.0e}：间隔可以还原。",
        ),
        picture=draw,
    )


def _learned(session: Session) -> Shown:
    """GPT has a table of positions among its weights; the Transformer has none to learn."""
    net = session.once(networks.pretrained).net
    rows = world.rows(["Anna went to the river ."])
    turned = networks.copied(net)
    with torch.no_grad():
        turned.positions.weight[:6] = net.positions.weight[:6].flip(0)
        moved = float((turned(rows).logits - net(rows).logits).abs().max())
    gpt = PRESETS["gpt2"]
    return Shown(
        moved > 0.1,
        (
            f"GPT-2 learns {gpt.max_positions} × {gpt.d_model} = {gpt.max_positions * gpt.d_model:,} "
            f"numbers of position; the Transformer of {TransformerConfig().d_model} computes its "
            f"sinusoids. Exchanging learned rows changes the small GPT's logits by {moved:.1f}.",
            f"GPT-2 的位置是学出来的：{gpt.max_positions} × {gpt.d_model} = "
            f"{gpt.max_positions * gpt.d_model:,} 个数；{TransformerConfig().d_model} 维的 Transformer "
            f"则用公式算正弦。交换小 GPT 的位置行，logits 变化 {moved:.1f}。",
        ),
    )


def _relative(session: Session) -> Shown:
    """Rotary, relative and ALiBi: a score depends on the distance alone."""
    del session
    facts = {kind: places(kind, 64, 64).facts["offset"] for kind in ("rotary", "relative", "alibi")}
    return Shown(
        max(facts.values()) < 1e-3,
        (
            f"Moving query and key together changes a score by at most {max(facts.values()):.0e} in RoPE, "
            f"T5's buckets and ALiBi.",
            f"查询和键一起移动，RoPE、T5 的分桶和 ALiBi 的分数最多变化 {max(facts.values()):.0e}。",
        ),
        Table(
            (("kind", "种类"), ("change", "变化")), [(kind, f"{value:.0e}") for kind, value in facts.items()]
        ),
    )


IDEA = Idea(
    number=16,
    title=("Positions", "位置编码"),
    examples=(
        Example(("I love AI: 1, 2, 3", "I love AI 的 1、2、3"), _numbered),
        Example(("sinusoids: all differ, offsets recoverable", "正弦编码：处处不同，间隔可还原"), _sinusoids),
        Example(("GPT learns its positions", "GPT 的位置是学出来的"), _learned),
        Example(("positions that know distance alone", "只看距离的位置编码"), _relative),
    ),
    see=("`kun inspect positions --picture places.png`", "`kun inspect positions --picture places.png`"),
    comes=(
        "“I love AI” with 1, 2, 3; sinusoids that all differ, offsets recovered; index, sinusoids, rotary, "
        "relative, ALiBi as heat maps",
        "“I love AI” 的 1、2、3；处处不同、间隔可还原的正弦编码；编号、正弦、旋转、相对、ALiBi 的热力图",
    ),
    sources=(
        "Vaswani et al., arXiv:1706.03762; Shaw et al., arXiv:1803.02155",
        "Press et al. (ALiBi), arXiv:2108.12409; Su et al. (RoPE), arXiv:2104.09864",
    ),
)

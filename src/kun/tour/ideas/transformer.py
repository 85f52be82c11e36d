"""§ 1, the Transformer: self-attention, order, encoder and decoder, gradients through depth, the LSTM before it."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from kun.adaptation.ablation import ablate
from kun.blocks.attention import attend
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.families.lstm import LSTM, LSTMConfig
from kun.families.transformer import Transformer, TransformerConfig
from kun.objectives.depth import gradient_norms
from kun.objectives.recall import recalled, tokens_per_second
from kun.tour import charts
from kun.tour.drawings.canvas import Label, Language, Point
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small.recall import read_readers
from kun.tour.small.training import fit, seeded

_D = 64
_DEEP, _WIDTH = 24, 64
_DIGITS = "零一二三四五六七八九"
_START, _VOCABULARY, _SPELLED, _LONGEST = 20, 21, 10, 7


def _divided(session: Session) -> Shown:
    """The house's attention against softmax(q k / √d) v, and what becomes of the weights without the division."""
    del session
    with seeded(0):
        q, k, v = (torch.randn(1, 64, 1, _D) for _ in range(3))
    mixed = attend(q, k, v)[0, :, 0]
    products = q[0, :, 0] @ k[0, :, 0].T
    weights = (products / math.sqrt(_D)).softmax(-1)
    error = float((weights @ v[0, :, 0] - mixed).abs().max())
    spread = float(products.var())
    largest, undivided = (float(some.max(-1).values.mean()) for some in (weights, products.softmax(-1)))
    ok = error < 1e-5 and 0.7 * _D < spread < 1.4 * _D and undivided > 3 * largest
    return Shown(
        ok,
        (
            f"Products of {_D} numbers vary by {spread:.0f}. Divided by √{_D} = {math.sqrt(_D):.0f} the "
            f"largest of 64 weights is {largest:.2f} on average, undivided {undivided:.2f}: nearly all on "
            f"one word. Largest difference to the formula: {error:.0e}.",
            f"{_D} 维的点积方差为 {spread:.0f}。除以 √{_D} = {math.sqrt(_D):.0f} 后，64 个权重里最大的平均 "
            f"{largest:.2f}；不除则是 {undivided:.2f}，几乎全压在一个词上。与公式的最大误差 {error:.0e}。",
        ),
    )


def _order(session: Session) -> Shown:
    """Attention alone sees a bag of words; positions make it an order."""
    del session
    with seeded(1):
        x = torch.randn(1, 6, _D)
        places = torch.randn(6, _D)
        q, k, v = (nn.Linear(_D, _D, bias=False) for _ in range(3))
    turned = torch.tensor([5, 3, 1, 0, 2, 4])

    def read(states: Tensor) -> Tensor:
        return attend(*(part(states)[:, :, None] for part in (q, k, v)))[0, :, 0]

    with torch.no_grad():
        plain = float((read(x)[turned] - read(x[:, turned])).abs().max())
        placed = float((read(x + places)[turned] - read(x[:, turned] + places)).abs().max())
    return Shown(
        plain < 1e-5 and placed > 0.05,
        (
            f"Shuffle six words: without positions each word's result stays the same (difference "
            f"{plain:.0e}), with positions it changes (by {placed:.2f}).",
            f"打乱六个词：没有位置时，每个词的结果不变（相差 {plain:.0e}）；加上位置，结果就变了（相差 "
            f"{placed:.2f}）。",
        ),
    )


def _translated(session: Session) -> Shown:
    """An encoder-decoder that learns to write digits in Chinese from the last to the first, and its two attentions."""
    del session
    with seeded(0):
        net = Transformer(_spelling())
        fit(net.parameters(), lambda step: _spelling_loss(net, *_numbers(96, step)), 260, 2e-3)
        net.eval()
        source, target = _numbers(200, 10_000)
        written = _written_by(net, source)
        right = float((written == target).all(-1).float().mean())
        later = target.clone()
        later[:, -2] = (later[:, -2] - _SPELLED + 1) % 10 + _SPELLED  # the last that the decoder reads
        other = (source + 1) % 10
        with torch.no_grad():
            before = _read(net, source, target)[:, :-1]
            blind = float((before - _read(net, source, later)[:, :-1]).abs().max())
            crossed = float((before - _read(net, other, target)[:, :-1]).abs().max())
    asked = "".join(map(str, source[0].tolist()))
    said = "".join(_DIGITS[token - _SPELLED] if 9 < token < 20 else "?" for token in written[0].tolist())
    return Shown(
        right > 0.9 and blind < 1e-4 < crossed,
        (
            f"{asked} → {said}: {right:.0%} of 200 numbers that it never saw are written backwards in "
            f"Chinese digits. A later target word changes nothing before it ({blind:.0e}); another source "
            f"does (by {crossed:.1f}): cross-attention.",
            f"{asked} → {said}：200 个没见过的数，{right:.0%} 能倒着写成中文数字。改动后面的译文，"
            f"前面不变（{blind:.0e}）；换一个源句就变了（{crossed:.1f}），靠的是交叉注意力。",
        ),
    )


def _spelling() -> TransformerConfig:
    return TransformerConfig(
        vocab_size=_VOCABULARY,
        d_model=64,
        n_layers=2,
        n_decoder_layers=2,
        n_heads=4,
        n_decoder_heads=4,
        d_ff=128,
        d_decoder_ff=128,
        max_positions=16,
        dropout=0.0,
        start_token=_START,
    )


def _numbers(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Digits [n, 7], and the same from the last to the first as Chinese ones."""
    digits = torch.randint(10, (count, _LONGEST), generator=torch.Generator().manual_seed(seed))
    return digits, digits.flip(-1) + _SPELLED


def _read(net: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """Logits [n, t, vocabulary] for the target, of which each place sees what stands before it."""
    return net(source, decoder_input_ids=F.pad(target[:, :-1], (1, 0), value=_START)).logits


def _spelling_loss(net: Transformer, source: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(_read(net, source, target).flatten(0, 1), target.flatten())


@torch.no_grad()
def _written_by(net: Transformer, source: Tensor) -> Tensor:
    written = torch.zeros_like(source)
    for place in range(source.shape[1]):
        written[:, place] = _read(net, source, written)[:, place].argmax(-1)
    return written


def _gradients(session: Session) -> Shown:
    """The gradient's norm at each of 24 layers, with and without residual connections and norms."""
    del session
    kinds: dict[Label, tuple[bool, bool]] = {
        ("residuals and norms", "残差和归一化"): (True, True),
        ("norms alone", "只有归一化"): (False, True),
        ("residuals alone", "只有残差"): (True, False),
        ("neither", "都没有"): (False, False),
    }
    found = {name: _norms(residuals=residuals, norms=norms) for name, (residuals, norms) in kinds.items()}
    both, neither = (found[name][0] / found[name][-1] for name in (next(iter(kinds)), list(kinds)[-1]))
    curves: dict[Label, list[Point]] = {
        name: [(layer, max(norm, 1e-30)) for layer, norm in enumerate(norms, 1)]
        for name, norms in found.items()
    }

    def draw(language: Language) -> str:
        title = ("Gradient norm by layer, 24 layers", "24 层网络各层的梯度范数")
        return charts.lines(language, title, ("layer", "层"), ("norm", "范数"), curves, log=True)

    return Shown(
        0.05 < both < 20 and neither < 1e-6,
        (
            f"In 24 layers the first layer's gradient is {both:.2g} times the last one's with residuals "
            f"and norms, and {neither:.0e} times without.",
            f"24 层网络里，有残差和归一化时，第一层的梯度是最后一层的 {both:.2g} 倍；都没有时只有 "
            f"{neither:.0e} 倍。",
        ),
        picture=draw,
    )


def _norms(*, residuals: bool, norms: bool) -> list[float]:
    """Norms of the loss's gradient by the weights of each layer, in a fresh network."""
    with seeded(0):
        config = GPTConfig(
            vocab_size=64, d_model=_WIDTH, n_layers=_DEEP, n_heads=4, d_ff=4 * _WIDTH, max_positions=32
        )
        net = GPT(replace(config, dropout=0.0, embedding_dropout=0.0, attention_dropout=0.0))
        ablate(net, residuals=residuals, norms=norms)
        for weight in net.layers.parameters():
            if weight.dim() == 2:
                nn.init.xavier_normal_(weight)
        read, wanted = torch.randint(64, (2, 8, 32))
        return gradient_norms(net, {"input_ids": read, "labels": wanted})


def _speeds(session: Session) -> Shown:
    """Tokens a second in training, by length, and how many products of matrices one forward pass is made of.

    An LSTM goes through the tokens one by one, a Transformer through all at once. What that is worth depends on the
    machine and on what else it does; how many products wait for each other does not.
    """
    del session
    lengths = (64, 256, 512)
    with seeded(0):
        lstm = LSTM(LSTMConfig(vocab_size=256, d_model=324, n_layers=2, dropout=0.0))
        gpt = GPT(
            GPTConfig(
                vocab_size=256, d_model=256, n_layers=2, n_heads=4, d_ff=1024, max_positions=512,
                dropout=0.0, embedding_dropout=0.0, attention_dropout=0.0,
            )
        )  # fmt: skip
    sizes = [sum(weight.numel() for weight in net.parameters()) for net in (gpt, lstm)]
    rates = [[tokens_per_second(net, length) for length in lengths] for net in (gpt, lstm)]
    products = [[_products(net, length) for length in lengths] for net in (gpt, lstm)]
    names: list[Label] = [("Transformer", "Transformer"), ("LSTM", "LSTM")]
    curves: dict[Label, list[Point]] = {
        name: [(length, value) for length, value in zip(lengths, rate, strict=True)]
        for name, rate in zip(names, rates, strict=True)
    }
    rows = [
        (
            f"{length}",
            *(f"{rate[place]:,.0f}" for rate in rates),
            *(f"{count[place]:,}" for count in products),
        )
        for place, length in enumerate(lengths)
    ]

    def draw(language: Language) -> str:
        title = ("Tokens a second in training", "训练时每秒处理的词元")
        return charts.lines(language, title, ("length", "长度"), ("tokens/s", "词元/秒"), curves)

    (few, *_, as_few), (_, *_, many) = products
    return Shown(
        few == as_few and many >= lengths[-1] * lstm.config.n_layers,
        (
            f"Of {sizes[0]:,} and {sizes[1]:,} parameters: on a text of 512 tokens the Transformer computes "
            f"{as_few} products of matrices, as many as on 64; the LSTM {many:,}, most of them waiting for another. "
            f"Here, now, the one trains {rates[0][2]:,.0f} tokens a second and the other {rates[1][2]:,.0f}: the more "
            f"a machine can do at once, the more that is worth.",
            f"参数分别为 {sizes[0]:,} 和 {sizes[1]:,}：一段 512 个词元的文本，Transformer 要算 {as_few} 次"
            f"矩阵乘法，和 64 个词元时一样多；LSTM 要算 {many:,} 次，大多要等另一次算完。"
            f"此时此机，前者每秒训练 {rates[0][2]:,.0f} 个词元，后者 {rates[1][2]:,.0f} 个："
            "机器能同时做的事越多，这一点就越值。",
        ),
        Table(
            (
                ("length", "长度"),
                *((f"{name[0]}: tokens/s", f"{name[1]}：词元/秒") for name in names),
                *((f"{name[0]}: products", f"{name[1]}：乘法") for name in names),
            ),
            rows,
        ),
        draw,
    )


class _Counter(TorchDispatchMode):
    """Counts products of matrices while it is entered."""

    count = 0

    def __torch_dispatch__(
        self,
        func: OpOverload[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        self.count += func.overloadpacket in _PRODUCTS
        return func(*args, **(kwargs or {}))


_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm)


@torch.no_grad()
def _products(net: nn.Module, length: int) -> int:
    """How many products of matrices a forward pass over one text of so many tokens takes."""
    # fused, an LSTM's whole loop is one operation and attention another, in which they cannot be seen
    with (
        warnings.catch_warnings(action="ignore"),
        torch.backends.mkldnn.flags(enabled=False),
        sdpa_kernel(SDPBackend.MATH),
        _Counter() as counter,
    ):
        net(torch.zeros(1, length, dtype=torch.long))
    return counter.count


_DISTANCES = (10, 30, 100, 300, 500)


def _recall(session: Session) -> Shown:
    """What a key stood for 10 to 500 tokens ago, asked of two trained networks of equal size."""
    del session
    with seeded(0):
        nets = read_readers()
        found = {name: [recalled(net, distance) for distance in _DISTANCES] for name, net in nets.items()}
    transformer, lstm = found["recall-transformer"], found["recall-lstm"]
    curves: dict[Label, list[Point]] = {
        (name, name): list(zip(map(float, _DISTANCES), shares, strict=True))
        for name, shares in (("Transformer", transformer), ("LSTM", lstm))
    }
    rows = [
        (str(distance), f"{transformer[place]:.2f}", f"{lstm[place]:.2f}")
        for place, distance in enumerate(_DISTANCES)
    ]

    def draw(language: Language) -> str:
        title = ("Recall by distance", "隔多远还记得")
        return charts.lines(language, title, ("tokens ago", "隔多少词元"), ("share", "比例"), curves)

    return Shown(
        min(transformer) >= 0.95,
        (
            f"Eight keys get values; asked what one stood for 500 tokens ago, the Transformer is right in "
            f"{transformer[-1]:.0%} of cases, an LSTM of equal size, trained on the same rows for as many "
            f"steps, in {lstm[-1]:.0%}; one of sixteen is chance. From 10 tokens ago: {transformer[0]:.0%} "
            f"and {lstm[0]:.0%}.",
            f"八个键各有一个值；问 500 个词元以前某个键对应什么，Transformer 答对 {transformer[-1]:.0%}，"
            f"同样大小、同样数据、同样步数的 LSTM {lstm[-1]:.0%}；瞎猜是十六分之一。隔 10 个词元："
            f"{transformer[0]:.0%} 和 {lstm[0]:.0%}。",
        ),
        Table((("tokens ago", "隔多少词元"), ("Transformer", "Transformer"), ("LSTM", "LSTM")), rows),
        draw,
    )


IDEA = Idea(
    number=1,
    title=("The Transformer", "Transformer"),
    examples=(
        Example(("attention divides by √d", "注意力要除以 √d"), _divided),
        Example(("positions make an order of a bag of words", "位置让一袋词有了顺序"), _order),
        Example(("encoder and decoder translate", "编码器和解码器做翻译"), _translated),
        Example(("gradients through 24 layers", "梯度穿过 24 层"), _gradients),
        Example(("parallel against serial: an LSTM", "并行与串行：LSTM"), _speeds),
        Example(("recall over a distance: an LSTM", "隔着距离的记忆：LSTM"), _recall),
    ),
    see=(
        "`kun inspect positions`; `kun train examples/recipes/translate.toml`; [why the "
        "Transformer](docs/en/why-the-transformer.md): `kun train examples/recipes/recall.toml`, `depth.toml`",
        "`kun inspect positions`；`kun train examples/recipes/translate.toml`；[为什么是 "
        "Transformer](docs/zh/why-the-transformer.md)：`kun train examples/recipes/recall.toml`、`depth.toml`",
    ),
    comes=(
        "attention by its formula, order from positions, a translator, gradients through 24 layers with "
        "and without residuals and norms, tokens a second and recall over a distance against an LSTM",
        "按公式算出的注意力，位置带来的顺序，一个翻译模型，有无残差和归一化时 24 层的梯度，与 LSTM "
        "比每秒词元数和隔着距离的记忆",
    ),
    sources=(
        "Vaswani et al., “Attention Is All You Need”, arXiv:1706.03762",
        "Hochreiter and Schmidhuber, “Long Short-Term Memory”, Neural Computation, 1997",
    ),
    drawings=("transformer",),
)

"""§ 5, large models: sizes recomputed from configs, optimizers, regularization, experts, parallelism."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from kun.blocks.experts import ExpertList, mix, top1
from kun.blocks.feed_forward import FeedForward
from kun.families import family_of
from kun.families.gpt.gpt import GPT
from kun.families.switch.gshard_config import GShardConfig
from kun.families.switch.switch_config import SwitchConfig
from kun.networks.family import Family
from kun.networks.network import NetworkConfig
from kun.tour import charts
from kun.tour.drawings.canvas import Label, Language, Point
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.tour.small import networks, world
from kun.tour.small.training import fit, seeded
from kun.training.optimizers import Optimizer
from kun.training.tables import OptimizerTable


@dataclass(frozen=True)
class Size:
    """One published size: its preset's family and name, the paper's parameters in millions, what is often said."""

    family: str
    preset: str
    shown: str
    published: float
    often: Label = ("", "")


SIZES = (
    Size("openai-gpt", "gpt", "GPT-1", 117),
    Size("gpt2", "gpt2-xl", "GPT-2", 1542),
    Size("gpt_neo", "gpt3-175b", "GPT-3", 175_000),
    Size("bert", "bert-base-uncased", "BERT base", 110, ("340M", "3.4 亿")),
    Size("bert", "bert-large-uncased", "BERT large", 340, ("1.1B, 3.3B", "11 亿、33 亿")),
    Size("roberta", "roberta-base", "RoBERTa base", 125),
    Size("roberta", "roberta-large", "RoBERTa large", 355, ("2.7B", "27 亿")),
    Size("t5", "t5-small", "T5 small", 60),
    Size("t5", "t5-base", "T5 base", 220),
    Size("t5", "t5-large", "T5 large", 770),
    Size("t5", "t5-3b", "T5 3B", 2_800),
    Size("t5", "t5-11b", "T5 11B", 11_000, ("22B", "220 亿")),
    Size("xlnet", "xlnet-base-cased", "XLNet base", 110),
    Size("xlnet", "xlnet-large-cased", "XLNet large", 340, ("1.8B", "18 亿")),
    Size("nllb-moe", "gshard-600b", "GShard", 600_000, ("0.6B", "6 亿")),
    Size("switch_transformers", "switch-base-128", "Switch Base", 7_000, ("0.16B", "1.6 亿")),
    Size("switch_transformers", "switch-large-128", "Switch Large", 26_000),
    Size("switch_transformers", "switch-xxl-128", "Switch XXL", 395_000),
    Size("switch_transformers", "switch-c-2048", "Switch C", 1_600_000),
    Size("llama", "llama-7b", "LLaMA 7B", 6_700),
    Size("llama", "llama-65b", "LLaMA 65B", 65_200),
)
_TOLERANCE = 0.12
"""Papers round, and count heads, tables of positions and poolers or leave them out."""


def counted(size: Size) -> int:
    """Parameters of the network that this config makes; no memory is taken for them.

    All experts of a network are alike, so that two and three of them tell what any number comes to.
    """
    family: Family = family_of({"model_type": size.family})
    config = family.presets[size.preset]
    if not isinstance(config, SwitchConfig | GShardConfig):
        return _parameters(family, config)
    two, three = (_parameters(family, replace(config, n_experts=count)) for count in (2, 3))
    return two + (three - two) * (config.n_experts - 2)


def _parameters(family: Family, config: NetworkConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in family.network(config).parameters())


def _sizes(session: Session) -> Shown:
    """Parameters counted in the networks themselves, next to the papers' and to what is often said."""
    del session
    counts = [counted(size) for size in SIZES]
    off = [abs(count / (size.published * 1e6) - 1) for size, count in zip(SIZES, counts, strict=True)]
    rows = [
        (size.shown, _spoken(count), _spoken(size.published * 1e6), size.often)
        for size, count in zip(SIZES, counts, strict=True)
    ]
    return Shown(
        max(off) < _TOLERANCE,
        (
            f"{len(SIZES)} networks built from their configs have the papers' parameters, at most "
            f"{max(off):.0%} apart, as papers round and count differently.",
            f"按配置搭出 {len(SIZES)} 个网络，参数量与论文一致，最多差 {max(off):.0%}：论文取整，"
            f"计法也略有不同。",
        ),
        Table(
            (("model", "模型"), ("counted here", "这里数出"), ("paper", "论文"), ("often said", "常见说法")),
            rows,
        ),
    )


def _spoken(count: float) -> str:
    return f"{count / 1e9:,.1f} B" if count >= 1e9 else f"{count / 1e6:,.0f} M"


_RULES: tuple[tuple[Literal["sgd", "adamw", "muon"], float], ...] = (
    ("sgd", 0.3),
    ("adamw", 5e-3),
    ("muon", 5e-3),
)
"""Rules and their rates, each the best of those tried on this network."""
_STEPS = 120


def _optimizers(session: Session) -> Shown:
    """The same network and batches under three rules of update."""
    del session
    rows = world.rows(world.general(2000, 1))
    curves: dict[Label, list[Point]] = {}
    last = {}
    names = {"sgd": "SGD", "adamw": "AdamW", "muon": "Muon"}
    for rule, rate in _RULES:
        with seeded(0):
            net = GPT(networks.gpt_config())
            optimizer = Optimizer(net, OptimizerTable(name=rule, lr=rate, weight_decay=0.0))
            losses = []
            for step in range(_STEPS):
                loss = networks.next_word_loss(net, networks.picked(rows, step, 32))
                loss.backward()
                norm = torch.stack(
                    [slot.gradient.norm() for slot in optimizer.slots if slot.gradient is not None]
                ).norm()
                optimizer.step(min(1.0, (step + 1) / 10), norm)
                losses.append(float(loss.detach()))
        curves[names[rule], names[rule]] = [
            (step, sum(losses[step : step + 5]) / 5) for step in range(0, _STEPS - 4, 5)
        ]
        last[rule] = sum(losses[-10:]) / 10

    def draw(language: Language) -> str:
        title = ("Three rules of update, the same batches", "三种更新规则，同样的数据")
        return charts.lines(language, title, ("step", "步"), ("loss", "损失"), curves)

    return Shown(
        last["muon"] < min(last["adamw"], last["sgd"]) and max(last.values()) < 2,
        (
            f"Loss after {_STEPS} steps on the same batches: SGD {last['sgd']:.2f}, AdamW "
            f"{last['adamw']:.2f}, Muon {last['muon']:.2f}.",
            f"同样的数据走 {_STEPS} 步，损失：SGD {last['sgd']:.2f}，AdamW {last['adamw']:.2f}，Muon "
            f"{last['muon']:.2f}。",
        ),
        picture=draw,
    )


def _regularized(session: Session) -> Shown:
    """Held-out loss of a network that learns noisy labels by heart: plain, two remedies, and ten times the data."""
    del session
    plain, more = ("plain", "什么都不加"), ("ten times the data", "十倍数据")
    cases: dict[Label, tuple[int, float, float]] = {
        plain: (100, 0.0, 0.0),
        ("dropout 0.5", "dropout 0.5"): (100, 0.5, 0.0),
        ("weight decay 3", "权重衰减 3"): (100, 0.0, 3.0),
        more: (1000, 0.0, 0.0),
    }
    found = {name: _held_out(*case) for name, case in cases.items()}
    told = [
        (", ", "，")[side].join(f"{name[side]} {loss:.2f}" for name, loss in found.items()) for side in (0, 1)
    ]

    def draw(language: Language) -> str:
        return charts.bars(language, ("Held-out loss", "留出数据上的损失"), found)

    return Shown(
        all(loss < found[plain] for name, loss in found.items() if name != plain)
        and min(found, key=lambda name: found[name]) == more,
        (
            f"A network learns 100 noisy examples by heart; its loss on unseen ones: {told[0]}.",
            f"网络把 100 个带噪声的样本背了下来；没见过的样本上，损失：{told[1]}。",
        ),
        picture=draw,
    )


def _held_out(count: int, dropout: float, decay: float) -> float:
    """The loss on 1,000 examples of a small network that learned `count`; one label of six is wrong."""
    with seeded(0):
        true = torch.randn(40)

        def examples(number: int) -> tuple[torch.Tensor, torch.Tensor]:
            x = torch.randn(number, 40)
            wrong = torch.rand(number) < 1 / 6
            return x, ((x @ true > 0) ^ wrong).long()

        net = nn.Sequential(nn.Linear(40, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 2))
        (x, y), (unseen_x, unseen_y) = examples(count), examples(1000)
        fit(net.parameters(), lambda _: F.cross_entropy(net(x), y), 200, 3e-3, decay)
        net.eval()
        with torch.no_grad():
            return float(F.cross_entropy(net(unseen_x), unseen_y))


def _experts(session: Session) -> Shown:
    """A Switch layer: more parameters, one expert a token."""
    del session
    with seeded(0), torch.no_grad():
        x = torch.randn(512, 64)
        experts = ExpertList(FeedForward(64, 128, "relu") for _ in range(8))
        logits = nn.Linear(64, 8, bias=False)(x)
        routes = top1(logits)
        mixed = mix(x, routes, experts)
        share, chosen = logits.softmax(-1).max(-1)
        one_by_one = torch.stack([share[i] * experts[int(chosen[i])](x[i]) for i in range(len(x))])
    error = float((mixed - one_by_one).abs().max())
    counts = torch.bincount(chosen, minlength=8).tolist()
    every = sum(weight.numel() for weight in experts.parameters())
    return Shown(
        error < 1e-5 and min(counts) > 0,
        (
            f"8 experts hold {every:,} parameters, a token runs through {every // 8:,} of them. 512 tokens "
            f"went to {', '.join(map(str, counts))}; each token's result is its expert's (difference "
            f"{error:.0e}).",
            f"8 个专家共 {every:,} 个参数，每个词元只经过其中 {every // 8:,} 个。512 个词元分给各专家："
            f"{'、'.join(map(str, counts))}；结果正是该专家算的（相差 {error:.0e}）。",
        ),
    )


def _parallel(session: Session) -> Shown:
    """A batch in two halves, and a matrix in two halves: the same numbers as on one machine."""
    del session
    with seeded(0):
        net = FeedForward(64, 256, "relu")
        x, wanted = torch.randn(32, 64), torch.randn(32, 64)
        weight = net.up.weight

        def gradient(part: slice) -> torch.Tensor:
            return torch.autograd.grad(F.mse_loss(net(x[part]), wanted[part]), weight)[0]

        whole = gradient(slice(None))
        data = float(((gradient(slice(0, 16)) + gradient(slice(16, 32))) / 2 - whole).abs().max())
        with torch.no_grad():
            halves = [
                F.relu(F.linear(x, net.up.weight[cut], net.up.bias[cut] if net.up.bias is not None else None))
                @ net.down.weight[:, cut].T
                for cut in (slice(0, 128), slice(128, 256))
            ]
            joined = sum(halves, net.down.bias if net.down.bias is not None else torch.zeros(()))
            model = float((joined - net(x)).abs().max())
    return Shown(
        data < 1e-6 and model < 1e-5,
        (
            f"Data parallel: the mean of two halves' gradients is the whole batch's ({data:.0e} apart). "
            f"Model parallel: two halves of a layer's columns add up to the layer ({model:.0e} apart).",
            f"数据并行：两半数据的梯度取平均，就是整批的梯度（相差 {data:.0e}）。模型并行："
            f"一层按列切成两半，结果相加还是这一层（相差 {model:.0e}）。",
        ),
    )


_LABELS = (4, 10, 40)
_DRAWS = 8


def _foundation(session: Session) -> Shown:
    """Accuracy by number of labels: a frozen encoder that has read the web, and words counted from nothing."""
    texts, labels = _topics()
    known = torch.from_numpy(session.encoder("all-minilm-l6-v2").embed(texts))
    vocabulary = sorted({word for text in texts for word in text.split()})
    counts = torch.tensor([[float(word in text.split()) for word in vocabulary] for text in texts])
    names: dict[Label, torch.Tensor] = {
        ("a frozen foundation encoder", "冻结的基座编码器"): known,
        ("word counts from nothing", "从零开始数词"): F.normalize(counts, dim=-1),
    }
    found = {name: [_mean_accuracy(x, labels, shots) for shots in _LABELS] for name, x in names.items()}
    (encoder, plain) = found.values()
    told = [" ".join(f"{value:.0%}" for value in values) for values in (encoder, plain)]

    def draw(language: Language) -> str:
        title: Label = ("Accuracy by number of labels", "准确率与标签数")
        curves = {name: list(zip(_LABELS, values, strict=True)) for name, values in found.items()}
        return charts.lines(language, title, ("labels", "标签数"), ("accuracy", "准确率"), curves)

    return Shown(
        encoder[0] > 0.75 and all(a > b for a, b in zip(encoder, plain, strict=True)),
        (
            f"Food or weather, accuracy with {', '.join(map(str, _LABELS))} labels, mean of {_DRAWS} draws: "
            f"a frozen foundation encoder {told[0]}; word counts from nothing {told[1]}: they know a "
            f"word once they met it.",
            f"美食还是天气，{'、'.join(map(str, _LABELS))} 个标签时的准确率（{_DRAWS} 次抽样的平均）："
            f"冻结的基座编码器 {told[0]}；从零开始数词 {told[1]}：没见过的词，它不认识。",
        ),
        picture=draw,
    )


def _topics() -> tuple[list[str], torch.Tensor]:
    """Sentences on food or on weather, in which one word alone tells them apart."""
    food = "bread soup cheese salad rice noodles pie stew omelette porridge pasta curry".split()
    weather = "rain snow hail fog thunder sunshine wind frost drizzle sleet storm haze".split()
    forms = (
        "nobody expected {} today",
        "we talked about the {}",
        "again so much {}",
        "I remember the {} there",
    )
    pairs = [
        (form.format(word), label)
        for label, words in enumerate((food, weather))
        for word in words
        for form in forms
    ]
    return [text for text, _ in pairs], torch.tensor([label for _, label in pairs])


def _mean_accuracy(x: torch.Tensor, labels: torch.Tensor, shots: int) -> float:
    """The accuracy of a classifier over vectors [n, d] on all texts but the `shots` that it saw, half of each kind."""
    found = []
    for draw in range(_DRAWS):
        rng = random.Random(draw)
        learned = [
            place
            for kind in (0, 1)
            for place in rng.sample((labels == kind).nonzero()[:, 0].tolist(), shots // 2)
        ]
        asked = [place for place in range(len(labels)) if place not in learned]
        found.append(_probed(x, labels, learned, asked))
    return sum(found) / len(found)


def _probed(x: torch.Tensor, labels: torch.Tensor, learned: Sequence[int], asked: Sequence[int]) -> float:
    """The accuracy of a linear classifier over vectors [n, d]."""
    with seeded(0):
        head = nn.Linear(x.shape[1], 2)
        fit(
            head.parameters(),
            lambda _: F.cross_entropy(head(x[list(learned)]), labels[list(learned)]),
            200,
            0.05,
        )
        with torch.no_grad():
            return float((head(x[list(asked)]).argmax(-1) == labels[list(asked)]).float().mean())


IDEA = Idea(
    number=5,
    title=("Large models", "大模型"),
    examples=(
        Example(("sizes, counted", "大小，数出来的"), _sizes),
        Example(("SGD, AdamW and Muon", "SGD、AdamW 与 Muon"), _optimizers),
        Example(("dropout, weight decay, ten times the data", "dropout、权重衰减、十倍数据"), _regularized),
        Example(("one expert of many", "许多专家里的一个"), _experts),
        Example(("data parallel and model parallel", "数据并行与模型并行"), _parallel),
        Example(
            ("a foundation model against words from nothing", "基座与从零数词"),
            _foundation,
            ("all-minilm-l6-v2",),
        ),
    ),
    see=(
        "[BERT, RoBERTa, ERNIE](docs/en/families/bert.md), [T5](docs/en/families/t5.md), "
        "[XLNet](docs/en/families/xlnet.md), [Switch, GShard](docs/en/families/switch.md); `kun train "
        "examples/recipes/masked.toml`, `spans.toml`, `permutations.toml`, `optimizers.toml`, "
        "`regularization.toml`",
        "[BERT、RoBERTa、ERNIE](docs/zh/families/bert.md)、[T5](docs/zh/families/t5.md)、"
        "[XLNet](docs/zh/families/xlnet.md)、[Switch、GShard](docs/zh/families/switch.md)；`kun train "
        "examples/recipes/masked.toml`、`spans.toml`、`permutations.toml`、`optimizers.toml`、"
        "`regularization.toml`",
    ),
    comes=(
        "the papers' sizes counted in the networks; SGD, AdamW and Muon on one plot; held-out loss with "
        "dropout, weight decay, more data; experts; [many processes](docs/en/parallel.md)",
        "在网络里数出论文的大小；SGD、AdamW、Muon 画在一张图上；dropout、权重衰减、更多数据下的留出损失；"
        "专家；[多进程](docs/zh/parallel.md)",
    ),
    sources=(
        "BERT arXiv:1810.04805, RoBERTa arXiv:1907.11692, XLNet arXiv:1906.08237, T5 arXiv:1910.10683",
        "GShard arXiv:2006.16668, Switch arXiv:2101.03961, foundation models arXiv:2108.07258",
        "Adam arXiv:1412.6980, AdamW arXiv:1711.05101; Jordan et al., “Muon”, 2024",
    ),
    later=("Capability against scale.", "能力随规模的变化。"),
)

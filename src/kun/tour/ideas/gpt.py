"""§ 2, GPT: pretraining on the next word, then fine-tuning with few labels; and examples in the prompt instead."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.families.gpt.gpt import GPT
from kun.tour import charts
from kun.tour.drawings.canvas import Label, Language
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.likeliest import likeliest
from kun.tour.session import LANGUAGE_MODEL, Session
from kun.tour.small import networks, world
from kun.tour.small.training import fit, seeded

_LABELLED_LIKED, _LABELLED_DISLIKED = world.LIKED[:2], world.DISLIKED[:2]


def _next_word(session: Session) -> Shown:
    """The loss falls, and no word sees what comes after it."""
    trained = session.once(networks.pretrained)
    unread = world.general(400, 2)
    after = networks.perplexity(trained.net, unread)
    with seeded(0):
        before = networks.perplexity(GPT(networks.gpt_config()), unread)
    rows = world.rows(["Anna went to the river . In the river Anna sang ."])
    later = rows.clone()
    later[0, -3:] = world.number("dog")
    with torch.no_grad():
        leak = float((trained.net(rows).logits[:, :-3] - trained.net(later).logits[:, :-3]).abs().max())
    losses = [(step, sum(trained.losses[step : step + 20]) / 20) for step in range(0, 600, 20)]

    def draw(language: Language) -> str:
        title = ("Pretraining: the loss of the next word", "预训练：下一个词的损失")
        series: dict[Label, list[tuple[float, float]]] = {
            ("small GPT", "小 GPT"): [(x, y) for x, y in losses]
        }
        return charts.lines(language, title, ("step", "步"), ("loss", "损失"), series)

    return Shown(
        after < 4 < before and leak == 0,
        (
            f"Perplexity of unread sentences {before:.0f} → {after:.2f}: by the next word alone. Other "
            f"words at the end change nothing before them (difference {leak:.0f}); a masked-word network "
            f"looks both ways.",
            f"没读过的句子，困惑度 {before:.0f} → {after:.2f}，只靠预测下一个词。改动句尾，"
            f"前面的预测不变（相差 {leak:.0f}）；填空的网络则两边都看。",
        ),
        picture=draw,
    )


def _sentiment(session: Session) -> Shown:
    """Eight labelled sentences are enough for a network that has read; words without labels count, too."""
    net = session.once(networks.pretrained).net
    with seeded(0):
        rng = random.Random(3)
        labelled = [
            (world.film(rng, words, deeds), label)
            for words, deeds, label in (
                (_LABELLED_LIKED, world.ENJOYED[:1], 1),
                (_LABELLED_DISLIKED, world.ENDURED[:1], 0),
            )
            for _ in range(4)
        ]
        asked = [
            (world.film(rng, words, deeds), label)
            for words, deeds, label in (
                (world.LIKED[2:], world.ENJOYED[1:], 1),
                (world.DISLIKED[2:], world.ENDURED[1:], 0),
            )
            for _ in range(100)
        ]
        read = _classified(networks.copied(net), labelled, asked)
        fresh = _classified(GPT(networks.gpt_config()), labelled, asked)
    return Shown(
        read > 0.9 and read > fresh + 0.2,
        (
            f"Fine-tuned on 8 labelled sentences, asked 200 in whose opinion no labelled word stands: "
            f"{read:.0%} right; the same network without pretraining {fresh:.0%}.",
            f"用 8 条带标签的句子微调，再问 200 条，其中表态的词都没有标过：对 {read:.0%}；"
            f"同样的网络不经预训练，{fresh:.0%}。",
        ),
    )


def _classified(net: GPT, labelled: Sequence[tuple[str, int]], asked: Sequence[tuple[str, int]]) -> float:
    """The share of `asked` that a head on the last word gets right once all is tuned on `labelled` (GPT-1's way)."""
    head = nn.Linear(net.config.d_model, 2)

    def scores(sentences: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor]:
        rows = world.rows([sentence for sentence, _ in sentences])
        last = (rows != world.number(world.PAD)).sum(1) - 2  # the full stop, before END
        states = net.states(rows)[torch.arange(len(rows)), last]
        return head(states), torch.tensor([label for _, label in sentences])

    fit([*net.parameters(), *head.parameters()], lambda _: F.cross_entropy(*scores(labelled)), 60, 1e-3)
    with torch.no_grad():
        found, wanted = scores(asked)
    return float((found.argmax(-1) == wanted).float().mean())


def _answers(session: Session) -> Shown:
    """Document, question, answers, each scored: GPT-1's question answering."""
    net = networks.copied(session.once(networks.pretrained).net)
    with seeded(0):
        rng = random.Random(4)
        learned = [_asked_row(rng, world.NAMES[:4]) for _ in range(128)]
        asked = [_asked_row(rng, world.NAMES[4:]) for _ in range(100)]
        rows = world.rows([f"{question} {place} ." for question, place in learned])
        before = _answered(net, asked)

        def loss(step: int) -> Tensor:
            some = networks.picked(rows, step, 32)
            return networks.next_word_loss(net, some, skip=some.shape[1] - 4)

        fit(net.parameters(), loss, 120, 1e-3)
        after = _answered(net, asked)
    return Shown(
        after > 0.9 and after > before,
        (
            f"“{asked[0][0]}” Of 8 answers the likeliest is right in {before:.0%} of 100 cases before "
            f"fine-tuning on 128 questions about other people, in {after:.0%} after it.",
            f"“{asked[0][0]}” 八个答案里取概率最大的：用关于别人的 128 个问题微调以前，100 题对 "
            f"{before:.0%}，以后对 {after:.0%}。",
        ),
    )


def _asked_row(rng: random.Random, names: Sequence[str]) -> tuple[str, str]:
    name, place = rng.choice(names), rng.choice(world.PLACES)
    return f"{name} went to the {place} . Where is {name} ?", place


@torch.no_grad()
def _answered(net: GPT, asked: Sequence[tuple[str, str]]) -> float:
    rows = world.rows([question for question, _ in asked])[:, :-1]
    places = torch.tensor([world.number(place) for place in world.PLACES])
    best = net(rows).logits[:, -1, places].argmax(-1).tolist()
    return sum(world.PLACES[found] == place for found, (_, place) in zip(best, asked, strict=True)) / len(
        asked
    )


_REVIEWS = (
    ("I could not stop smiling the whole evening.", "positive"),
    ("Two hours of my life that I will not get back.", "negative"),
    ("A masterpiece, go and see it twice.", "positive"),
    ("The plot falls apart after ten minutes.", "negative"),
    ("Warm, witty and beautifully acted.", "positive"),
    ("I fell asleep, and the noise woke me up.", "negative"),
    ("Not a single dull minute.", "positive"),
    ("Save your money.", "negative"),
)
_SHOTS = (
    ("What a joy from start to end.", "positive"),
    ("Badly written and worse acted.", "negative"),
    ("The best film of the year.", "positive"),
    ("I left before it was over.", "negative"),
)


def _shots(session: Session) -> Shown:
    """A class by words alone, and with four examples in the prompt: nothing is trained."""
    lm = session.language_model()
    found = []
    for shots in (0, len(_SHOTS)):
        before = "".join(f"Review: {text}\nSentiment: {label}\n\n" for text, label in _SHOTS[:shots])
        prompts = [
            f"Each review is positive or negative.\n\n{before}Review: {text}\nSentiment:"
            for text, _ in _REVIEWS
        ]
        best = likeliest(lm, prompts, ("positive", "negative"))
        found.append(sum(said == label for said, (_, label) in zip(best, _REVIEWS, strict=True)))
    zero, few = found
    return Shown(
        few >= 6,
        (
            f"{lm.name}, 8 reviews: {zero} right with no example, {few} with {len(_SHOTS)} in the prompt. "
            f"Nothing was trained.",
            f"{lm.name}，8 条影评：不给例子对 {zero} 条，提示里放 {len(_SHOTS)} 个例子对 {few} 条，"
            f"没有训练任何东西。",
        ),
    )


_SENTIMENT, _QUESTIONS, _TRANSLATION = ("sentiment", "情感"), ("questions", "问答"), ("translation", "翻译")
_Task = tuple[Label, list[tuple[str, str]], list[tuple[str, str]], tuple[str, ...]]
"""A task's name, rows to learn and to ask (a text and the word that answers it), and the words to choose among."""


def _specialists(session: Session) -> Shown:
    """GPT-1's way: a copy for each task, all weights tuned; each tried on the others' tasks, next to one for all."""
    net = session.once(networks.pretrained).net
    tasks = _tasks()
    with seeded(0):
        learned = [(name, rows) for name, rows, _, _ in tasks]
        every = ("all three", "三样都学"), [row for _, rows in learned for row in rows]
        found = [(("none, as pretrained", "没有，只预训练"), [_likeliest_word(net, task) for task in tasks])]
        for name, rows in (*learned, every):
            tuned = networks.copied(net)
            _tune(tuned, rows)
            found.append((name, [_likeliest_word(tuned, task) for task in tasks]))
    own = [found[number + 1][1][number] for number in range(len(tasks))]
    others = [shares[n] for number, (_, shares) in enumerate(found[1:4]) for n in range(3) if n != number]
    together = found[-1][1]
    return Shown(
        min(own) > 0.9 and min(together) > 0.9 and sum(others) / len(others) < 0.7,
        (
            f"Three specialists, each right on its own task in at least {min(own):.0%}, "
            f"{sum(others) / len(others):.0%} on the others'; one network tuned on all three, "
            f"{min(together):.0%} or more.",
            f"三个专用模型：各做本行至少对 {min(own):.0%}，做别人的任务平均对 {sum(others) / len(others):.0%}；"
            f"一个三样都学的网络，至少对 {min(together):.0%}。",
        ),
        table=Table(
            (("tuned on", "微调于"), *(name for name, _, _, _ in tasks)),
            [[name, *(f"{share:.0%}" for share in shares)] for name, shares in found],
        ),
    )


def _tasks() -> list[_Task]:
    """Words, people and pairs that are asked about are not among those that are learned from."""
    rng = random.Random(5)
    kinds = ((world.LIKED, world.ENJOYED, "wonderful"), (world.DISLIKED, world.ENDURED, "dull"))

    def opinions(begin: int, end: int, count: int) -> list[tuple[str, str]]:
        drawn = [rng.choice(kinds) for _ in range(count)]
        return [
            (f"{world.film(rng, words[begin:end], deeds)} The film was", said) for words, deeds, said in drawn
        ]

    def walks(names: Sequence[str], count: int) -> list[tuple[str, str]]:
        return [_asked_row(rng, names) for _ in range(count)]

    def pets(held_out: bool, count: int) -> list[tuple[str, str]]:
        pairs = [(who, animal) for who in range(len(world.OWNERS)) for animal in range(len(world.ANIMALS))]
        drawn = rng.choices([pair for pair in pairs if (sum(pair) % 5 == 0) == held_out], k=count)
        return [
            (f"{_owned(who, animal)} {world.ZH_OWNERS[who]} 爱", world.ZH_ANIMALS[animal])
            for who, animal in drawn
        ]

    return [
        (_SENTIMENT, opinions(1, 5, 128), opinions(5, 10, 100), ("wonderful", "dull")),
        (_QUESTIONS, walks(world.NAMES[:4], 128), walks(world.NAMES[4:], 100), tuple(world.PLACES)),
        (_TRANSLATION, pets(False, 128), pets(True, 100), tuple(world.ZH_ANIMALS)),
    ]


def _owned(who: int, animal: int) -> str:
    return f"{' '.join(world.OWNERS[who])} {world.ANIMALS[animal]} ."


def _tune(net: GPT, rows: Sequence[tuple[str, str]]) -> None:
    """All weights, on the one word that answers each text."""
    ids = world.rows([f"{text} {answer}" for text, answer in rows])
    lengths = (ids != world.number(world.PAD)).sum(1) - 2  # the answer's place: END stands behind it

    def loss(step: int) -> Tensor:
        some = torch.randint(len(ids), (32,), generator=torch.Generator().manual_seed(step))
        places = lengths[some]
        logits = net(ids[some]).logits[torch.arange(len(some)), places - 1]
        return F.cross_entropy(logits, ids[some, places])

    fit(net.parameters(), loss, 120 * len(ids) // 128, 2e-3)


@torch.no_grad()
def _likeliest_word(net: GPT, task: _Task) -> float:
    """The share of the asked texts whose answer is the likeliest of the task's words."""
    _, _, asked, words = task
    ids = world.rows([text for text, _ in asked])
    last = (ids != world.number(world.PAD)).sum(1) - 2
    chosen = torch.tensor([world.number(word) for word in words])
    best = net(ids).logits[torch.arange(len(ids)), last][:, chosen].argmax(-1).tolist()
    return sum(words[found] == answer for found, (_, answer) in zip(best, asked, strict=True)) / len(asked)


IDEA = Idea(
    number=2,
    title=("GPT", "GPT"),
    examples=(
        Example(("pretraining is the next word", "预训练就是预测下一个词"), _next_word),
        Example(("fine-tuning for sentiment with eight labels", "用八个标签微调出情感分类"), _sentiment),
        Example(("fine-tuning for question answering", "微调出问答"), _answers),
        Example(("specialists, each on the others' tasks", "专用模型互做对方的任务"), _specialists),
        Example(
            ("zero and four examples in the prompt", "提示里没有例子与有四个例子"), _shots, (LANGUAGE_MODEL,)
        ),
    ),
    see=(
        "`kun speedrun`; `python examples/recipes/data/stories.py runs/stories.jsonl`, then "
        "`kun train examples/recipes/questions-gpt.toml`; "
        '[GPT-1, 2, 3](docs/en/families/gpt.md); `kun inspect logits "The capital of '
        'France is"`',
        "`kun speedrun`；`python examples/recipes/data/stories.py runs/stories.jsonl`，再 "
        "`kun train examples/recipes/questions-gpt.toml`；"
        '[GPT-1、2、3](docs/zh/families/gpt.md)；`kun inspect logits "The capital of '
        'France is"`',
    ),
    comes=(
        "a small GPT pretrained and fine-tuned for sentiment and questions within seconds; a class from "
        "examples in the prompt; a GPT's whole life within minutes",
        "几秒内预训练一个小 GPT，再微调出情感分类和问答；靠提示里的例子分类；几分钟走完一个 GPT 的一生",
    ),
    sources=(
        "Radford et al., “Improving Language Understanding by Generative Pre-Training”, 2018",
        "Radford et al., “Language Models are Unsupervised Multitask Learners”, 2019",
        "Brown et al., “Language Models are Few-Shot Learners”, arXiv:2005.14165",
    ),
)

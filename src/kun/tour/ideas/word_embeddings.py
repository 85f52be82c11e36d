"""§ 15, word embeddings: `lowering` from its pieces, vectors from who stands next to whom, king − man + woman."""

import random

import numpy as np
import torch
from tokenizers import Tokenizer

from kun.inspection.tokens import cut_tokens, merges
from kun.text.learn import learn_tokenizer
from kun.tour.drawings.canvas import DIM, EDGE, Canvas, Label, Language
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import Session
from kun.wordvectors.pieces import compose
from kun.wordvectors.small import train_vectors
from kun.wordvectors.spelling import nearest_spelled
from kun.wordvectors.vectors import WordVectors

_LEARNED = {
    "low": 40,
    "lower": 25,
    "lowest": 6,
    "er": 8,
    "ing": 12,
    "newer": 12,
    "wider": 10,
    "singing": 9,
    "bring": 6,
    "thing": 6,
}
"""Words of a small text and how often each stands there."""
_MERGES = 5
_PIECES = ("low", "er", "ing")


def _lowering(session: Session) -> Shown:
    """Byte pair encoding learned from a few words builds `lowering`, merge by merge; the sum of its pieces' vectors."""
    del session
    texts = [word for word, count in _LEARNED.items() for _ in range(count)]
    tokenizer = learn_tokenizer(texts, "bpe", 256 + 1 + _MERGES, chat_template=None).tokenizer
    steps = merges("lowering", tokenizer)
    found = _pieces("lowering", tokenizer)
    # the pieces' vectors by which words they come in; lowering itself is not among these
    taught = [[f"<{word}>", *_pieces(word, tokenizer)] for word in texts]
    random.Random(0).shuffle(taught)
    vectors = train_vectors(taught, dimensions=16, epochs=20, sample=1.0)
    known = {
        word: [piece for piece in _pieces(word, tokenizer) if piece in vectors]
        for word in ("lowering", *_LEARNED)
    }
    sums = {word: vectors.sum(pieces)[0] for word, pieces in known.items() if pieces}
    total = WordVectors(list(sums), np.stack(list(sums.values())))
    (first, likeness), (second, _) = total.near("lowering", 2)
    rows = [(str(number), " ".join(step)) for number, step in enumerate(steps)]
    return Shown(
        found == _PIECES and {first, second} <= {"low", "lower", "lowest"},
        (
            f"lowering → {' '.join(found)}, in {len(steps) - 1} merges. In GPT that is {len(found)} vectors in "
            f"{len(found)} places. fastText adds them up: by vectors that word2vec learned in this run, lowering, "
            f"which the text does not have, lies nearest to {first} (cosine {likeness:.2f}), then {second}.",
            f"lowering → {' '.join(found)}，合并 {len(steps) - 1} 次。在 GPT 里这是 {len(found)} 个位置上的 "
            f"{len(found)} 个向量。fastText 把它们加起来：用本次运行里 word2vec 学到的向量，文本里没有的 lowering "
            f"离 {first} 最近（余弦 {likeness:.2f}），其次是 {second}。",
        ),
        Table((("merges", "合并次数"), ("pieces", "片段")), rows),
    )


def _pieces(word: str, tokenizer: Tokenizer) -> tuple[str, ...]:
    return tuple(piece.text for piece in cut_tokens(word, tokenizer, "small").pieces)


_PEOPLE: dict[str, tuple[int, int, int]] = {
    "king": (1, 0, 0), "queen": (1, 1, 0), "man": (0, 0, 0), "woman": (0, 1, 0), "boy": (0, 0, 1), "girl": (0, 1, 1),
    "prince": (1, 0, 1), "princess": (1, 1, 1),
}  # fmt: skip
_ZH_PEOPLE = dict(zip("国王 女王 男人 女人 男孩 女孩 王子 公主".split(), _PEOPLE.values(), strict=True))
_SAID = (("farm street work bread village".split(), "crown palace throne robe court".split()),
         ("he his beard father him".split(), "she her dress mother hers".split()),
         ("tall old married grown wise".split(), "small young school toy play".split()))  # fmt: skip
_ZH_SAID = (("田地 街道 干活 面包 村子".split(), "王冠 宫殿 宝座 长袍 朝廷".split()),
            ("他 胡子 父亲 儿子 兄弟".split(), "她 裙子 母亲 女儿 姐妹".split()),
            ("高大 年老 结婚 成年 智慧".split(), "小小 年轻 上学 玩具 游戏".split()))  # fmt: skip


def _analogy(session: Session) -> Shown:
    """word2vec of a small world answers king − man + woman, with and without the query words."""
    del session
    rows: list[tuple[str, str, str]] = []
    verdicts: list[Label] = []
    points: list[tuple[str, float, float]] = []
    for people, said, (king, man, woman) in (
        (_PEOPLE, _SAID, ("king", "man", "woman")),
        (_ZH_PEOPLE, _ZH_SAID, ("国王", "男人", "女人")),
    ):
        vectors = train_vectors(_sentences(people, said), dimensions=16, epochs=10, sample=1.0)
        found = [vectors.analogy(man, king, woman, exclude=exclude)[0][0] for exclude in (True, False)]
        rows.append((f"{king} − {man} + {woman}", found[0], found[1]))
        verdicts.append(_verdict(found[0], found[1], (king, man, woman)))
        if people is _PEOPLE:
            shown = (king, man, woman, rows[0][1])
            table = torch.from_numpy(np.stack([vectors[word] for word in shown]))
            centred = table - table.mean(0)
            flat = (centred @ torch.linalg.svd(centred)[2][:2].T).tolist()
            points = [(word, flat[place][0], flat[place][1]) for place, word in enumerate(shown)]

    def draw(language: Language) -> str:
        return _plane(language, points)

    return Shown(
        [row[1] for row in rows] == ["queen", "女王"] and _OTHER not in verdicts,
        (
            f"word2vec, trained on 4,000 sentences in this run: king − man + woman is nearest to "
            f"{rows[0][1]} with the query words left out, to {rows[0][2]} with them ({verdicts[0][0]}); "
            f"国王 − 男人 + 女人 to {rows[1][1]} and {rows[1][2]} ({verdicts[1][0]}). So in this small clean world; in "
            f"real text the query words often win.",
            f"本次运行用 4,000 句话训练的 word2vec：国王 − 男人 + 女人，"
            f"排除问题里的词时最近的是{rows[1][1]}，不排除是{rows[1][2]}（{verdicts[1][1]}）；king − man + woman 是 "
            f"{rows[0][1]} 和 {rows[0][2]}（{verdicts[0][1]}）。这个小世界很干净；真实文本里往往是问题里的词。",
        ),
        _table(rows),
        draw,
    )


_AGREE: Label = ("both agree", "两者一致")
_QUERY: Label = ("a query word wins where it may", "不排除时是问题里的词")
_OTHER: Label = ("neither that nor a query word", "既不是它，也不是问题里的词")


def _verdict(left: str, plain: str, asked: tuple[str, ...]) -> Label:
    """How the nearest of all words compares with the nearest of those that were not asked with."""
    if plain in asked:
        return _QUERY
    return _AGREE if plain == left else _OTHER


def _sentences(
    people: dict[str, tuple[int, int, int]], said: tuple[tuple[list[str], list[str]], ...]
) -> list[list[str]]:
    """Each a person and a word for the rank, the sex and the age of that person."""
    rng = random.Random(0)
    sentences = []
    for _ in range(4000):
        word = rng.choice([*people])
        near = [rng.choice(sides[value]) for sides, value in zip(said, people[word], strict=True)]
        sentences.append([*near[:1], word, *near[1:]])
    return sentences


def _table(rows: list[tuple[str, str, str]]) -> Table:
    return Table(
        (("asked", "问题"), ("query words left out", "排除问题里的词"), ("all words", "全部词")), rows
    )


_KNOWN = (
    ("man", "king", "woman", "queen"),
    ("france", "paris", "italy", "rome"),
    ("walk", "walking", "swim", "swimming"),
    ("big", "bigger", "small", "smaller"),
)


def _glove(session: Session) -> Shown:
    """Vectors of six billion words, asked with the query words left out and not."""
    vectors = session.vectors("glove-6b-50d")
    rows, right, kept = [], 0, 0
    for a, b, c, wanted in _KNOWN:
        left, plain = (vectors.analogy(a, b, c, exclude=exclude)[0][0] for exclude in (True, False))
        right += left == wanted
        kept += plain in (a, b, c)
        rows.append((f"{b} − {a} + {c}", left, plain))
    return Shown(
        rows[0][1] == "queen" and rows[0][2] == "king" and right >= 3,
        (
            f"GloVe, {len(vectors):,} words: king − man + woman is nearest to {rows[0][1]} with the query "
            f"words left out, to {rows[0][2]} with them; of {len(_KNOWN)} questions {right} are right "
            f"without them, and {kept} name a query word with them.",
            f"GloVe，{len(vectors):,} 个词：king − man + woman 排除问题里的词时最近的是 {rows[0][1]}，"
            f"不排除是 {rows[0][2]}；{len(_KNOWN)} 题里，排除时对 {right} 题，不排除时有 {kept} "
            f"题答的就是问题里的词。",
        ),
        _table(rows),
    )


_RARE = {
    "photosynthesise": "photosynthesis",
    "goalkeeperless": "goalkeeper",
    "beautifull": "beautiful",
    "langauge": "language",
}


def _by_pieces(session: Session) -> Shown:
    """Rare and misspelt words, by the runs of letters that they share with others, and by their spelling."""
    vectors = session.vectors("glove-6b-50d")
    rows, pieced, spelled = [], 0, 0
    for word, meant in _RARE.items():
        made = compose(vectors, word)
        near = [found for found, _ in vectors.near(made.vector, 5)]
        alike = nearest_spelled(word, vectors.words)
        pieced += meant in near
        spelled += meant in alike
        rows.append((word, " ".join(made.pieces[:3]), ", ".join(near[:3]), ", ".join(alike)))
    return Shown(
        pieced >= 3 and spelled >= 2,
        (
            f"{len(rows)} rare or misspelt words, each a sum of its pieces' vectors, as fastText composes them: "
            f"{pieced} lie near the word that was meant. By spelling alone {spelled} find it.",
            f"{len(rows)} 个生僻或拼错的词，按 fastText 的办法把片段的向量加起来：{pieced} 个落在本来的词附近；"
            f"只看拼写，能找回 {spelled} 个。",
        ),
        Table(
            (
                ("word", "词"),
                ("rarest pieces", "最少见的片段"),
                ("nearest", "最近的词"),
                ("spelled most alike", "拼写最像的词"),
            ),
            rows,
        ),
    )


def _plane(language: Language, points: list[tuple[str, float, float]]) -> str:
    c = Canvas(520, 340, ("The words on a plane (PCA)", "平面上的词（PCA）"), language)
    c.text(12, 18, ("The words on a plane (PCA)", "平面上的词（PCA）"), anchor="start", bold=True)
    most = max(max(abs(x), abs(y)) for _, x, y in points) or 1.0
    place = {word: (260 + 190 * x / most, 180 + 130 * y / most) for word, x, y in points}
    king, man, woman, found = place
    for one, other in ((man, woman), (king, found)):
        c.line(place[one], place[other], colour=DIM, dashed=True)
    for word, at in place.items():
        c.dots([at], colour=EDGE)
        c.text(at[0], at[1] - 12, (word, word), size=12)
    return c.svg()


_ASKED = {
    ("king", "man", "woman"): "queen",
    ("Paris", "France", "Italy"): "Rome",
    ("walking", "walk", "swim"): "swimming",
    ("bigger", "big", "small"): "smaller",
    ("he", "him", "her"): "she",
    ("France", "French", "German"): "Germany",
}


def _own_table(session: Session) -> Shown:
    """A GPT's own table of embeddings asked the same; its pieces that begin a word are the words that it knows."""
    table = session.tokens("smollm2-135m-instruct")
    rows, right, kept = [], 0, 0
    for (b, a, c), wanted in _ASKED.items():
        left, plain = (table.analogy(a, b, c, exclude=exclude)[0][0] for exclude in (True, False))
        kept += table.row(plain) in {same for word in (a, b, c) for same in table.same_word(table.row(word))}
        right += left == wanted
        rows.append((f"{b} − {a} + {c}", left, plain))
    return Shown(
        right >= len(_ASKED) // 2 and kept > 0,
        (
            f"SmolLM2's own table of {len(table):,} pieces: {right} of {len(_ASKED)} are "
            f"right with the query words left out; with them the nearest is one of them in {kept}.",
            f"SmolLM2 自己的 {len(table):,} 个词元的向量表：排除问题里的词时，{len(_ASKED)} 题对 "
            f"{right} 题；不排除时，有 {kept} 题最近的就是问题里的词。",
        ),
        _table(rows),
    )


IDEA = Idea(
    number=15,
    title=("Word embeddings", "词嵌入"),
    examples=(
        Example(("lowering from its pieces", "lowering 由片段合成"), _lowering),
        Example(
            ("king − man + woman, 国王 − 男人 + 女人", "king − man + woman，国王 − 男人 + 女人"), _analogy
        ),
        Example(
            ("GloVe, with and without the query words", "GloVe：排除与不排除问题里的词"),
            _glove,
            ("glove-6b-50d",),
        ),
        Example(
            ("rare and misspelt words by their pieces", "生僻和拼错的词，由片段合成"),
            _by_pieces,
            ("glove-6b-50d",),
        ),
        Example(
            ("a GPT's own table asked the same", "问 GPT 自己的词表"), _own_table, ("smollm2-135m-instruct",)
        ),
    ),
    see=(
        "`kun vectors analogy man king woman` ([page](docs/en/vectors.md)); `kun train "
        "examples/recipes/tokenizer.toml`, then `kun inspect tokens lowering --merges -m runs/tokenizer/checkpoint`",
        "`kun vectors analogy man king woman`（[文档](docs/zh/vectors.md)）；`kun train "
        "examples/recipes/tokenizer.toml`，然后 `kun inspect tokens lowering --merges -m runs/tokenizer/checkpoint`",
    ),
    comes=(
        "`low er ing`, merge by merge; king − man + woman in both languages, with and without the query "
        "words, by word2vec trained in the run and by GloVe; a GPT's own table asked the same; misspelt words by "
        "their pieces",
        "`low er ing` 一步步合并；当场训练的 word2vec 和 GloVe 做 king − man + woman，排除与不排除问题里的词；"
        "问 GPT 自己的词表；拼错的词由片段合成",
    ),
    sources=(
        "Mikolov et al., arXiv:1301.3781, arXiv:1310.4546; Pennington et al. (GloVe), 2014",
        "Sennrich et al. (BPE), arXiv:1508.07909; Bojanowski et al., arXiv:1607.04606; Linzen, "
        "arXiv:1606.07736",
    ),
)

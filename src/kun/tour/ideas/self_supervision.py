"""§ 11, self-supervision: a text asks its own questions; clustering is the unsupervised contrast."""

import torch
from torch.nn import functional as F

from kun.errors import NotFound
from kun.knowledge.clusters import cluster
from kun.knowledge.topics import names_of
from kun.text.words import cut_words
from kun.tour.example import Example, Idea, Shown, Table
from kun.tour.session import HANDBOOK, Session
from kun.tour.small import networks, world

_BLANKS = (
    ("I love my [MASK] .", frozenset(world.ANIMALS)),
    ("我 爱 我 的 [MASK] 。", frozenset(world.ZH_ANIMALS)),
    ("The film was [MASK] and I yawned .", frozenset(world.DISLIKED)),
    ("这部 电影 很 [MASK] ， 我 鼓掌 。", frozenset(world.ZH_LIKED)),
)


def _masked(session: Session) -> Shown:
    """Words under a mask, in both languages, from what stands on both sides."""
    net = session.once(networks.masked)
    rows, right = [], 0
    for sentence, wanted in _BLANKS:
        found = networks.guesses(net, sentence, 3)
        right += found[0][0] in wanted
        rows.append((sentence, ", ".join(f"{word} {share:.2f}" for word, share in found)))
    return Shown(
        right == len(_BLANKS),
        (
            f"A small BERT fills in words, no label was ever given: {right} of {len(_BLANKS)} blanks hold "
            f"a word that fits both sides.",
            f"小 BERT 填词，没有人给过标签：{len(_BLANKS)} 个空里，{right} 个填的词前后都合适。",
        ),
        Table((("text", "文本"), ("likeliest", "最可能的词")), rows),
    )


def _next(session: Session) -> Shown:
    """The next word, from the left alone: the question that GPT asks of every text."""
    net = session.once(networks.pretrained).net
    begun = "Anna went to the river . In the"
    with torch.no_grad():
        shares = net(world.rows([begun])[:, :-1]).logits[0, -1].softmax(-1)
    best = world.tokenizer().id_to_token(int(shares.argmax()))
    return Shown(
        best == "river",
        (
            f"“{begun} …” → {best} ({float(shares.max()):.2f}): the text itself holds the answer.",
            f"“{begun} …” → {best}（{float(shares.max()):.2f}）：答案就在文本里。",
        ),
    )


def _clusters(session: Session) -> Shown:
    """k-means over the word vectors that the small GPT learned: groups without names, from no labels at all."""
    net = session.once(networks.pretrained).net
    kinds = [world.LIKED, world.DISLIKED, world.PLACES, world.NAMES]
    words = [word for kind in kinds for word in kind]
    vectors = F.normalize(net.embed.weight.detach()[[world.number(word) for word in words]], dim=-1)
    groups = cluster(vectors.numpy(), len(kinds)).labels.tolist()
    rows = [
        (str(group + 1), ", ".join(word for word, found in zip(words, groups, strict=True) if found == group))
        for group in range(len(kinds))
    ]
    kind_of = {word: place for place, kind in enumerate(kinds) for word in kind}
    right = 0
    for group in range(len(kinds)):
        inside = [kind_of[word] for word, found in zip(words, groups, strict=True) if found == group]
        right += max((inside.count(kind) for kind in set(inside)), default=0)
    return Shown(
        right / len(words) > 0.85,
        (
            f"Four groups of {len(words)} words, found by k-means in their vectors: "
            f"{right / len(words):.0%} lie with words of their kind. Clustering groups what is there; "
            f"self-supervision made the vectors.",
            f"k-means 按向量把 {len(words)} 个词分成四组：{right / len(words):.0%} 与同类的词在一起。"
            f"聚类只是分组，向量是自监督学出来的。",
        ),
        Table((("group", "组"), ("words", "词")), rows),
    )


_PAGES = ("06-generating-content", "12-self-attention", "15-word-embeddings")


def _topics(session: Session) -> Shown:
    """Paragraphs of three pages of the handbook, by their vectors alone, in three groups that their words name."""
    if session.handbook is None:
        raise NotFound("The handbook is not installed here: install the package with its data files.")
    parts, pages = [], []
    for number, name in enumerate(_PAGES):
        text = (session.handbook / "en" / f"{name}.md").read_text(encoding="utf-8").split("## Sources")[0]
        found = [
            part for part in text.split("\n\n") if len(part) > 150 and not part.startswith(("|", "!", "```"))
        ]
        parts += found
        pages += [number] * len(found)
    vectors = session.encoder("all-minilm-l6-v2").embed(parts)
    groups = cluster(vectors, len(_PAGES))
    named = names_of(groups, [cut_words(part) for part in parts])
    rows, together = [], 0
    for group, words in enumerate(named):
        inside = [pages[row] for row in groups.members(group)]
        most = max(set(inside), key=inside.count)
        together += inside.count(most)
        rows.append((", ".join(words), str(len(inside)), f"{_PAGES[most]} {inside.count(most)}"))
    share = together / len(parts)
    return Shown(
        share > 0.6,
        (
            f"{len(parts)} paragraphs of {len(_PAGES)} pages of the handbook in {groups.groups} groups, which nobody "
            f"named or labelled: {share:.0%} lie in the group of their page.",
            f"手册三页的 {len(parts)} 段（英文）分成 {groups.groups} 组，没有人给过标签："
            f"{share:.0%} 与同一页的段落在一组。",
        ),
        Table(
            (("named by their words", "由词语得名"), ("paragraphs", "段数"), ("most from", "大多来自")), rows
        ),
    )


_TOKENIZER = (
    "kun train examples/recipes/tokenizer.toml -o tokenizer.kind=wordpiece -o tokenizer.vocab_size=8192 "
    "-o data.train=installed-docs -o data.limit=4000 -o out=runs/wordpiece"
)
"""The command that makes the tokenizer of words.toml."""

IDEA = Idea(
    number=11,
    title=("Self-supervision", "自监督"),
    examples=(
        Example(("masked words, in both languages", "掩码处的词，中英文"), _masked),
        Example(("the next word", "下一个词"), _next),
        Example(("clustering, the unsupervised contrast", "聚类：无监督的对照"), _clusters),
        Example(
            ("topics of passages, found", "段落的主题，聚出来的"), _topics, ("all-minilm-l6-v2", HANDBOOK)
        ),
    ),
    see=(
        f"its tokenizer `{_TOKENIZER}`, then `kun train examples/recipes/words.toml`, "
        'then `kun fill runs/words/checkpoint "Return the [MASK] of items in the list."`; `kun kb topics handbook`',
        f"先训练分词器 `{_TOKENIZER}`，再 `kun train examples/recipes/words.toml`，"
        '然后 `kun fill runs/words/checkpoint "Return the [MASK] of items in the list."`；中文的做法见文档“训练”一页；'
        "`kun kb topics handbook`",
    ),
    comes=(
        "words under masks in both languages, the next word, and groups that clustering finds",
        "中英文里掩码处的词，下一个词，以及聚类分出的组",
    ),
    sources=(
        "Devlin et al. (BERT), arXiv:1810.04805; Radford et al., 2018",
        "Pathak et al. (inpainting), arXiv:1604.07379",
    ),
    drawings=("inpainting",),
    later=("Inpainting of pictures, and what its features gain.", "图像修补，以及它的特征带来的提升。"),
)

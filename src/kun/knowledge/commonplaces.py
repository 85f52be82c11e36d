"""Sentences about nothing in particular: how near a question comes to anything at all, in each language.

Cosines of text encoders never come near 0, and texts in the question's own language lie nearer to it whatever they
say (Roy et al., arXiv:2004.05484): what counts is by how much a text is nearer than a commonplace of its language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.knowledge.adding import EncoderLike, states_of
from kun.knowledge.interaction import max_sim, pack
from kun.knowledge.products import product
from kun.text.language import language_of

Floats = NDArray[np.float32]

ENGLISH = (
    "The meeting was moved to Thursday afternoon.",
    "Add the onions and stir until they are soft.",
    "She closed the window because of the rain.",
    "Please send the form back before the end of the month.",
    "The train leaves from platform four.",
    "He has played the piano since he was a child.",
    "The shop sells bread, milk and newspapers.",
    "The patch fixes a crash when the file is empty.",
)
CHINESE = (
    "会议改到了星期四下午。",
    "放入洋葱，炒到变软。",
    "因为下雨，她关上了窗户。",
    "请在月底之前把表格寄回。",
    "火车从四号站台出发。",
    "他从小就弹钢琴。",
    "这家店卖面包、牛奶和报纸。",
    "补丁修复了文件为空时的崩溃。",
)
_ENGLISH_QUESTIONS = (
    "What colour is the bicycle?",
    "Where does his sister live?",
    "How old is the bridge?",
    "Who wrote the letter?",
    "Why is the river low?",
    "How many guests came?",
    "When was the tower built?",
    "Which tool is needed?",
)
"""Of nothing that the sentences are about."""
_CHINESE_QUESTIONS = (
    "自行车是什么颜色？",
    "他妹妹住在哪里？",
    "这座桥有多少年了？",
    "谁写了这封信？",
    "河水为什么少了？",
    "来了多少客人？",
    "那座塔是什么时候建的？",
    "需要哪种工具？",
)
_PARAGRAPH = 4
"""Sentences together: a paragraph comes nearer to a question than a sentence does, since it has more to offer."""
_ASKED = 2
"""Questions whose tokens are compared with passages: more say the same, and take time."""


@dataclass(frozen=True)
class Level:
    """The nearness of texts about nothing, of one language, to a query: to what is its own, by vectors; token by token;
    and token by token to `Commonplaces.asked`.
    """

    meaning: float = 0.0
    tokens: float = 0.0
    asked: float = 0.0


@dataclass(frozen=True)
class Commonplaces:
    """The part of a query that is no news: the mean vector [d] of questions about nothing in its language, the
    states [t, d] of one or two `asked` of them, and the levels of texts about nothing that are not
    Chinese, and of Chinese ones.

    Taking `question` from a query's vector leaves what is its own: passages that come near to any question, such
    as rows of numbers, come no nearer to this one by it (compare CSLS: Conneau et al., arXiv:1710.04087).
    """

    question: Floats
    asked: Floats
    levels: tuple[Level, Level] = (Level(), Level())


@dataclass(frozen=True)
class _Questions:
    vector: Floats
    states: Floats


@dataclass(frozen=True)
class _Texts:
    vectors: Floats
    tokens: Sequence[bytes]
    asked: Mapping[bool, float]
    """The nearness of their tokens to those of questions about nothing, by whether these are Chinese."""


@dataclass(frozen=True)
class _Known:
    questions: Mapping[bool, _Questions]
    """By whether they are Chinese."""
    texts: tuple[_Texts, _Texts]


_KNOWN: dict[str, _Known] = {}
"""By the encoder's identity."""


def commonplaces(query: str, vector: Floats, states: Floats, encoder: EncoderLike) -> Commonplaces:
    """Those for a query's `vector` [d] and `states` [t, d]. Embedded once for each encoder."""
    known = _KNOWN.get(encoder.identity)
    if known is None:
        questions = {
            False: _questions(_ENGLISH_QUESTIONS, encoder),
            True: _questions(_CHINESE_QUESTIONS, encoder),
        }
        texts = _paragraphs(ENGLISH, " ", questions, encoder), _paragraphs(CHINESE, "", questions, encoder)
        known = _KNOWN[encoder.identity] = _Known(questions, texts)
    chinese = language_of(query) == "zh"
    common = known.questions[chinese]
    all_tokens = [tokens for texts in known.texts for tokens in texts.tokens]
    nearest = np.split(max_sim(states, all_tokens), [len(known.texts[0].tokens)])
    first, second = (
        Level(
            float(product(texts.vectors, vector - common.vector).mean()),
            float(near.mean()),
            texts.asked[chinese],
        )
        for texts, near in zip(known.texts, nearest, strict=True)
    )
    return Commonplaces(common.vector, common.states, (first, second))


def _questions(questions: Sequence[str], encoder: EncoderLike) -> _Questions:
    vectors, states = states_of(questions, "query", encoder)
    return _Questions(vectors.mean(axis=0), np.concatenate(states[:_ASKED]))


def _paragraphs(
    sentences: Sequence[str], space: str, questions: Mapping[bool, _Questions], encoder: EncoderLike
) -> _Texts:
    starts = range(0, len(sentences), _PARAGRAPH)
    texts = [space.join(sentences[start : start + _PARAGRAPH]) for start in starts]
    vectors, states = states_of(texts, "passage", encoder)
    tokens = [pack(rows) for rows in states]
    asked = {chinese: float(max_sim(some.states, tokens).mean()) for chinese, some in questions.items()}
    return _Texts(vectors, tokens, asked)

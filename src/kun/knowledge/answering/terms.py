"""The terms of a text that say something: words without grammar, and numbers however they are written."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from kun.knowledge.answering.numbers import telling
from kun.text.fold import simplified
from kun.text.words import STOP_WORDS, words

_COMPOUND = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)+")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff々〇]+")
_EMPTY = frozenset(
    """yes no not also more most than each per about only very much many some any all other one use used using make made
    document documents passage text according state states stated mention mentioned follow following include including
    take took taken takes lie lies located number given got cannot may must allowed permitted
    是的 对 不是 可以 能 会 要 需要 进行 使用 通过 根据 文档 以及 并 不 没 没有 没有有 时 时候 后 前 来 去 到 由 以 可
    能够 它 他 她 我 你 您 我们 你们 他们 一 种 以下 如下 例如 包括 分别 其中""".split()
)


@lru_cache(maxsize=4096)
def terms(text: str) -> frozenset[str]:
    """The words of `text` that say something, its compounds (GPT-2 is one), and the values of its numbers."""
    plain = {word for word in words(text) if not word.isdecimal()} - STOP_WORDS - _EMPTY
    return frozenset(plain | {one.value for one in telling(text)} | set(_COMPOUND.findall(text.casefold())))


@lru_cache(maxsize=4096)
def claims(text: str) -> frozenset[str]:
    """The terms of an answer's sentence: as `terms`, but without the pairs of characters that cross words.

    A pair such as 元奖 of "1500 元奖金" is in no document that says 奖金 1500 元. Of long words the pairs are taken.
    """
    import rjieba

    pairs = {
        word[place : place + 2]
        for run in _HAN.findall(simplified(text))
        for word in rjieba.cut(run)
        if len(word) > 1 and word not in _EMPTY and word not in STOP_WORDS
        for place in range(len(word) - 1)
    }
    return frozenset(pairs | {term for term in terms(text) if not _HAN.fullmatch(term)})


class Weights:
    """The weight of each term: the fewer of some texts have it, the more (as inverse document frequency does).

    One that none has weighs as one of two texts: it may be another word for what they say.
    """

    def __init__(self, texts: Iterable[frozenset[str]]) -> None:
        known = list(texts)
        self._count, self._holders = len(known), Counter(term for one in known for term in one)

    def of(self, term: str) -> float:
        return math.log(1 + (self._count + 1) / (self._holders[term] + 0.5 if term in self._holders else 2.0))

    def share(self, wanted: Iterable[str], held: frozenset[str]) -> float:
        """The share of `wanted`, by weight, that is among `held`; 1 where nothing is wanted."""
        weighed = [(self.of(term), term in held) for term in wanted]
        total = sum(weight for weight, _ in weighed)
        return sum(weight for weight, there in weighed if there) / total if total else 1.0


def shared(wanted: frozenset[str], texts: Sequence[frozenset[str]]) -> list[float]:
    """For each of `texts` the share of `wanted` that it has, rare terms weighing more."""
    weights = Weights(texts)
    return [weights.share(wanted, one) for one in texts]

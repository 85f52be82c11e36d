"""Which passage carries a sentence: citations are given by what the texts share, not by the model's word."""

import re
import unicodedata
from collections.abc import Sequence

from kun.text.fold import fold
from kun.text.language import language_of
from kun.text.words import STOP_WORDS, words

_CITATION = re.compile(r"\s*[\[［【]\s*\d+(?:\s*[,，、]\s*\d+)*\s*[\]］】]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ASKS = re.compile(
    r"\b(?:who|whom|whose|what|which|when|where|why|how)\b|[谁何几哪]|什么|多少|多大|多久|多长|多高|怎|为啥",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"\bhow many (\w+)|多少个?([\u4e00-\u9fff]{2})", re.IGNORECASE)
_MARKER = re.compile(r"(?:\A|\n)\s*(?:[-*•]|\d{1,2}[.)、])\s*")
_LIST = re.compile(r",[^,\n]+,\s*and\b|、[^、\n]+(?:、|和|以及|与)|\n\s*(?:[-*•]|\d{1,2}[.)、])")
_BETWEEN = re.compile(r"[,，、;；:：\n]|\band\b|和|以及|与")
_ASSENT = frozenset(["yes", "是的", "对", "不是", "可以", "能"])
_SUPPORTED = 0.3
"""The share of a sentence's words that a passage must have to be cited for it."""
_CARRIED = 0.7
"""The share of what an answer adds to its question that one sentence must have to carry it."""
_FEW_WORDS = 4
_BARE_NUMBER = 3
"""Terms, such as those of \"some 175 billion\", that need not name what they count."""


def without_citations(text: str) -> str:
    """`text` without the numbers in brackets that the model wrote."""
    return _CITATION.sub("", text)


def support(sentence: str, passages: Sequence[str]) -> tuple[int, float]:
    """The passage that carries most of `sentence`, and the share of its words that it has."""
    wanted = {word for word in words(sentence) if word not in STOP_WORDS}
    if not wanted or not passages:
        return 0, 0.0
    shares = [len(wanted & set(words(passage))) / len(wanted) for passage in passages]
    best = max(range(len(shares)), key=lambda place: (shares[place], -place))
    return best, shares[best]


def cited(sentence: str, passages: Sequence[str]) -> str:
    """`sentence` with the number of the passage that carries it before its final mark; as it is where none does."""
    place, share = support(sentence, passages)
    if share < _SUPPORTED:
        return sentence
    body = sentence.rstrip()
    space = sentence[len(body) :]
    mark = body[-1] if body and body[-1] in ".!?。！？；" else ""
    return f"{body[: len(body) - len(mark)].rstrip()} [{place + 1}]{mark}{space}"


def is_carried(answer: str, question: str, evidence: Sequence[str]) -> bool:
    """Whether one sentence of the `evidence` has what `answer` adds to `question`: most words, every number.

    The sentences were found without the model, so that where both agree, they are seldom wrong together.
    """
    added = _terms(answer) - _terms(question) - _ASSENT
    known = {number for text in (question, *evidence) for number in _numbers(text)}
    if any(number not in known for number in _numbers(answer)):
        return False
    return max((len(added & _terms(one)) for one in evidence), default=0) >= _CARRIED * len(added)


def is_list_carried(answer: str, question: str, evidence: Sequence[str]) -> bool:
    """Whether `answer` lists several things, each of which one sentence of the `evidence` has."""
    parts = [part for part in _BETWEEN.split(_MARKER.sub("\n", answer)) if _terms(part) - _terms(question)]
    return bool(_LIST.search(answer)) and all(is_carried(part, question, evidence) for part in parts)


def is_list_item(sentence: str) -> bool:
    return bool(_MARKER.match(sentence))


def says_nothing(answer: str, question: str) -> bool:
    """Whether `answer` only repeats a `question` that asks for more than yes or no."""
    return bool(_ASKS.search(question)) and not _terms(answer) - _terms(question)


def counts_another_thing(answer: str, question: str) -> bool:
    """Whether `question` asks how many of something, and an `answer` in words does not name it."""
    asked = _COUNTED.search(question)
    if asked is None:
        return False
    thing, said = set(words(asked[1] or asked[2])) - STOP_WORDS, _terms(answer)
    return bool(thing) and len(said) > _BARE_NUMBER and not thing & said


def _terms(text: str) -> set[str]:
    """The words of `text` that say something, and its numbers however they are written."""
    return {word for word in words(text) if not word.isdecimal()} - STOP_WORDS | set(_numbers(text))


def _numbers(text: str) -> list[str]:
    return [number.replace(",", "") for number in _NUMBER.findall(unicodedata.normalize("NFKC", text))]


def is_in(language: str, answer: str) -> bool:
    """Whether `answer` is in `language`; a few words, such as a name, are at home in any."""
    return len(words(answer)) <= _FEW_WORDS or language_of(answer) == language


def declines(answer: str, sentence: str) -> bool:
    """Whether `answer` says, in the words that it was given, that the documents do not say."""
    return fold(answer).startswith(fold(sentence).rstrip(".。"))

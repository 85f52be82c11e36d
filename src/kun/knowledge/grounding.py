"""Which passage carries a sentence: citations are given by what the texts share, not by the model's word."""

import re
from collections.abc import Sequence

from kun.text.fold import fold
from kun.text.sentences import sentences
from kun.text.words import STOP_WORDS, words

_CITATION = re.compile(r"\s*[\[［【]\s*\d+(?:\s*[,，、]\s*\d+)*\s*[\]］】]")
_SUPPORTED = 0.3
"""The share of a sentence's words that a passage must have to be cited for it."""


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


def is_made_up(answer: str, question: str, passages: Sequence[str]) -> bool:
    """Whether what `answer` adds to `question` stands in none of the `passages`."""
    asked = set(words(question)) | STOP_WORDS
    added = [word for word in dict.fromkeys(words(answer)) if word not in asked]
    known = {word for passage in passages for word in words(passage)}
    return bool(added) and sum(word in known for word in added) < _SUPPORTED * len(added)


def best_sentences(question: str, passages: Sequence[str], count: int) -> list[tuple[int, str]]:
    """The sentences of `passages` that share most with `question`: (passage, sentence), best first."""
    wanted = {word for word in words(question) if word not in STOP_WORDS}
    found = [
        (len(wanted & set(words(text[start:end]))), -place, -start, place, text[start:end].strip())
        for place, text in enumerate(passages)
        for start, end in sentences(text)
        if text[start:end].strip()
    ]
    return [(place, sentence) for _, _, _, place, sentence in sorted(found, reverse=True)[:count]]


def declines(answer: str, sentence: str) -> bool:
    """Whether `answer` says, in the words that it was given, that the documents do not say."""
    return fold(answer).startswith(fold(sentence).rstrip(".。"))

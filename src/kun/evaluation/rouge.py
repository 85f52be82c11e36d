"""ROUGE: how much of a reference summary's words and their order a summary has (Lin, W04-1013).

F1 of shared words (ROUGE-1), of shared pairs (ROUGE-2) and of the longest common subsequence (ROUGE-L). What a
word is must be said: English has spaces between its words, Chinese has none.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

Units = Literal["words", "characters", "chinese-words"]

_HAN = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff〇"
_WORD = re.compile(r"[^\W_]+")
_CHARACTER = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")


def cut(text: str, units: Units) -> list[str]:
    """The words of a text, without case and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if units == "chinese-words":
        import rjieba

        return [word for piece in rjieba.cut(folded) for word in _WORD.findall(piece)]
    return (_CHARACTER if units == "characters" else _WORD).findall(folded)


def rouge(said: str, wanted: str, units: Units) -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L of a summary against its reference, 0 to 1."""
    written, reference = cut(said, units), cut(wanted, units)
    return {name: score(written, reference) for name, score in _SCORES.items()}


def _of_words(written: Sequence[str], reference: Sequence[str]) -> float:
    return _overlap(Counter(written), Counter(reference))


def _of_pairs(written: Sequence[str], reference: Sequence[str]) -> float:
    return _overlap(Counter(pairwise(written)), Counter(pairwise(reference)))


def _of_order(written: Sequence[str], reference: Sequence[str]) -> float:
    return _f1(_longest_common(written, reference), len(written), len(reference))


_SCORES: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    "rouge1": _of_words,
    "rouge2": _of_pairs,
    "rougeL": _of_order,
}


def _overlap(written: Counter, reference: Counter) -> float:
    return _f1((written & reference).total(), written.total(), reference.total())


def _f1(shared: int, said: int, wanted: int) -> float:
    return 2 * shared / (said + wanted) if shared else 0.0


def _longest_common(written: Sequence[str], reference: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    before = [0] * (len(reference) + 1)
    for word in written:
        row = [0]
        for place, other in enumerate(reference):
            row.append(before[place] + 1 if word == other else max(before[place + 1], row[place]))
        before = row
    return before[-1]

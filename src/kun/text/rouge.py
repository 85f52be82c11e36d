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


def rouge_l(written: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of ROUGE-L of words that are cut already, 0 to 1."""
    return _f1(_longest_common(written, reference), len(written), len(reference))


def _of_words(written: Sequence[str], reference: Sequence[str]) -> float:
    return _overlap(Counter(written), Counter(reference))


def _of_pairs(written: Sequence[str], reference: Sequence[str]) -> float:
    return _overlap(Counter(pairwise(written)), Counter(pairwise(reference)))


_SCORES: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    "rouge1": _of_words,
    "rouge2": _of_pairs,
    "rougeL": rouge_l,
}


def _overlap(written: Counter, reference: Counter) -> float:
    return _f1((written & reference).total(), written.total(), reference.total())


def _f1(shared: int, said: int, wanted: int) -> float:
    return 2 * shared / (said + wanted) if shared else 0.0


def _longest_common(written: Sequence[str], reference: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table a word, its cells the bits of one number.

    Hyyrö, "Bit-parallel LCS-length computation revisited" (AWOCA 2004): a zero is a place where a row grows.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(reference):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(reference)) - 1
    row = whole
    for word in written:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & whole
    return len(reference) - row.bit_count()

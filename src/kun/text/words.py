"""Text as search terms: words without their endings in English, words and pairs of characters in Chinese."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kun.text.fold import of_each, simplified

_HAN = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff々〇"
_UNPARTED = re.compile(
    rf"[{_HAN}\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff"
    r"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua980-\ua9ff\uaa60-\uaadf]"
)
"""Han, kana and hangul; Thai, Lao, Tibetan, Burmese, Khmer, Tai and Javanese."""
_RUNS = re.compile(rf"(?P<han>[{_HAN}]+)|(?P<word>[^\W_{_HAN}]+)")
_IS_HAN = re.compile(f"[{_HAN}]")
_ENGLISH = re.compile(r"[a-z]+")
_BROKEN_LINE = re.compile(rf"(?<=[{_HAN}])\s+(?=[{_HAN}])")
_BROKEN_WORD = re.compile(r"([^\W\d_]{2,})-\n[ \t]*([^\W\d_]{2,})")
"""A word parted at the end of a line; it may be a compound, so that its parts are terms too."""
_LONGEST = 64
"""Characters of one term: what is longer is a blob, and is cut."""

STOP_WORDS = frozenset(
    """a an and are as at be been but by did do does for from had has have he her his how i if in into is it its
    me my no not of on or our she so such that the their them then there these they this to was we were what
    when where which who whom whose why will with you your
    的 了 是 在 和 与 及 或 等 也 都 就 而 之 其 有 吗 呢 吧 么 什么 谁 哪 哪个 哪里 哪些 怎么 怎样 如何 为什么
    多少 几 这 那 这个 那个 一个 被 把 从 对 为 以 于 上 中 下 个""".split()
)


def is_han(letter: str) -> bool:
    """Whether a character is a Chinese one."""
    return _IS_HAN.fullmatch(letter) is not None


def words(text: str) -> list[str]:
    """The search terms of `text`, in order, with repeats; small words are among them (`STOP_WORDS`)."""
    folded = simplified(unicodedata.normalize("NFKC", text).casefold())
    folded = _BROKEN_LINE.sub("", folded)  # Chinese has no spaces between words
    return list(_terms(_BROKEN_WORD.sub(r"\g<0> \1\2", folded) if "-\n" in folded else folded))


def cut_words(text: str) -> list[str]:
    """The words of `text` in order as a reader takes them: small letters, simplified characters, no endings taken off.

    Runs of digits and letters are words, Chinese is cut by its dictionary, and all else is left out.
    """
    folded = simplified(unicodedata.normalize("NFKC", text).casefold())
    found: list[str] = []
    for han, word in _RUNS.findall(_BROKEN_LINE.sub("", folded)):
        if han:
            found += _segmented(han)
        else:
            found.append(word[:_LONGEST])
    return found


def _segmented(run: str) -> list[str]:
    """A run of Chinese characters as words."""
    import rjieba  # 30 MB, which a search in English does without

    return [word[:_LONGEST] for word in rjieba.cut(run)] if len(run) > 1 else [run]


def word_edges(text: str, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True [n + 1] where no word goes on, before each folded character of `text` and at its end.

    `offsets` [n + 1] are those of `kun.text.fold.fold_with_offsets`. In scripts that do not part every word from
    the next, and in Korean, whose particles cling to words, each place may be where one ends.
    """
    edges = np.ones(len(offsets), np.bool_)
    if len(offsets) > 2:
        of_word = of_each(text, _is_of_word).astype(np.bool_)
        places = offsets[1:-1]
        # a place that comes twice is within what one character folds to
        edges[1:-1] = ~(of_word[places - 1] & of_word[places]) & (places != offsets[:-2])
    return edges


def _is_of_word(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN" and not _UNPARTED.match(letter)


def _terms(text: str) -> Iterator[str]:
    for han, word in _RUNS.findall(text):
        if han:
            yield from _chinese(han)
        else:
            yield _term(word)


@lru_cache(maxsize=1 << 16)
def _term(word: str) -> str:
    """The term of a word that is not Chinese; kept, since texts are made of the same words again and again."""
    return stem(word) if _ENGLISH.fullmatch(word) else word[:_LONGEST]


def _chinese(run: str) -> list[str]:
    """Words, and pairs of characters too: where the cut into words differs between two texts, pairs still meet."""
    terms = _segmented(run)
    small = STOP_WORDS
    terms += [a + b for a, b in pairwise(run) if a not in small and b not in small]
    return terms


def stem(word: str) -> str:
    """An English word without the endings that grammar puts on it, as far as spelling tells.

    Plurals, past, -ing and -ly are taken off: what matters is that two forms of a word meet, not that the
    result is a word (after Harman's S-stemmer and the first step of Porter's, 1980).
    """
    word = word[:_LONGEST]
    if len(word) <= 3:
        return word
    for ending, least, put in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= least:
            base = word[: len(word) - len(ending)] + put
            if put == "" and ending in ("ed", "ing") and not re.search(r"[aeiouy]", base):
                return word
            if ending in ("ed", "ing") and len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz":
                base = base[:-1]
            return base.removesuffix("e") if len(base) > 3 else base
    return word.removesuffix("e") if len(word) > 4 else word


_ENDINGS = (
    ("sses", 1, "ss"),
    ("ies", 2, "y"),
    ("ied", 2, "y"),
    ("ss", 1, "ss"),
    ("us", 1, "us"),
    ("is", 1, "is"),
    ("ings", 3, ""),
    ("ing", 3, ""),
    ("ed", 3, ""),
    ("s", 3, ""),
    ("ly", 4, ""),
)

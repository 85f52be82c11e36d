"""What two spellings of the same words share: Unicode folding for search.

Two texts that a reader takes for the same (full-width or half-width, `É` as one character or as two, any
case, any spacing, an invisible soft hyphen, traditional or simplified Chinese) fold to the same string, so that
"word for word" can be a plain substring test. Close to NFKC_Casefold of the Unicode Standard (section 3.13),
without white space.
"""

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from opencc import OpenCC

# Vowel signs that compose with what stands before them, though Unicode calls them letters.
_LETTERS_THAT_ATTACH = frozenset("\U00016d63\U00016d67\U00016d68")


class _Table(dict[int, str]):
    """Code point -> its folded form, filled as characters are met (at most one entry for each there is)."""

    def __missing__(self, code: int) -> str:
        letters = unicodedata.normalize("NFKD", chr(code)).casefold()
        kept = "".join(letter for letter in unicodedata.normalize("NFKD", letters) if not _is_unseen(letter))
        composed = unicodedata.normalize("NFC", kept)
        self[code] = folded = "".join(_SIMPLIFIED[ord(letter)] for letter in composed)
        return folded


class _Simplified(dict[int, str]):
    """Code point -> the simplified form of a traditional Chinese character, any other as it is."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        self[code] = simple = _to_simplified(letter) if _is_han(code) else letter
        return simple


def simplified(text: str) -> str:
    """`text` with simplified characters in the place of traditional ones, one for one.

    Characters, not words, so that every place stays: what depends on the word (乾隆, 乾燥) is written alike on both
    sides of a comparison, which is all that a search needs.
    """
    return text if text.isascii() else text.translate(_SIMPLIFIED)


def _is_han(code: int) -> bool:
    return 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3FFFF


def _to_simplified(letter: str) -> str:
    converter = _converter()
    simple = converter.convert(converter.convert(letter))  # one character (薴) takes two steps
    return simple if len(simple) == 1 else letter


@cache
def _converter() -> "OpenCC":
    from opencc import OpenCC  # a tenth of a second, which texts without Chinese do without

    return OpenCC("t2s")


def _is_unseen(letter: str) -> bool:
    """White space, zero-width and formatting characters, variation selectors."""
    return letter.isspace() or unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"


_SIMPLIFIED = _Simplified()
_TABLE = _Table()


def fold(text: str) -> str:
    """`text` in NFKC, case-folded, simplified, without white space and unseen ones; folding again changes nothing."""
    if text.isascii():
        return "".join(text.split()).lower()
    return unicodedata.normalize("NFC", text.translate(_TABLE))


def fold_with_offsets(text: str) -> tuple[str, NDArray[np.int64]]:
    """`fold(text)` and, for each of its characters, the place in `text` that it comes from.

    The offsets have one entry more than the folded text, `len(text)`, so that a match `[i, j)` in the folded
    text stands in `text[offsets[i] : offsets[j]]` (with the white space after it, if any). Where one character
    folds to several, or Unicode puts marks into another order, a match of some of them has no such place.
    """
    if not text:
        return "", np.zeros(1, dtype=np.int64)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    distinct = np.flatnonzero(np.bincount(codes))
    forms = [_TABLE[code] for code in distinct.tolist()]
    letters = np.frombuffer("".join(forms).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    # which form each character has, and of each letter of a form, how far into it that is
    numbers = np.zeros(distinct[-1] + 1, dtype=np.int64)
    numbers[distinct] = np.arange(len(distinct))
    form = numbers[codes]
    sizes = np.array([len(one) for one in forms])
    firsts, counts = np.cumsum(sizes) - sizes, sizes[form]
    offsets = np.repeat(np.arange(len(text), dtype=np.int64), counts)
    within = np.arange(len(offsets)) - (np.cumsum(counts) - counts)[offsets]
    folded = letters[firsts[form[offsets]] + within].tobytes().decode("utf-32-le", "surrogatepass")
    if not unicodedata.is_normalized("NFC", folded):
        folded, offsets = _compose(folded, offsets)
    return folded, np.append(offsets, len(text))


def of_each(text: str, tell: Callable[[str], int]) -> NDArray[np.int64]:
    """What `tell` says of each character of `text`, which is not empty; it is asked once for each there is."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    distinct = np.flatnonzero(np.bincount(codes))
    table = np.zeros(distinct[-1] + 1, dtype=np.int64)
    table[distinct] = [tell(chr(code)) for code in distinct.tolist()]
    told: NDArray[np.int64] = table[codes]
    return told


def _attaches(letter: str) -> bool:
    """True if a character may compose with, or be reordered among, those before it."""
    is_vowel_or_final_jamo = "\u1160" <= letter <= "\u11ff"
    return (
        unicodedata.category(letter).startswith("M")
        or is_vowel_or_final_jamo
        or letter in _LETTERS_THAT_ATTACH
    )


def _compose(folded: str, offsets: NDArray[np.int64]) -> tuple[str, NDArray[np.int64]]:
    """NFC, cluster by cluster (a character and the marks after it), so that every character keeps its place."""
    attaches = of_each(folded, _attaches).astype(np.bool_)
    attaches[0] = False
    starts = np.flatnonzero(~attaches)
    sizes = np.diff(np.append(starts, len(folded)))
    places, pieces, done = [], [], 0
    for cluster in np.flatnonzero(sizes > 1).tolist():
        start, end = int(starts[cluster]), int(starts[cluster] + sizes[cluster])
        composed = unicodedata.normalize("NFC", folded[start:end])
        pieces += [folded[done:start], composed]
        places += [offsets[done:start], _composed_places(folded[start:end], offsets[start:end], composed)]
        done = end
    return "".join([*pieces, folded[done:]]), np.concatenate([*places, offsets[done:]])


def _composed_places(cluster: str, places: NDArray[np.int64], composed: str) -> NDArray[np.int64]:
    """Where each character of `composed` begins: each is made of as many letters as it falls apart into."""
    letters = np.repeat(places, [_n_letters(character) for character in cluster])
    firsts = np.cumsum([0, *(_n_letters(character) for character in composed[:-1])])
    return letters[firsts]


def _n_letters(character: str) -> int:
    return len(unicodedata.normalize("NFD", character))

"""A word that has no vector: those that are spelled most alike, found fast in vocabularies of millions."""

import string
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from heapq import nlargest

from kun.errors import NotFound

_LOOKED_AT = 50_000
"""Words, the commonest, that are compared letter by letter."""
_ALIKE = 0.6


def unknown_word(word: str, words: Sequence[str], name: str) -> NotFound:
    """The error for a word without a vector. `words` are those that have one, the commonest first."""
    shown = word if len(word) <= 60 else word[:60] + "…"
    near = nearest_spelled(word, words)
    hint = (
        f"spelled most alike are {', '.join(near)}."
        if near
        else "no word is spelled like it; name other vectors, or go by its pieces (kun vectors near --pieces)."
    )
    return NotFound(f"The vectors {name} have no word {shown!r}: {hint}")


def nearest_spelled(word: str, words: Sequence[str], n: int = 3) -> list[str]:
    """Up to `n` of `words` that are spelled most like `word`: one letter off first, the commonest of them first."""
    word = word.casefold()[:64]
    wanted = set(_one_letter_off(word))
    off_by_one = [found for found in words if found in wanted and found != word][:n]
    if len(off_by_one) == n:
        return off_by_one
    # what it is asked of again and again is the second, which the matcher knows its letters of
    matcher = SequenceMatcher(None, "", word, autojunk=False)
    rated = ((_likeness(matcher, word, other), -row, other) for row, other in enumerate(words[:_LOOKED_AT]))
    best = nlargest(2 * n, (rating for rating in rated if rating[0] >= _ALIKE))
    return list(dict.fromkeys([*off_by_one, *(other for _, _, other in best if other != word)]))[:n]


def _one_letter_off(word: str) -> Iterator[str]:
    """A word with one letter more, less, exchanged or turned round (Norvig's edits)."""
    letters = string.ascii_lowercase if word.isascii() else ""
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        if tail:
            yield head + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        for letter in letters:
            yield head + letter + tail
            if tail:
                yield head + letter + tail[1:]


def _likeness(matcher: SequenceMatcher[str], word: str, other: str) -> float:
    """Twice the share of common letters, from 0 to 1, by a matcher of `word`; 0 for words of much another length."""
    if abs(len(word) - len(other)) > 2 or not set(word) & set(other):
        return 0.0
    matcher.set_seq1(other)
    if matcher.real_quick_ratio() < _ALIKE or matcher.quick_ratio() < _ALIKE:
        return 0.0
    return matcher.ratio()

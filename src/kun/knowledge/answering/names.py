"""Names in a sentence: of the Latin script, of places and firms, of people."""

import re

from kun.text.language import language_of

_ENGLISH_NAME = re.compile(r"(?<![.!?:\n])(?<!^)\s(?P<name>[A-Z][\w'-]*[A-Za-z0-9])", re.MULTILINE)
_LATIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-.][A-Za-z0-9]+)*", re.ASCII)
_COMMON = frozenset(
    "i yes no the a an it this that these those he she they we you in on at for to of".split()
)


def names(sentence: str) -> list[str]:
    """Words that name something: of the Latin script in a Chinese sentence, capitalized ones in an English one."""
    if language_of(sentence) == "zh":
        return [word for word in _LATIN.findall(sentence) if len(word) > 1 and word.lower() not in _COMMON]
    return [
        match["name"] for match in _ENGLISH_NAME.finditer(sentence) if match["name"].lower() not in _COMMON
    ]


def people(sentence: str) -> list[str]:
    """Names of people in Chinese writing, which has no capitals: as the dictionary of words marks them."""
    import rjieba

    return [word for word, kind in rjieba.tag(sentence) if kind.startswith("nr") and len(word) > 1]


def proper_names(sentence: str) -> list[str]:
    """Names of places and firms in Chinese writing, as the dictionary of words marks them."""
    import rjieba

    return [word for word, kind in rjieba.tag(sentence) if str(kind) in ("ns", "nt") and len(word) > 1]

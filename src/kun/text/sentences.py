"""Where sentences end, in Chinese, Japanese and the languages of the Latin script."""

import re

_CLOSERS = "\"'”’」』）)】》〉］]*_"

# Full-width marks end a sentence wherever they stand; the others only before white space, the end, or CJK.
# A heading's line, an underlined one's too, is a sentence of its own, and so is a row of a table.
_END = re.compile(
    r"(?m:^)[ ]{0,3}#{1,6}[ \t][^\n]*(?:\n|\Z)"
    r"|(?m:^)[ ]{0,3}(?:={3,}|-{3,})[ \t]*(?:\n|\Z)"
    rf"|[。！？｡]+[…。！？；]*[{re.escape(_CLOSERS)}]*"
    rf"|…{{2,}}[{re.escape(_CLOSERS)}]*"
    rf"|(?<![.!?…])[.!?…]++[{re.escape(_CLOSERS)}]*(?=\s|\Z|[\u2e80-\u9fff\uf900-\ufaff\uac00-\ud7af])"
    r"|\n(?=[ \t]*(?:\n|#{1,6}[ \t]|[-*+•>|][ \t]|\d{1,3}[.)、][ \t]?|\Z))"
    r"|\n(?=[^\s:;][^\n:;]{0,60}: [^\n;]{0,200}; [^\n:;]{1,60}: )"
    r"|(?<=[\u2e80-\u9fff\uf900-\ufaff：，；、”」』）])\n"
)
_SPACE = re.compile(r"\s*")
_LAST_WORD = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_\u2e80-\u9fff\uf900-\ufaff]+\Z|\d+\Z")
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        """
        mr mrs ms dr prof sr jr st gen col sgt capt rev hon vs etc cf ca al approx e.g i.e u.s u.k a.m p.m
        fig figs eq eqs no vol pp ch sec inc ltd co corp dept est ph.d
        jan feb mar apr jun jul aug sep sept oct nov dec
        """,
    )
)
_LONGEST_ABBREVIATION = 16


def sentences(text: str) -> list[tuple[int, int]]:
    """The spans `[start, end)` of the sentences of `text`: together they cover it, with nothing between them.

    White space belongs to the sentence before it. Takes time in proportion to the length.
    """
    spans, start, end = [], 0, 0
    for match in _END.finditer(text):
        if match.start() < end or not _ends_sentence(text, match):
            continue
        end = _after_space(text, match.end())
        if not text[start:end].isspace():
            spans.append((start, end))
            start = end
    if start < len(text):
        spans = _with_rest(text, spans, start)
    return spans


def _after_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _with_rest(text: str, spans: list[tuple[int, int]], start: int) -> list[tuple[int, int]]:
    """The text after the last mark, as a sentence of its own unless it is only white space."""
    if spans and not text[start:].strip():
        return [*spans[:-1], (spans[-1][0], len(text))]
    return [*spans, (start, len(text))]


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    mark = match.group()
    if not mark.startswith(".") or mark.startswith(".."):
        return not mark.startswith(("..", "…")) or (len(mark) > 1 and not _goes_on(text, match.end()))
    return not _goes_on(text, match.end()) and not _is_abbreviation(text, match.start())


def _goes_on(text: str, place: int) -> bool:
    """True if what follows begins with a small letter."""
    following = text[place : place + 80].lstrip()
    return following[:1].islower()


def _is_abbreviation(text: str, dot: int) -> bool:
    word = _LAST_WORD.search(text, max(0, dot - _LONGEST_ABBREVIATION), dot)
    if word is None:
        return False
    if word.group().isdigit():  # "1. First": the number of a list item, not the end of a sentence
        line_start = text.rfind("\n", 0, dot) + 1
        return not text[line_start : word.start()].strip()
    is_initial = len(word.group()) == 1 and word.group().isupper() and word.group() != "I"
    return is_initial or word.group().casefold() in _ABBREVIATIONS

"""The words of a question that a look-up leaves unexplained: with any of them it may be about something else."""

# ruff: noqa: E501  (lists of words read better whole)

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kun.knowledge.computation.doubts import GENERIC, HAN_GENERIC
from kun.knowledge.computation.matching import latin_words
from kun.knowledge.computation.said import Places, Said
from kun.text.words import STOP_WORDS, stem

_VERBS = frozenset(
    stem(word)
    for word in """
    lie lies lying stand stands kept keep store stored find found locate located sit belong belongs charge charged apply applies valid due need needs require
    required use used allow allowed permitted get receive entitled claim reimbursed reimburse eligible call called known listed list give given show shows shown say
    tell know want like order go stay pay paid weigh measure measures hold holds contain contains begin start end open close does doing currently now please exactly
    off employee staff worker fit fits
    look there here still per maximum most long many much our company's company document documents table according appear appears displayed display mean means
    can could should may might must shall would that this these those get gets one ones who's what's person people someone anyone usually normally set fixed
    """.split()
)
_HAN_PLAIN = re.compile(
    r"东西|寄往|寄到|寄给|发往|送到|上课|举行|举办|召开|包裹|普通|规定|标准|可以|请问|报销|最多|显示|出现|屏幕|情况|需要|应该|属于|对应|一般|具体|存放|位于|放在|哪里|什么|怎么|如何|时候|是否|能够|允许|知道|告诉|我们|你们|他们|一下|目前|现在|这个|那个|这些|"
    r"这种|那种|有关|关于|多久|多长|多大|多重|多高|多宽|意思|回事|办理|处理|谁管|归谁|负责|拿到|得到|每次|一次|能报|能拿|怎样|一种|几天|几个|到底|的话|如果"
)
_HAN_SMALL = frozenset("时会将能到去在给里内每个是有为和与或被把从由当就还才都可能及其")
_CAPITAL = re.compile(
    r"(?<![.?!]\s)(?<!^)\b[A-Z][\w'-]*[a-z0-9][\w'-]*|\b[A-Z]{2,}[A-Z\d-]*\b|\b[A-Z]+-?\d[\w-]*\b"
)
_CALENDAR = re.compile(
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|EUR|USD|CNY|GBP|VAT|I|OK|ID)$"
)
_NAME_KINDS = ("nr", "ns", "nt", "nz")


@dataclass(frozen=True)
class Left:
    """A word without explanation at `[start, end)`; `is_name` for a name or a number, which may choose a row."""

    text: str
    start: int
    end: int
    is_name: bool


def leftovers(said: Said, explained: Places) -> list[Left]:
    """The question's words of meaning that are at no explained place; names next to each other are one."""
    found: list[Left] = []
    for one in _content(said):
        if not explained.isdisjoint(range(one.start, one.end)):
            continue
        before = found[-1] if found else None
        if before and before.is_name and one.is_name and said.text[before.end : one.start] == " ":
            found[-1] = Left(said.text[before.start : one.end], before.start, one.end, True)
        else:
            found.append(one)
    return found


def n_content(said: Said) -> int:
    return sum(1 for _ in _content(said))


def _content(said: Said) -> Iterator[Left]:
    capitals = {match.start(): match for match in _CAPITAL.finditer(said.text)}
    for word in said.words:
        text = said.text[word.start : word.end]
        small = text.lower()
        match = capitals.get(word.start)
        is_name = match is not None and not _CALENDAR.match(match[0])
        if is_name or any(letter.isdigit() for letter in small):
            yield Left(text, word.start, word.end, True)
        elif (
            small not in STOP_WORDS
            and len(word.stem) > 2
            and word.stem not in GENERIC
            and word.stem not in _VERBS
        ):
            yield Left(text, word.start, word.end, False)
    yield from _han(said)


def _han(said: Said) -> Iterator[Left]:
    import rjieba

    for run in re.finditer(r"[\u3400-\u9fff]+", said.plain):
        place = run.start()
        for word, kind in rjieba.tag(run[0]):
            start, place = place, place + len(word)
            bare = _HAN_PLAIN.sub("", HAN_GENERIC.sub("", word))
            if len(bare) >= 2 and not _HAN_SMALL.issuperset(bare):
                yield Left(said.text[start:place], start, place, str(kind).startswith(_NAME_KINDS))


def title_places(said: Said, title: str) -> Places:
    """Where the question has words of a title."""
    found: set[int] = set()
    stems = {
        word.stem for text in (title, re.sub(r"[-_/.]", " ", title)) for word in latin_words(text.lower())
    }
    for word in said.words:
        if word.stem in stems:
            found.update(range(word.start, word.end))
    for run in re.findall(r"[\u3400-\u9fff]+", title):
        found |= said.cover(run).places
    return frozenset(found)

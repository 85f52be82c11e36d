"""The kind of answer that a question wants: money, a count of some thing, one of several numbered things."""

import re
from functools import lru_cache

from kun.knowledge.answering.terms import terms
from kun.text.fold import fold
from kun.text.language import language_of
from kun.text.words import STOP_WORDS, words

_ASKS_MONEY = re.compile(
    r"\bhow (?:much|expensive)\b[^?]{0,60}\b(?:costs?|price|pay|paid|charged?|fees?|rent|worth|is it)\b"
    r"|\bwhat (?:does|do|did|will|would)\b[^?]{0,60}\bcost\b|\bwhat (?:is|was|are) the (?:price|cost|fee|fine|rent)\b"
    r"|多少钱|价格是多少|几块钱|几元|收费多少|怎么收费",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"[€$£¥￥]|\b(?:euros?|eur|yuan|dollars?|pounds?|pence|cents?|rmb|cny|usd|gbp|francs?|yen|free|gratis|price|fees?"
    r"|costs?|charges?|rent|million|billion)\b|元|块钱|美金|英镑|日元|免费|价|费|钱|不收",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(
    r"\bhow many\s+(?P<noun>(?:[a-z][\w'’-]*\s+){0,3}?[a-z][\w'’-]*)"
    r"(?=\s+(?:is|are|was|were|do|does|did|has|have|had|can|could"
    r"|may|must|will|would|should|of|in|on|at|to|from|for|with|may)\b|\s*\?)",
    re.IGNORECASE,
)
_HAN_HOW_MANY = re.compile(
    r"(?:多少|几)(?P<measure>[个块台名位种件套只本张条辆家户颗株头层道项门支份])\s?(?P<noun>[A-Za-z][\w-]*|[\u4e00-\u9fff]{2,3})?"
)
_EVERYDAY = frozenset(
    """people person persons employees staff times days hours minutes weeks months years
    steps parts kinds types things ways pieces items percent degrees euros yuan dollars""".split()
)
_NUMBERED = re.compile(
    r"第?(?P<number>[一二三四五六七八九十]{1,3}|\d{1,3})(?P<noun>号线|号楼|号店|号厅|号机|号门|号仓|期|班|楼|层|车间|组|队|分店|代)"
)
_HAN = {character: str(value) for value, character in enumerate("零一二三四五六七八九十")}


def other_kind(question: str, text: str, around: str) -> str:
    """The fault of `text`, a unit with what leads it, that has not what `question` asks for; "" where it may have.

    `around` is `text` with its neighbours. Only what words tell in one language is looked at.
    """
    if language_of(question) != language_of(text):
        return ""
    if _ASKS_MONEY.search(question) and not _MONEY.search(text):
        return "it is not an amount of money"
    noun = _counted(question)
    if noun and not noun & terms(around):
        return f"no {'/'.join(sorted(noun))} is counted"
    asked = _numbered(question)
    there = _numbered(around)
    for name, value in asked:
        values = {other for same, other in there if same == name}
        if values and value not in values:
            return f"it is another {name}"
    return ""


@lru_cache(maxsize=64)
def _counted(question: str) -> frozenset[str]:
    """The terms of the thing that a question counts, empty where it has many names."""
    if match := _HOW_MANY.search(question):
        said = [word for word in words(match["noun"]) if word not in STOP_WORDS]
        plain = fold(match["noun"]).split()
        return frozenset() if not plain or plain[-1] in _EVERYDAY else frozenset(said[-1:])
    if (match := _HAN_HOW_MANY.search(question)) and match["noun"] and match["noun"].isascii():
        return terms(match["noun"])
    return frozenset()


def _numbered(text: str) -> set[tuple[str, str]]:
    found = _NUMBERED.finditer(text)
    return {(match["noun"], _HAN.get(match["number"], match["number"])) for match in found}

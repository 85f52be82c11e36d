"""Comparisons in a sentence: “better than X” needs a text that compares with X, and in that way."""

import re

from kun.knowledge.answering.terms import terms
from kun.text.fold import fold
from kun.text.language import language_of

_OBJECT = r"(?P<object>[^\s,.;:()][^,.;:()]{0,50}?)"
_OBJECT += r"(?=\s+(?:in|by|on|at|for|when|with|if|since|because|as)\b|[,.;:()]|\s*$)"
_THAN = re.compile(
    r"\b(?P<word>[a-z]+er|more|less|better|worse|fewer|farther|further)\b[^.;,]{0,40}?\bthan\s+" + _OBJECT,
    re.IGNORECASE,
)
_BEATS = re.compile(
    r"\b(?P<word>outperform\w*|surpass\w*|exceed\w*|beat(?:s|en)?|outdo(?:es|ne)?)\s+" + _OBJECT,
    re.IGNORECASE,
)
_BI = re.compile(
    r"比(?!如|较|例|赛|值|重)(?P<object>[^，。；,;的]{1,16}?)(?P<word>更|还|要|略|稍|多|少|高|低|大|小|好|差|快|慢|强|弱|贵|便宜|长|短|重|轻)"
)
_YU = re.compile(
    r"(?P<word>优于|好于|胜过|超过|强于|高于|低于|大于|小于|多于|少于|快于|慢于|不如|不及)(?P<object>[^，。；,;的]{1,16})"
)
_ALIKE = re.compile(
    r"\bas \w+ as\b|\bequally\b|\bthe same (?:\w+ )?as\b|(?:和|与|跟|同)[^，。；]{1,16}?一样|相当|相同",
    re.IGNORECASE,
)
_IS_ALIKE = re.compile(
    r"\bas \w+ as\b|\bequal|\bsame\b|\bcomparable|\bmatch|\bsimilar|\blike\b|\bboth\b|一样|相当|相同|同样|等同|接近|都",
    re.IGNORECASE,
)
_DEGREE = re.compile(
    r"\b(?:more|less|better|worse|fewer|higher|lower|larger|smaller|faster|slower|longer|shorter|cheaper|twice|times"
    r"|outperform\w*|surpass\w*|exceed\w*|beat\w*|than|only|whereas|while|but)\b|比|更|优于|好于|胜过|超过|强于|高于|低于|不如|倍|而|但",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d")
_SUPERLATIVE = re.compile(
    r"\bthe (?:most|least|best|worst|largest|smallest|highest|lowest|first|fastest|slowest|longest|shortest|cheapest"
    r"|biggest|oldest|newest)\b|最(?!后|近|终|多\s?\d|少\s?\d|多|少|迟|晚|早)",
    re.IGNORECASE,
)
_IS_SUPERLATIVE = re.compile(
    r"\b(?:most|least|best|worst|first|top|only|\w+est|record)\b|最|第一|首|冠|唯一", re.IGNORECASE
)


def miscompared(sentence: str, text: str, around: str, question: str) -> str:
    """The fault of a sentence that compares what `text` does not compare so; "" where there is none.

    `around` is `text` with its neighbours; a superlative of the question need not be there.
    """
    theirs = [found for pattern in (_THAN, _BEATS, _BI, _YU) for found in pattern.finditer(text)]
    for found in (found for pattern in (_THAN, _BEATS, _BI, _YU) for found in pattern.finditer(sentence)):
        said = found["object"].strip()
        if _NUMBER.match(said) or re.match(r"[一二三四五六七八九十百千两]", said):
            continue
        objects = [other for other in theirs if not _NUMBER.match(other["object"].strip())]
        if not objects and not _DEGREE.search(text) and len(re.findall(r"\d+", text)) < 2:
            return f"nothing is compared with {said}"
        comparable = language_of(text) == language_of(sentence) or said.isascii()
        if objects and comparable and not any(_shares(said, other["object"]) for other in objects):
            word = fold(found["word"])
            same_way = any(fold(other["word"]) == word for other in objects) or language_of(
                text
            ) != language_of(sentence)
            if same_way or not _shares(sentence[: found.start()], objects[0]["object"]):
                return f"it is not {said} that is compared with"
        if not objects and _is_share(said, text):
            return f"a share of {said}'s is not more"
    if _ALIKE.search(sentence) and not _IS_ALIKE.search(around):
        return "the documents do not call them alike"
    if _SUPERLATIVE.search(sentence) and not _IS_SUPERLATIVE.search(f"{around} {question}"):
        return "no superlative is there"
    return ""


def _is_share(said: str, text: str) -> bool:
    """True where a text gives a share of a thing, such as 90 % of its quality or 对照模型 85% 的得分."""
    text, name = fold(text), re.escape(fold(said))
    share = r"\d+(?:\.\d+)?\s*(?:%|percent|per cent)"
    return bool(
        re.search(rf"{share}\s+of\s+(?:the\s+)?{name}", text)
        or re.search(rf"{name}[^，。,.]{{0,8}}?(?:{share}\s*的|的[^，。,.]{{0,8}}?{share})", text)
    )


def _shares(one: str, other: str) -> bool:
    return bool(terms(one) & terms(other)) or fold(one) in fold(other) or fold(other) in fold(one)

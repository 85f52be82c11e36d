"""The form of a question, from its words: yes or no, several parts, a comparison, a condition, how often, or how.

A small model answers the part of a question that it finds first. The form gives the request that makes it answer all
of them, the further searches without which one side has no evidence, and the checks that an answer of that form needs.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kun.knowledge.answering.identifiers import identifiers
from kun.text.language import language_of
from kun.text.words import STOP_WORDS, words

Form = Literal["yes_no", "comparison", "parts", "how", "plain"]

_YES_NO = re.compile(
    r"^\s*(?:so |and |but |then )?(?:is|are|was|were|do|does|did|can|could|may|must|should|shall|will|would|has|have"
    r"|had|am|isn['’]t|aren['’]t|don['’]t|doesn['’]t|can['’]t|won['’]t)\s(?!.*\bor\b).*"
    r"|.*,\s*(?:right|correct|true|(?:is|are|was|do|does|can|may|must|will|has)(?:n['’]t)? (?:it|they|he|she|we|you"
    r"|i|there)(?: not)?)\s*[?？]*\s*$"
    r"|.*(?:吗|么|吧|嗎|对不对|是不是|是吧|对吧)\s*[?？。]*\s*$"
    r"|.*(?:是否|是不是|能不能|可不可以|可以不可以|会不会|要不要|有没有|需不需要|能否|可否).*",
    re.IGNORECASE | re.DOTALL,
)
_OPEN = re.compile(
    r"什么|怎么|怎样|如何|多少|多久|多长|多大|多高|多重|哪|谁|几(?!乎)|何时|为什么|为何"
    r"|\b(?:what|which|when|where|who|whom|whose|why|how)\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(r"^(?!.*(?:知道|告诉|请问|清楚)).*(?:吧|吗|嗎)\s*[?？。]*\s*$", re.DOTALL)
"""A question about a thing that is taken for granted may name it with 什么 or 哪些."""
_BETWEEN = re.compile(
    r"\b(?:differences? between|compare|comparing|distinguish(?:es)?)"
    r"\s+(?P<a>[^?,]+?)\s+(?:and|with|to|from)\s+(?P<b>[^?,]+?)(?=[?,.]|\s+(?:in|when|for|as)\b|\s*$)"
    r"|\bhow (?:do|does|did|are|is)\s+(?P<c>[^?]+?)\s+(?:and|from)\s+(?P<d>[^?]+?)\s+(?:differ|different|compare)\b"
    r"|\bhow (?:does|do|is|are)\s+(?P<e>[^?]+?)\s+(?:differ(?:ent)?|compared?)"
    r"\s+(?:from|with|to)\s+(?P<f>[^?]+?)\s*[?.]*$",
    re.IGNORECASE,
)
_ZH_BETWEEN = re.compile(
    r"(?P<a>[^，,。？?和与跟：:；;]{1,24})\s*(?:和|与|跟)\s*(?P<b>[^，,。？?]{1,24}?)"
    r"(?:之间|相比|比较|比起来)?(?:的[^，。？?]{1,10}?)?"
    r"(?:有(?:什么|何|哪些|啥)|在哪里?|是什么|哪里)(?:区别|不同|不一样|差别|差异|异同)(?:之处)?(?=[，,。？?]|\s*$)"
)
_HOW = re.compile(
    r"^\s*(?:(?:and|so|but) )?how (?:do|does|did|is|are|was|were|can|could|should|would|to)\b|\bwhy\b|\bexplain\b"
    r"|怎么(?!办)|怎样|如何|为什么|为何|原理|过程",
    re.IGNORECASE,
)
_PART = re.compile(
    r",?\s+and\s+(?=(?:(?:by|in|to|from|for|at|on|until|since|under|with|of)\s+)?(?:what|which|when|where|who|whom|whose|why|how)\b)"
    r"|[，,；;、]|(?<=[?？])\s*(?=\S)",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"\b(?:under what (?:condition|circumstance)|in what case|when (?:do|does|can|may|must|will|should|is|are) "
    r"|from when|which \w+ (?:cannot|can['’]t|may not|must not|can|may|must)\b"
    r"|who (?:may|can|must|cannot|loses?|gets?))"
    r"|什么情况|什么条件|何种情况|满足什么|什么时候(?:才)?(?:可以|能|要|会|必须)|(?:哪些|哪种|谁)[^，。？]{0,8}(?:不能|不可|不得|可以|能)",
    re.IGNORECASE,
)
_OFTEN = re.compile(
    r"\bhow (?:often|frequently)\b|多久[^，。？]{0,6}(?:一次|次|遍)|多长时间[^，。？]{0,6}(?:一次|次)"
    r"|几[天周月年个小时]+[^，。？]{0,6}(?:一次|一遍)",
    re.IGNORECASE,
)
_OF_CONDITION = re.compile(
    r"\b(?:if|when|whenever|unless|only|until|provided|before|after|than|without|once|except|as long as|who|whoever)\b"
    r"|如果|若|凡|只有|只|才|除非|以前|以后|以内|之前|之后|以上|以下|超过|不足|低于|高于|满|时|须|应当|必须|不得|不能",
    re.IGNORECASE,
)
_OF_FREQUENCY = re.compile(
    r"\b(?:every|each|once|twice|per|daily|weekly|monthly|yearly|annually|times)\b|每|一次|两次|次",
    re.IGNORECASE,
)
_FEWEST = 2
"""Words that say something which a search needs."""


@dataclass(frozen=True)
class Asking:
    """The form of a question; `sides` are what it compares, `parts` what it asks one after the other."""

    form: Form
    sides: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    wants_condition: bool = False
    wants_frequency: bool = False

    def fits(self, text: str) -> bool:
        """True for a text that may hold the condition or the frequency that is asked for; for others always."""
        if self.wants_frequency:
            return bool(_OF_FREQUENCY.search(text))
        return not self.wants_condition or bool(_OF_CONDITION.search(text))


@lru_cache(maxsize=256)
def asking(question: str) -> Asking:
    """The form of `question`."""
    condition, often = bool(_CONDITION.search(question)), bool(_OFTEN.search(question))
    sides = _sides(question)
    if len(sides) > 1:
        return Asking("comparison", sides)
    parts = _parts(question)
    if len(parts) > 1:
        return Asking("parts", parts=parts, wants_condition=False, wants_frequency=False)
    if _YES_NO.fullmatch(question) and (not _OPEN.search(question) or _SUPPOSED.search(question)):
        return Asking("yes_no")
    if _HOW.search(question) and not often:
        return Asking("how")
    return Asking("plain", wants_condition=condition, wants_frequency=often)


def further_searches(question: str) -> list[str]:
    """Searches beside that for the question itself: one for each side of a comparison, and one without its names.

    A name that many rows of a table have finds those rows and nothing of what is asked about it.
    """
    form = asking(question)
    if form.sides:
        return [_without(question, [other for other in form.sides if other not in one]) for one in form.sides]
    named = identifiers(question)
    if not named:
        return []
    rest = _without(question, named)
    telling = [word for word in words(rest) if word not in STOP_WORDS]
    return [rest] if len(telling) >= _FEWEST else []


def _without(question: str, names: Iterable[str]) -> str:
    for one in names:
        question = question.replace(one, " ")
    return " ".join(question.split())


def request(question: str, told_answer: str) -> str:
    """What a model is asked to write: `told_answer`, and what the form of the question needs besides."""
    form = asking(question)
    hints = _CHINESE if language_of(question) == "zh" else _ENGLISH
    between = "、" if hints is _CHINESE else ", "
    hint = hints.get(form.form, "").format(sides=between.join(form.sides))
    return f"{told_answer}{'' if hints is _CHINESE or not hint else ' '}{hint}"


_ENGLISH = {
    "yes_no": (
        "Begin with “Yes” or “No”, as the documents have it, and say in the same sentence what they say about it."
    ),
    "comparison": "Say for each of them ({sides}) in a sentence of its own what it is or does, with its numbers.",
    "parts": "Answer every part of the question.",
}
_CHINESE = {
    "yes_no": "先按文档回答“是”或“不”，再说明文档里是怎么规定的。",
    "comparison": "请对{sides}各用一句话分别说明。",
    "parts": "问题的每一部分都要回答。",
}


def _sides(question: str) -> tuple[str, ...]:
    if language_of(question) == "zh":
        match = _ZH_BETWEEN.search(question)
        found = [*match["a"].split("、"), match["b"]] if match else []
    else:
        match = _BETWEEN.search(question)
        groups = [one for one in match.groups() if one] if match else []
        found = [part for one in groups for part in re.split(r",\s*(?:and\s+)?", one)]
    sides = [re.sub(r"^(?:(?:the|a|an|both)\s+|请问|那么?)", "", one.strip(" “”\"'")) for one in found]
    return tuple(dict.fromkeys(one for one in sides if one))


def _parts(question: str) -> tuple[str, ...]:
    """The parts of a question that each ask something."""
    parts = [part.strip() for part in _PART.split(question) if part and part.strip()]
    asked = [part for part in parts if _OPEN.search(part)]
    return tuple(asked) if len(asked) > 1 else ()

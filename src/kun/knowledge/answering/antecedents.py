"""The thing that a pronoun of a follow-up stands for, taken from the question before and its answer."""

import re

from kun.text.language import language_of
from kun.text.words import STOP_WORDS, words

_PRONOUN = re.compile(r"\b(?P<its>its|their|his)\b|\b(?P<it>it|they|them|he|him|she|her)\b", re.IGNORECASE)
_HAN_PRONOUN = re.compile(r"[它他她](?:们)?")
_EMPTY_IT = re.compile(
    r"\b(?:is|was|does|will|would|did)\s+it\s+(?:rain|snow|take|cost|matter|possible|necessary|allowed|true|late|better|best"
    r"|safe|enough|that|not)\b|\bis it (?:not)?\s*[?？]|,\s*\w+ it\s*[?？]?$",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"^\s*(?:有|是)?(?:多重|多大|多长|多高|多宽|多快|多少钱|多久|什么时候|在哪里?|在哪儿|是谁)[^，。]{0,4}[?？]*\s*$"
)
_ASKS_WHICH = re.compile(r"哪(?!怕)|谁|\b(?:which|who|whose)\b", re.IGNORECASE)
_NAME = re.compile(
    r"(?:(?:Mr|Mrs|Ms|Dr|Prof)\. )?[A-Z][\w'’-]*(?:[ -](?:[A-Z][\w-]*|\d[\w.-]*))*|[A-Za-z]+[-_]?\d[\w.-]*",
    re.ASCII,
)
_ARTICLE = re.compile(
    r"^(?:the|a|an|each|every|all|our|your|my|this|that|these|those|yes|no|any|some)\b[ ,]*", re.IGNORECASE
)
_VERB = re.compile(
    r"\s(?:is|are|was|were|may|can|could|must|should|shall|will|would|has|have|had|does|do|did|holds?|costs?|needs?|takes?"
    r"|runs?|begins?|starts?|ends?|makes?|weighs?|lasts?|cannot|can't|goes|gets?|keeps?|reach(?:es)?|reads?|works?|opens?"
    r"|leads?|meets?|said|says|stands?|lies|lives?)\b",
    re.IGNORECASE,
)
_LONGEST = 5
"""Words of a subject."""
_NEAR_BEGIN = 12
"""Characters before the name that an answer gives, at most: a later one may be any name."""


def with_antecedent(question: str, before: str, answer: str) -> str:
    """`question` with its pronoun replaced by what the last question or its answer was about; "" where that is open."""
    if not answer or _EMPTY_IT.search(question):
        return ""
    is_chinese = language_of(question) == "zh"
    pronoun = (_HAN_PRONOUN if is_chinese else _PRONOUN).search(question)
    bare = is_chinese and bool(_BARE.match(question))
    if not pronoun and not bare:
        return ""
    thing = _thing(before, answer, is_chinese)
    if not thing:
        return ""
    if not pronoun:
        return f"{thing} {question.strip()}"
    possessive = not is_chinese and pronoun["its"]
    put = f"{thing}'s" if possessive else thing
    put = f"{put} " if is_chinese and put[-1].isascii() else put
    return f"{question[: pronoun.start()]}{put}{question[pronoun.end() :]}".strip()


def _thing(before: str, answer: str, is_chinese: bool) -> str:
    asked, said = _names(before), _names(answer)
    new = [one for one in said if one.casefold() not in before.casefold()]
    if new and _ASKS_WHICH.search(before) and answer.casefold().find(new[0].casefold()) <= _NEAR_BEGIN:
        return new[0]
    subject = _han_subject(answer) if is_chinese else _subject(answer)
    if subject and any(subject.casefold() == one.casefold() for one in (*asked, *said)):
        return subject
    if len(asked) == 1:
        return asked[0]
    shared = {word for word in words(before) if word not in STOP_WORDS} & set(words(subject))
    return subject if subject and (shared or subject in before) else ""


def _names(text: str) -> list[str]:
    """Names of the Latin script: with a number, an inner capital, or not at the beginning of a sentence."""
    found = []
    for match in _NAME.finditer(text):
        name = _ARTICLE.sub("", match.group()).strip()
        begins = (
            not text[: match.start()].rstrip(" \n") or text[: match.start()].rstrip()[-1] in '.!?。！？“"'
        )
        plain = name[1:].islower() and " " not in name
        if len(name) > 1 and not (begins and plain and text.isascii()) and not _ARTICLE.fullmatch(name):
            found.append(name)
    return list(dict.fromkeys(found))


def _subject(answer: str) -> str:
    """The words before the first verb of an English answer, without their article."""
    verb = _VERB.search(answer)
    if verb is None:
        return ""
    subject = _ARTICLE.sub("", answer[: verb.start()].strip())
    is_short = 0 < len(subject.split()) <= _LONGEST and not re.search(r"[,.;:]", subject)
    return subject if is_short and not _PRONOUN.search(subject) else ""


def _han_subject(answer: str) -> str:
    """The nouns and names that a Chinese answer begins with."""
    import rjieba

    subject = ""
    for word, kind in rjieba.tag(answer):
        if (
            not str(kind).startswith(("n", "eng", "m", "x", "b", "s", "j", "vn", "uj"))
            or word in "，。；：、"
        ):
            break
        subject += word
    return subject.strip().removesuffix("的").removesuffix("每")
